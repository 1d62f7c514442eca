//! Packed rows: which pending batches go in one upload, and how the rows of each are read.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::domain::packing::ImportShape;
use crate::domain::shared_import::MAX_PACKED_JOBS;
use crate::domain::{BatchKey, JobId};
use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::shared_import::{PackLimits, PackedRows};
use crate::store::tables::job_columns::optional_shape;
use crate::store::tables::row_mapping::{optional_size_column, size_column};

impl ReadTx<'_> {
    /// Returns the rows that go in one upload with those of a pending batch, this batch first: those of pending jobs of
    /// its shape, by priority and age, as many as the limits allow.
    pub(crate) async fn packed_with(
        &mut self,
        key: BatchKey,
        limits: PackLimits,
        now: Timestamp,
    ) -> Result<Vec<PackedRows>, StoreError> {
        let lead = sqlx::query(
            "SELECT j.id AS job_id, j.instance, iif(b.attempts = 0, j.pack_shape, NULL) AS pack_shape, j.pack_max_bytes,
                    j.header_to - j.header_from AS header, b.part, b.byte_from, b.byte_to, j.pack_line_end AS line_end,
                    b.rows, b.first_line
             FROM job j JOIN batch b ON b.job_id = j.id AND b.state = 'pending' WHERE j.id = ? AND b.part = ?",
        )
        .bind(key.job.0)
        .bind(key.part)
        .fetch_optional(&mut *self.conn)
        .await?;
        let Some(lead) = lead else { return Ok(Vec::new()) };
        let Some(ImportShape(shape)) = optional_shape(&lead)? else { return Ok(Vec::new()) };
        let candidates = sqlx::query(
            "SELECT j.id AS job_id, j.pack_max_bytes, b.part, b.byte_from, b.byte_to, j.pack_line_end AS line_end,
                    b.rows, b.first_line
             FROM job j JOIN batch b ON b.job_id = j.id AND b.state = 'pending'
             WHERE j.instance = ?1 AND j.pack_shape = ?2 AND j.state = 'pending' AND j.id <> ?3
               AND (j.not_before IS NULL OR j.not_before <= ?4)
               AND (b.not_before IS NULL OR b.not_before <= ?4 OR b.not_before > ?5)
               AND b.attempts = 0
             ORDER BY j.priority DESC, j.id LIMIT ?6",
        )
        .bind(lead.try_get::<&str, _>("instance")?)
        .bind(shape.as_slice())
        .bind(key.job.0)
        .bind(now.as_millisecond())
        .bind(limits.latest_not_before.as_millisecond())
        .bind(limits.max_jobs.min(MAX_PACKED_JOBS).saturating_sub(1))
        .fetch_all(&mut *self.conn)
        .await?;
        let mut packed = vec![PackedRows::from_row(&lead)?];
        let mut bytes = size_column(&lead, "header")? + packed[0].bytes_sent();
        let mut max_bytes = limits.max_bytes.min(optional_size_column(&lead, "pack_max_bytes")?.unwrap_or(u64::MAX));
        for candidate in &candidates {
            let rows = PackedRows::from_row(candidate)?;
            bytes += rows.bytes_sent();
            max_bytes = max_bytes.min(optional_size_column(candidate, "pack_max_bytes")?.unwrap_or(u64::MAX));
            // No smaller one goes before it.
            if bytes > max_bytes {
                break;
            }
            packed.push(rows);
        }
        Ok(packed)
    }
}

impl FromRow<'_, SqliteRow> for PackedRows {
    fn from_row(row: &SqliteRow) -> Result<PackedRows, sqlx::Error> {
        Ok(PackedRows {
            key: BatchKey { job: JobId(row.try_get("job_id")?), part: row.try_get("part")? },
            bytes: (size_column(row, "byte_from")?, size_column(row, "byte_to")?),
            added_line_end: row.try_get("line_end")?,
            rows: size_column(row, "rows")?,
            first_line: optional_size_column(row, "first_line")?,
        })
    }
}
