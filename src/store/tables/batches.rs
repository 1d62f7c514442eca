//! Table `batch`: reads and writes the progress of a batch, splits it, and stores the sizes of its reports.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::domain::batch::BatchProgress;
use crate::domain::{BatchKey, BatchState, Event, JobId};
use crate::store::batch_changes::{BatchSplit, ImportKey, ReportSizes};
use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;
use crate::store::tables::batch_columns::{progress_columns, progress_values};
use crate::store::tables::history::NewHistoryEntry;

/// A batch as it is before an event.
pub(crate) struct BatchBefore {
    pub key: BatchKey,
    pub progress: BatchProgress,
}

impl ReadTx<'_> {
    /// Returns the progress of a batch.
    pub(crate) async fn batch_progress(&mut self, key: BatchKey) -> Result<BatchProgress, StoreError> {
        sqlx::query_as(concat!("SELECT ", progress_columns!(), " FROM batch WHERE job_id = ? AND part = ?"))
            .bind(key.job.0)
            .bind(key.part)
            .fetch_optional(&mut *self.conn)
            .await?
            .ok_or(StoreError::NoBatch(key))
    }

    /// Checks that a batch has this import.
    ///
    /// # Errors
    /// [`StoreError::NoBatch`] if it has none, or another one.
    pub(crate) async fn check_import(&mut self, import: &ImportKey) -> Result<(), StoreError> {
        let ImportKey { batch: key, marketo_batch_id } = import;
        let has_import: Option<bool> =
            sqlx::query_scalar("SELECT marketo_batch_id IS ? FROM batch WHERE job_id = ? AND part = ?")
                .bind(marketo_batch_id)
                .bind(key.job.0)
                .bind(key.part)
                .fetch_optional(&mut *self.conn)
                .await?;
        if has_import == Some(true) { Ok(()) } else { Err(StoreError::NoBatch(*key)) }
    }

    /// Returns the progress of the batches that share an import, in the order of their jobs.
    pub(crate) async fn progress_of_sharing(&mut self, id: i64) -> Result<Vec<BatchBefore>, StoreError> {
        let sql = concat!(
            "SELECT job_id, part, ",
            progress_columns!(),
            " FROM batch WHERE shared_import = ? ORDER BY job_id"
        );
        let rows = sqlx::query(sql).bind(id).fetch_all(&mut *self.conn).await?;
        let before = |row: &SqliteRow| {
            let key = BatchKey { job: JobId(row.try_get("job_id")?), part: row.try_get("part")? };
            Ok(BatchBefore { key, progress: BatchProgress::from_row(row)? })
        };
        rows.iter().map(before).collect()
    }

    /// Returns how many rows of a batch are sent.
    pub(crate) async fn rows_sent(&mut self, key: BatchKey) -> Result<u64, StoreError> {
        let rows: i64 = sqlx::query_scalar("SELECT rows FROM batch WHERE job_id = ? AND part = ?")
            .bind(key.job.0)
            .bind(key.part)
            .fetch_one(&mut *self.conn)
            .await?;
        Ok(rows.cast_unsigned())
    }
}

impl StoreTx<'_> {
    /// Writes the progress of a batch.
    pub(crate) async fn save_progress(&mut self, key: BatchKey, batch: &BatchProgress) -> Result<(), StoreError> {
        progress_values(batch)
            .update("batch", "WHERE job_id = ? AND part = ?")
            .bind(key.job.0)
            .bind(key.part)
            .execute(&mut *self.conn)
            .await?;
        Ok(())
    }

    /// Stores the number of the last upload of the batches that share an import.
    pub(crate) async fn set_last_upload_of_sharing(&mut self, id: i64, upload: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE batch SET last_upload = ? WHERE shared_import = ?")
            .bind(upload.cast_signed())
            .bind(id)
            .execute(&mut *self.conn)
            .await?;
        Ok(())
    }

    /// Splits a batch that is being uploaded: it keeps the first half, and the second becomes a new batch with the next
    /// free number.
    pub(crate) async fn split_batch(
        &mut self,
        key: BatchKey,
        split: BatchSplit,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let BatchSplit { halves: [first, second], reason, request_id } = split;
        let event = Event::Split { reason };
        self.apply_event(key, &event, request_id.as_deref(), now).await?;
        sqlx::query("UPDATE batch SET byte_from = ?, byte_to = ?, rows = ? WHERE job_id = ? AND part = ?")
            .bind(first.from.cast_signed())
            .bind(first.to.cast_signed())
            .bind(first.rows.cast_signed())
            .bind(key.job.0)
            .bind(key.part)
            .execute(&mut *self.conn)
            .await?;
        let last: u32 = sqlx::query_scalar("SELECT max(part) FROM batch WHERE job_id = ?")
            .bind(key.job.0)
            .fetch_one(&mut *self.conn)
            .await?;
        let second_key = BatchKey { part: last + 1, ..key };
        self.insert_batch(second_key, &second).await?;
        // Only a job of one batch shares imports.
        self.end_packing(key.job).await?;
        // A job that is stopped uploads neither half.
        self.apply_batch_rules(second_key, &event, BatchState::Pending, now).await
    }

    /// Stores the sizes of a batch's reports, and the matches of their rows.
    pub(crate) async fn set_report_sizes(
        &mut self,
        key: BatchKey,
        sizes: ReportSizes,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE batch SET failures_bytes = ?, warnings_bytes = ? WHERE job_id = ? AND part = ?")
            .bind(sizes.failures.map(u64::cast_signed))
            .bind(sizes.warnings.map(u64::cast_signed))
            .bind(key.job.0)
            .bind(key.part)
            .execute(&mut *self.conn)
            .await?;
        self.replace_row_matches(key, sizes.matches).await?;
        for truncation in &sizes.truncations {
            let entry = NewHistoryEntry::of_batch(key, now, "report-cut", BatchState::Collecting);
            self.insert_history(NewHistoryEntry { message: Some(truncation), ..entry }).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::store::new_job::PartRange;
    use crate::store::test_util::{add, leads, store};

    #[tokio::test]
    async fn a_split_batch_becomes_two_and_costs_no_attempt() {
        let store = store().await;
        let id = add(&store, leads(), 3).await;
        let key = BatchKey { job: id, part: 2 };
        let whole = store.batch(key).await.unwrap().1;
        let middle = whole.byte_from + 3;
        let part = |from, to| PartRange { from, to, rows: 1, first_line: None };
        let halves = [part(whole.byte_from, middle), part(middle, whole.byte_to)];
        let split = BatchSplit { halves, reason: "413".into(), request_id: None };
        assert!(store.split_batch(key, split.clone(), from_ms(1)).await.is_err(), "it is not uploading");
        store.record_event(key, Event::UploadBegan, None, from_ms(1)).await.unwrap();
        store.split_batch(key, split, from_ms(2)).await.unwrap();
        let job = store.job(id).await.unwrap();
        let spans: Vec<_> = job.batches.iter().map(|batch| (batch.part, batch.byte_from, batch.byte_to)).collect();
        let (first, last) = (&job.batches[0], &job.batches[3]);
        assert_eq!(
            spans,
            [
                (1, first.byte_from, whole.byte_from),
                (2, whole.byte_from, middle),
                (4, middle, whole.byte_to),
                (3, whole.byte_to, last.byte_to)
            ]
        );
        assert_eq!((job.batches[1].state, job.batches[1].attempts), (BatchState::Pending, 0));
    }
}
