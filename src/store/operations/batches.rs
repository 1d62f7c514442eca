//! Batches: records what happened to them, and an operator's commands.

use jiff::Timestamp;

use crate::domain::{BatchKey, BatchState, Event, JobId};
use crate::store::batch_changes::{BatchSplit, ImportKey, QueryFailure, RecordedQueryFailure, ReportSizes};
use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::models::Job;
use crate::store::shared_import::{DividedReports, PackedRows, SharedImport, SharingEnd, UploadBegin};
use crate::store::tables::commands::{CommandOutcome, JobCommand};

impl Store {
    /// Records an event of a batch and returns the batch's new state. The batch, the history, the job's state and the
    /// instance's state change in one transaction. `request_id` is Marketo's, where a response caused the event.
    ///
    /// # Errors
    /// [`StoreError::Illegal`] where the state machine has no such transition; nothing is changed then.
    pub async fn record_event(
        &self,
        key: BatchKey,
        event: Event,
        request_id: Option<String>,
        now: Timestamp,
    ) -> Result<BatchState, StoreError> {
        self.write("record_event", move |tx| Box::pin(tx.record_event(key, event, request_id, now))).await
    }

    /// Records an event of an import, as [`Store::record_event`] does, if it is still that of its batch.
    ///
    /// # Errors
    /// [`StoreError::NoBatch`] if the batch no longer has the import: it was abandoned, and may have been sent again
    /// since. [`StoreError::Illegal`] as of [`Store::record_event`]. Nothing is changed then.
    pub async fn record_import_event(
        &self,
        import: ImportKey,
        event: Event,
        request_id: Option<String>,
        now: Timestamp,
    ) -> Result<BatchState, StoreError> {
        let write = self.write("record_import_event", move |tx| {
            Box::pin(async move {
                tx.check_import(&import).await?;
                tx.record_event(import.batch, event, request_id, now).await
            })
        });
        write.await
    }

    /// Records that the upload of a pending batch begins, with the rows of pending jobs that go with it: those of the
    /// same shape, by priority and age. Returns the rows of all of them, this batch first; none where it goes alone.
    ///
    /// # Errors
    /// [`StoreError::Illegal`] if the batch is not pending, [`StoreError::Refused`] if its instance is paused; nothing is
    /// changed then.
    pub async fn begin_upload(&self, begin: UploadBegin) -> Result<Vec<PackedRows>, StoreError> {
        self.write("begin_upload", move |tx| Box::pin(tx.begin_upload(begin))).await
    }

    /// Records that a shared import is sent again in other imports, and how the jobs may share those.
    ///
    /// # Errors
    /// [`StoreError::NoBatch`] if the batch shares no import, [`StoreError::Illegal`] where the state machine does not
    /// have the event; nothing is changed then.
    pub async fn end_sharing(&self, key: BatchKey, end: SharingEnd, now: Timestamp) -> Result<(), StoreError> {
        self.write("end_sharing", move |tx| Box::pin(tx.end_sharing(key, end, now))).await
    }

    /// Records that an import is sent again in other imports, as [`Store::end_sharing`] does, if it is still that of
    /// its batch.
    ///
    /// # Errors
    /// As of [`Store::record_import_event`].
    pub async fn end_sharing_of(&self, import: ImportKey, end: SharingEnd, now: Timestamp) -> Result<(), StoreError> {
        let write = self.write("end_sharing_of", move |tx| {
            Box::pin(async move {
                tx.check_import(&import).await?;
                tx.end_sharing(import.batch, end, now).await
            })
        });
        write.await
    }

    /// Returns Marketo's counts of the import that a batch shares, and the rows that were sent; none where the batch
    /// shares none.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn shared_import(&self, key: BatchKey) -> Result<Option<SharedImport>, StoreError> {
        let mut conn = self.read_transaction().await?;
        ReadTx::new(&mut conn).shared_import(key).await
    }

    /// Stores for each job its part of the reports of the import that they share, and completes their batches.
    ///
    /// # Errors
    /// [`StoreError::NoBatch`] if the batch shares no import, [`StoreError::Full`], or another error of writing the
    /// database.
    pub async fn complete_shared_import(
        &self,
        key: BatchKey,
        divided: Vec<DividedReports>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write("complete_shared_import", move |tx| Box::pin(tx.complete_shared_import(key, divided, now))).await
    }

    /// Records that a query about an import (its status, its reports) failed or was rejected. The batch's state stays.
    /// A reason that the last history entry has already gets no new entry.
    ///
    /// # Errors
    /// [`StoreError::NoBatch`] where the batch no longer has this import, or it has ended.
    pub async fn record_query_failure(
        &self,
        import: ImportKey,
        failure: QueryFailure,
        now: Timestamp,
    ) -> Result<RecordedQueryFailure, StoreError> {
        let write = self.write("record_query_failure", move |tx| {
            Box::pin(async move {
                tx.check_import(&import).await?;
                tx.record_query_failure(import.batch, failure, now).await
            })
        });
        write.await
    }

    /// Splits a batch that Marketo found too large (413): it keeps the first half, and the second becomes a new batch
    /// of the same job, with the next free number.
    ///
    /// # Errors
    /// [`StoreError::Illegal`] if the batch is not being uploaded.
    pub async fn split_batch(&self, key: BatchKey, split: BatchSplit, now: Timestamp) -> Result<(), StoreError> {
        self.write("split_batch", move |tx| Box::pin(tx.split_batch(key, split, now))).await
    }

    /// Stores the sizes of a batch's stored failure and warning files, and the matches of their rows.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn set_report_sizes(&self, key: BatchKey, sizes: ReportSizes, now: Timestamp) -> Result<(), StoreError> {
        self.write("set_report_sizes", move |tx| Box::pin(tx.set_report_sizes(key, sizes, now))).await
    }

    /// Cancels the batches that Marketo does not have yet. The others run to their end, since an import can't be
    /// undone.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if there is nothing to cancel.
    pub async fn cancel(&self, id: JobId, now: Timestamp) -> Result<CommandOutcome, StoreError> {
        self.write("cancel", move |tx| Box::pin(tx.run_command(id, JobCommand::Cancel, now))).await
    }

    /// Cancels like [`Store::cancel`], and abandons overdue imports. Each of these occupies a slot for as long as it
    /// may be on Marketo.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if there is nothing to cancel and nothing to abandon.
    pub async fn abandon(&self, id: JobId, now: Timestamp) -> Result<CommandOutcome, StoreError> {
        self.write("abandon", move |tx| Box::pin(tx.run_command(id, JobCommand::Abandon, now))).await
    }

    /// Requeues the batches that failed, were cancelled or are held. Complete ones stay complete.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if there is nothing to send, [`StoreError::Erased`] if the content has been erased.
    pub async fn retry(&self, id: JobId, now: Timestamp) -> Result<CommandOutcome, StoreError> {
        self.write("retry", move |tx| Box::pin(tx.run_command(id, JobCommand::Retry, now))).await
    }

    /// Returns the job of a held batch, if the import with this id may be that of the batch.
    ///
    /// # Errors
    /// As of [`Store::settle`].
    pub async fn check_settle(&self, key: BatchKey, marketo_batch_id: &str) -> Result<Job, StoreError> {
        let mut conn = self.reader().await?;
        ReadTx::new(&mut conn).check_settle(key, marketo_batch_id).await
    }

    /// Records the import that an operator found on Marketo for a held batch. It is polled to its end from now on.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the batch is not held, or the import belongs to another batch.
    pub async fn settle(&self, key: BatchKey, marketo_batch_id: String, now: Timestamp) -> Result<(), StoreError> {
        self.write("settle", move |tx| Box::pin(tx.settle(key, marketo_batch_id, now))).await
    }
}
