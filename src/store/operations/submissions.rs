//! Submissions: from a received file to a job.

use jiff::Timestamp;

use crate::domain::{BatchKey, JobId, ReportKind};
use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::new_job::{Inserted, JobLayout, NewJob};
use crate::store::tables::chunks::{Chunk, CompressedChunk, StoredFile};
use crate::store::tables::complete_files::CompleteFile;

impl Store {
    /// Adds a job of a file that is a single chunk, in one transaction, which it may share with others. On return the
    /// job is on the disk.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`] where the idempotency key belongs to another job, or [`StoreError::Full`].
    pub async fn add(
        &self,
        new: NewJob,
        layout: JobLayout,
        chunk: CompressedChunk,
        now: Timestamp,
    ) -> Result<Inserted, StoreError> {
        let file = CompleteFile { new, layout, chunk, now };
        self.shared.complete_files.write(&self.shared.writer, file).await
    }

    /// Begins the submission of a file in several chunks. Until [`Store::commit_submission`] it is no job.
    ///
    /// # Errors
    /// [`StoreError::Full`], or another error of writing the database.
    pub async fn begin_submission(&self, new: NewJob, now: Timestamp) -> Result<JobId, StoreError> {
        self.write("begin_submission", move |tx| Box::pin(tx.begin_submission(new, now))).await
    }

    /// Stores chunks of a submission in one statement. The caller has to bound their number: all other writes wait for
    /// the statement.
    ///
    /// # Errors
    /// [`StoreError::Full`], or another error of writing the database. Then none of them is stored.
    pub async fn insert_chunks(&self, job: JobId, chunks: Vec<CompressedChunk>) -> Result<(), StoreError> {
        let file = StoredFile::submitted(job);
        self.write("insert_chunks", move |tx| Box::pin(tx.insert_file_chunks(file, chunks))).await
    }

    /// Turns the received chunks into a job, unless its idempotency key belongs to an earlier job. Then the caller has
    /// to call [`Store::abort_submission`].
    ///
    /// # Errors
    /// As [`Store::add`]; the caller has to abort the submission then too.
    pub async fn commit_submission(
        &self,
        id: JobId,
        new: NewJob,
        layout: JobLayout,
        now: Timestamp,
    ) -> Result<Inserted, StoreError> {
        self.write("commit_submission", move |tx| Box::pin(tx.commit_submission(id, new, layout, now))).await
    }

    /// Deletes what was received of a file that was rejected or interrupted. A complete job is not changed. Each
    /// transaction deletes a few chunks, so that a large file does not block the writer. The content stays in the WAL
    /// until [`Store::truncate_wal`].
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn abort_submission(&self, id: JobId) -> Result<(), StoreError> {
        while self.write("abort_submission", move |tx| Box::pin(tx.abort_submission(id))).await? {}
        self.shared.submission_aborted.notify_one();
        Ok(())
    }

    /// Returns when an incomplete submission has been deleted since the last call returned.
    pub async fn wait_for_incomplete_submissions(&self) {
        self.shared.submission_aborted.notified().await;
    }

    /// Deletes incomplete submissions of an earlier process. None of them was acknowledged.
    pub(crate) async fn erase_incomplete_submissions(&self) -> Result<(), StoreError> {
        let mut conn = self.reader().await?;
        let left = ReadTx::new(&mut conn).incomplete_submissions().await?;
        drop(conn);
        for id in left {
            self.abort_submission(id).await?;
        }
        Ok(())
    }

    /// Stores a chunk of a batch's failure or warning file that is being downloaded.
    ///
    /// # Errors
    /// [`StoreError::Full`], or another error of writing the database.
    pub async fn insert_report_chunk(
        &self,
        key: BatchKey,
        kind: ReportKind,
        chunk: CompressedChunk,
    ) -> Result<(), StoreError> {
        self.write("insert_report_chunk", move |tx| Box::pin(tx.insert_chunk(StoredFile::report(key, kind), chunk)))
            .await
    }

    /// Deletes what was downloaded of a batch's report: an interrupted download begins again.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn delete_report(&self, key: BatchKey, kind: ReportKind) -> Result<(), StoreError> {
        self.write("delete_report", move |tx| Box::pin(tx.delete_file(StoredFile::report(key, kind)))).await
    }

    /// Returns the last chunk of a file that begins at or before byte `at`; none where there is none.
    pub(crate) async fn chunk_at(&self, file: StoredFile, at: u64) -> Result<Option<Chunk>, StoreError> {
        let mut conn = self.reader().await?;
        ReadTx::new(&mut conn).chunk_at(file, at).await
    }
}
