//! Columns of table `batch`: how a batch is read for the API, and how its progress is read and written.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::domain::batch::{BatchProgress, QueryFailures};
use crate::domain::row_counts::{BatchCounts, RowCounts};
use crate::domain::{Counts, DeferReason, JobId};
use crate::store::models::Batch;
use crate::store::tables::column_values::ColumnValues;
use crate::store::tables::row_mapping::{
    duration_column, duration_value, optional_size_column, parse_column, size_column, time_column, time_value,
};

/// The columns of [`BatchProgress`], except `wait`.
macro_rules! progress_columns {
    () => {
        "state, attempts, marketo_batch_id, not_before, message, processed, failed, warned, uploaded_at, accepted_at,
         importing_at, polled_at, ended_at, query_failures, query_rejections, waited_ms, overdue_at, unconfirmed_until,
         unconfirmed_imports, last_upload, alone_ms, given_up"
    };
}
pub(crate) use progress_columns;

/// The columns from which a [`Batch`] is read.
macro_rules! batch_columns {
    () => {
        concat!(
            "part, byte_from, byte_to, rows, first_line, failures_bytes, warnings_bytes, id_given_twice, shared_with,
             import_rows, ",
            "(SELECT l.job_id FROM batch l WHERE l.shared_import = batch.shared_import AND l.leads_import = 1)
             AS import_lead, ",
            $crate::store::tables::batch_columns::progress_columns!()
        )
    };
}
pub(crate) use batch_columns;

impl FromRow<'_, SqliteRow> for Batch {
    fn from_row(row: &SqliteRow) -> Result<Batch, sqlx::Error> {
        let progress = BatchProgress::from_row(row)?;
        let id_given_twice = row.try_get("id_given_twice")?;
        // Counts of an id that was given twice may belong to another upload.
        let counts = if id_given_twice { Counts::default() } else { progress.counts };
        let state = progress.shown_state();
        let may_be_imported = progress.marketo_batch_id.is_some() || progress.unconfirmed_imports > 0;
        Ok(Batch {
            part: row.try_get("part")?,
            state,
            attempts: progress.attempts,
            rows: RowCounts::from_batch(size_column(row, "rows")?, BatchCounts { state, counts, may_be_imported }),
            byte_from: size_column(row, "byte_from")?,
            byte_to: size_column(row, "byte_to")?,
            first_line: optional_size_column(row, "first_line")?,
            not_before: progress.not_before,
            uploaded_at: progress.uploaded_at,
            accepted_at: progress.accepted_at,
            importing_at: progress.importing_at,
            polled_at: progress.polled_at,
            ended_at: progress.ended_at,
            failures_bytes: optional_size_column(row, "failures_bytes")?,
            warnings_bytes: optional_size_column(row, "warnings_bytes")?,
            overdue_at: progress.overdue_at,
            id_given_twice,
            may_be_imported,
            shared_with: row.try_get("shared_with")?,
            import_lead: row.try_get::<Option<i64>, _>("import_lead")?.map(JobId),
            import_rows: optional_size_column(row, "import_rows")?.unwrap_or(size_column(row, "rows")?),
            waited: progress.waited,
            counts,
            query_failures: progress.query_failures,
            tried: progress.upload_attempts(),
            attempts_exhausted: progress.attempts_exhausted,
            marketo_batch_id: progress.marketo_batch_id,
            message: progress.message,
        })
    }
}

impl FromRow<'_, SqliteRow> for BatchProgress {
    fn from_row(row: &SqliteRow) -> Result<BatchProgress, sqlx::Error> {
        Ok(BatchProgress {
            state: parse_column(row, "state")?,
            attempts: row.try_get("attempts")?,
            marketo_batch_id: row.try_get("marketo_batch_id")?,
            not_before: time_column(row, "not_before")?,
            // Each event sets the defer reason, so the old one need not be read.
            wait: None,
            message: row.try_get("message")?,
            counts: Counts {
                processed: optional_size_column(row, "processed")?,
                failed: optional_size_column(row, "failed")?,
                warned: optional_size_column(row, "warned")?,
            },
            uploaded_at: time_column(row, "uploaded_at")?,
            accepted_at: time_column(row, "accepted_at")?,
            importing_at: time_column(row, "importing_at")?,
            polled_at: time_column(row, "polled_at")?,
            ended_at: time_column(row, "ended_at")?,
            query_failures: QueryFailures {
                all: row.try_get("query_failures")?,
                refusals: row.try_get("query_rejections")?,
            },
            waited: duration_column(row, "waited_ms")?,
            overdue_at: time_column(row, "overdue_at")?,
            unconfirmed_until: time_column(row, "unconfirmed_until")?,
            unconfirmed_imports: row.try_get("unconfirmed_imports")?,
            last_upload: optional_size_column(row, "last_upload")?,
            alone: duration_column(row, "alone_ms")?,
            attempts_exhausted: row.try_get("given_up")?,
        })
    }
}

/// Returns the columns of the progress of a batch.
pub(crate) fn progress_values(batch: &BatchProgress) -> ColumnValues {
    let count = |count: Option<u64>| count.map(u64::cast_signed);
    ColumnValues::default()
        .set("state", batch.state.as_str())
        .set("attempts", batch.attempts)
        .set("marketo_batch_id", batch.marketo_batch_id.as_deref())
        .set("not_before", time_value(batch.not_before))
        .set("wait", batch.wait.map(DeferReason::as_str))
        .set("message", batch.message.as_deref())
        .set("processed", count(batch.counts.processed))
        .set("failed", count(batch.counts.failed))
        .set("warned", count(batch.counts.warned))
        .set("uploaded_at", time_value(batch.uploaded_at))
        .set("accepted_at", time_value(batch.accepted_at))
        .set("importing_at", time_value(batch.importing_at))
        .set("polled_at", time_value(batch.polled_at))
        .set("ended_at", time_value(batch.ended_at))
        .set("query_failures", batch.query_failures.all)
        .set("query_rejections", batch.query_failures.refusals)
        .set("waited_ms", duration_value(batch.waited))
        .set("overdue_at", time_value(batch.overdue_at))
        .set("unconfirmed_until", time_value(batch.unconfirmed_until))
        .set("unconfirmed_imports", batch.unconfirmed_imports)
        .set("last_upload", count(batch.last_upload))
        .set("alone_ms", duration_value(batch.alone))
        .set("given_up", batch.attempts_exhausted)
}
