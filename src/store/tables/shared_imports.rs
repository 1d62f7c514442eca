//! Shared imports: jobs of one shape whose rows go to Marketo in one upload.
//!
//! The batches that share an import have the same state: an event of the import is recorded for all of them in one
//! transaction. A batch that leaves, because it has ended or is sent again, no longer shares it.

use std::collections::HashSet;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use crate::domain::row_counts::RowCounts;
use crate::domain::{BatchKey, BatchState, Counts, Event, JobId};
use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;
use crate::store::events::MetricEvent;
use crate::store::shared_import::{
    DividedFile, DividedReports, PackedRows, SharedImport, SharingEnd, SharingLimit, UploadBegin,
};
use crate::store::tables::chunks::{ROWS_IN_STATEMENT, StoredFile};
use crate::store::tables::history::NewHistoryEntry;
use crate::store::tables::row_mapping::{optional_size_column, size_column};

/// A shared import of a batch.
pub(crate) struct SharedImportRef {
    /// Its number in the database.
    pub id: i64,
    /// How many batches it was made of.
    pub batches: u32,
    /// How many batches still share it.
    pub sharing: u32,
}

impl StoreTx<'_> {
    /// Records that the upload of a pending batch begins, with the rows of the pending batches that go with it. Returns
    /// the rows of all of them, this batch first; none where it goes alone.
    pub(crate) async fn begin_upload(&mut self, begin: UploadBegin) -> Result<Vec<PackedRows>, StoreError> {
        let UploadBegin { key, limits, now } = begin;
        // The pause may have come after the caller read the instance. No upload begins after a pause was confirmed.
        let instance = self.instance_of(key.job).await?;
        if self.instance(&instance).await?.pause.is_some() {
            return Err(StoreError::Refused(format!("instance {instance} is paused")));
        }
        let packed = self.packed_with(key, limits, now).await?;
        if packed.len() > 1 {
            self.insert_shared_import(&packed).await?;
        }
        self.apply_event(key, &Event::UploadBegan, None, now).await?;
        Ok(if packed.len() > 1 { packed } else { Vec::new() })
    }

    /// Records that an import is sent again in other imports, and how the jobs may share those.
    pub(crate) async fn end_sharing(
        &mut self,
        key: BatchKey,
        end: SharingEnd,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let SharingEnd { event, limit, request_id } = end;
        let Some(shared) = self.shared_import_of(key).await? else { return Err(StoreError::NoBatch(key)) };
        let limited = match limit {
            SharingLimit::Alone => sqlx::query(
                "UPDATE job SET pack_shape = NULL WHERE id IN (SELECT job_id FROM batch WHERE shared_import = ?)",
            ),
            SharingLimit::MaxBytes(bytes) => sqlx::query(
                "UPDATE job SET pack_max_bytes = ? WHERE id IN (SELECT job_id FROM batch WHERE shared_import = ?)",
            )
            .bind(bytes.cast_signed()),
        };
        limited.bind(shared.id).execute(&mut *self.conn).await?;
        self.apply_event(key, &event, request_id.as_deref(), now).await.map(drop)
    }

    /// Records that a job shares no import from now on.
    pub(crate) async fn end_packing(&mut self, job: JobId) -> Result<(), StoreError> {
        sqlx::query("UPDATE job SET pack_shape = NULL WHERE id = ?").bind(job.0).execute(&mut *self.conn).await?;
        Ok(())
    }

    /// Stores for each job its part of the reports of the import that they share, and completes their batches.
    pub(crate) async fn complete_shared_import(
        &mut self,
        key: BatchKey,
        divided: Vec<DividedReports>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(shared) = self.shared_import_of(key).await? else { return Err(StoreError::NoBatch(key)) };
        let instance = self.instance_of(key.job).await?;
        let sharing: HashSet<BatchKey> = self.batches_of_sharing(shared.id).await?.into_iter().collect();
        self.delete_reports_of_sharing(shared.id).await?;
        let (mut chunks, mut matches) = (Vec::new(), Vec::new());
        for mut reports in divided {
            let key_of_job = reports.key;
            // A batch that was abandoned in the meantime has ended.
            if sharing.contains(&key_of_job) {
                matches.extend(reports.sizes.matches.drain(..).map(|found| (key_of_job, found)));
                for DividedFile { kind, chunks: own } in reports.files.drain(..) {
                    chunks.extend(own.into_iter().map(|chunk| (StoredFile::report(key_of_job, kind), chunk)));
                }
                self.store_divided_counts(&instance, &reports, now).await?;
            }
        }
        self.insert_report_chunks(&chunks).await?;
        self.insert_row_matches(&matches).await?;
        self.apply_event(key, &Event::Collected, None, now).await.map(drop)
    }

    /// Stores what a job's part of the reports says of its rows.
    async fn store_divided_counts(
        &mut self,
        instance: &str,
        reports: &DividedReports,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let &DividedReports { key, counts, ref unknown_rows, ref sizes, .. } = reports;
        let count = |count: Option<u64>| count.map(u64::cast_signed);
        let sent: i64 = sqlx::query_scalar(
            "UPDATE batch SET processed = ?, failed = ?, warned = ?, unknown_rows = ?, failures_bytes = ?,
                              warnings_bytes = ?
             WHERE job_id = ? AND part = ? RETURNING rows",
        )
        .bind(count(counts.processed))
        .bind(count(counts.failed))
        .bind(count(counts.warned))
        .bind(unknown_rows)
        .bind(count(sizes.failures))
        .bind(count(sizes.warnings))
        .bind(key.job.0)
        .bind(key.part)
        .fetch_one(&mut *self.conn)
        .await?;
        let rows = RowCounts::complete(sent.cast_unsigned(), counts);
        if !rows.is_accounted_for() {
            let text = "the outcome of some rows is unknown: the import was shared with other jobs, and Marketo's \
                        reports do not show to which job each of their rows belongs";
            let entry = NewHistoryEntry::of_batch(key, now, "counts-differ", BatchState::Collecting);
            self.insert_history(NewHistoryEntry { message: Some(text), ..entry }).await?;
        }
        self.count(MetricEvent::Rows { instance: instance.to_owned(), rows });
        Ok(())
    }

    /// Deletes the reports of earlier imports of these batches, each of which is the only one of its job.
    async fn delete_reports_of_sharing(&mut self, id: i64) -> Result<(), StoreError> {
        for sql in [
            "DELETE FROM chunk WHERE job_id IN (SELECT job_id FROM batch WHERE shared_import = ?)
               AND kind IN ('failures', 'warnings')",
            "DELETE FROM row_match WHERE job_id IN (SELECT job_id FROM batch WHERE shared_import = ?)",
        ] {
            sqlx::query(sql).bind(id).execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    /// Stores an import of these rows, and that their batches share it.
    async fn insert_shared_import(&mut self, packed: &[PackedRows]) -> Result<(), StoreError> {
        let batches = u32::try_from(packed.len()).unwrap_or(u32::MAX);
        let rows: u64 = packed.iter().map(|rows| rows.rows).sum();
        let id: i64 = sqlx::query_scalar("INSERT INTO shared_import (batches) VALUES (?) RETURNING id")
            .bind(batches)
            .fetch_one(&mut *self.conn)
            .await?;
        // In few statements: there may be a thousand batches, and each statement delays all other writes.
        let positioned: Vec<_> = (0_u32..).zip(packed).collect();
        for members in positioned.chunks(ROWS_IN_STATEMENT) {
            let mut insert: QueryBuilder<Sqlite> = QueryBuilder::new(
                "INSERT INTO shared_import_batch (shared_import, position, job_id, part, byte_from, byte_to, line_end,
                                                  rows) ",
            );
            insert.push_values(members, |mut row, (position, member)| {
                let PackedRows { key, bytes, added_line_end, rows, .. } = **member;
                row.push_bind(id).push_bind(*position).push_bind(key.job.0).push_bind(key.part);
                row.push_bind(bytes.0.cast_signed()).push_bind(bytes.1.cast_signed());
                row.push_bind(added_line_end).push_bind(rows.cast_signed());
            });
            insert.build().persistent(false).execute(&mut *self.conn).await?;
        }
        sqlx::query(
            "UPDATE batch SET shared_import = ?1, shared_with = ?2, leads_import = (m.position = 0), import_rows = ?3
             FROM shared_import_batch m
             WHERE m.shared_import = ?1 AND batch.job_id = m.job_id AND batch.part = m.part",
        )
        .bind(id)
        .bind(batches - 1)
        .bind(rows.cast_signed())
        .execute(&mut *self.conn)
        .await?;
        Ok(())
    }

    /// Stores Marketo's counts of all rows of a shared import.
    pub(crate) async fn set_shared_counts(&mut self, id: i64, counts: &Counts) -> Result<(), StoreError> {
        let count = |count: Option<u64>| count.map(u64::cast_signed);
        sqlx::query("UPDATE shared_import SET processed = ?, failed = ?, warned = ? WHERE id = ?")
            .bind(count(counts.processed))
            .bind(count(counts.failed))
            .bind(count(counts.warned))
            .bind(id)
            .execute(&mut *self.conn)
            .await?;
        Ok(())
    }

    /// Ends the sharing of batches that are sent again or have ended. Deletes the import's record once none is left,
    /// and lets another batch stand for the import where the one that did has left.
    pub(crate) async fn leave_shared_import(&mut self, id: i64) -> Result<(), StoreError> {
        for sql in [
            "UPDATE batch SET shared_import = NULL, shared_with = 0, leads_import = 1, import_rows = NULL
             WHERE shared_import = ? AND state = 'pending'",
            "UPDATE batch SET shared_import = NULL
             WHERE shared_import = ? AND state IN ('complete', 'failed', 'cancelled')",
            "UPDATE batch SET leads_import = 1
             WHERE (job_id, part) = (SELECT job_id, part FROM batch WHERE shared_import = ?1
                                     ORDER BY leads_import DESC, job_id LIMIT 1)",
            "DELETE FROM shared_import WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM batch WHERE shared_import = ?1)",
        ] {
            sqlx::query(sql).bind(id).execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    /// Clears what is stored of an earlier import of a batch that is sent again.
    pub(crate) async fn forget_shared_import(&mut self, key: BatchKey) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE batch SET shared_import = NULL, shared_with = 0, leads_import = 1, import_rows = NULL,
                              unknown_rows = NULL
             WHERE job_id = ? AND part = ?",
        )
        .bind(key.job.0)
        .bind(key.part)
        .execute(&mut *self.conn)
        .await?;
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns the import that a batch shares with others; none where it does not.
    pub(crate) async fn shared_import_of(&mut self, key: BatchKey) -> Result<Option<SharedImportRef>, StoreError> {
        let shared = sqlx::query(
            "SELECT s.id, s.batches, (SELECT count(*) FROM batch o WHERE o.shared_import = s.id) AS sharing
             FROM batch b JOIN shared_import s ON s.id = b.shared_import WHERE b.job_id = ? AND b.part = ?",
        )
        .bind(key.job.0)
        .bind(key.part)
        .fetch_optional(&mut *self.conn)
        .await?;
        let reference = |row: SqliteRow| {
            Ok(SharedImportRef {
                id: row.try_get("id")?,
                batches: row.try_get("batches")?,
                sharing: row.try_get("sharing")?,
            })
        };
        shared.map(reference).transpose()
    }

    /// Returns the batches that share an import.
    async fn batches_of_sharing(&mut self, id: i64) -> Result<Vec<BatchKey>, StoreError> {
        let keys: Vec<(i64, u32)> = sqlx::query_as("SELECT job_id, part FROM batch WHERE shared_import = ?")
            .bind(id)
            .fetch_all(&mut *self.conn)
            .await?;
        Ok(keys.into_iter().map(|(job, part)| BatchKey { job: JobId(job), part }).collect())
    }

    /// Returns the batch that stands for the import that a batch shares; the batch itself where it shares none.
    pub(crate) async fn shared_import_lead(&mut self, key: BatchKey) -> Result<BatchKey, StoreError> {
        let lead: Option<(i64, u32)> = sqlx::query_as(
            "SELECT l.job_id, l.part FROM batch b JOIN batch l ON l.shared_import = b.shared_import
             WHERE b.job_id = ? AND b.part = ? AND l.leads_import = 1",
        )
        .bind(key.job.0)
        .bind(key.part)
        .fetch_optional(&mut *self.conn)
        .await?;
        Ok(lead.map_or(key, |(job, part)| BatchKey { job: JobId(job), part }))
    }

    /// Returns Marketo's counts of the import that a batch shares, and the rows that were sent; none where the batch
    /// shares none.
    pub(crate) async fn shared_import(&mut self, key: BatchKey) -> Result<Option<SharedImport>, StoreError> {
        let row = sqlx::query(
            "SELECT s.id, s.batches, s.processed, s.failed, s.warned
             FROM batch b JOIN shared_import s ON s.id = b.shared_import WHERE b.job_id = ? AND b.part = ?",
        )
        .bind(key.job.0)
        .bind(key.part)
        .fetch_optional(&mut *self.conn)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let packed: Vec<PackedRows> = sqlx::query_as(
            "SELECT c.job_id, c.part, c.byte_from, c.byte_to, c.line_end, c.rows, b.first_line
             FROM shared_import_batch c JOIN batch b ON b.job_id = c.job_id AND b.part = c.part
             WHERE c.shared_import = ? ORDER BY c.position",
        )
        .bind(row.try_get::<i64, _>("id")?)
        .fetch_all(&mut *self.conn)
        .await?;
        let counts = Counts {
            processed: optional_size_column(&row, "processed")?,
            failed: optional_size_column(&row, "failed")?,
            warned: optional_size_column(&row, "warned")?,
        };
        // The record of a job that was cancelled may have been deleted since.
        let is_whole = packed.len() as u64 == size_column(&row, "batches")?;
        Ok(Some(SharedImport { counts, packed, is_whole }))
    }
}

#[cfg(test)]
mod tests;
