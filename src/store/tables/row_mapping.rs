//! Row mapping: reads jobs and batches from rows of the database.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::clock::from_ms;
use crate::domain::batch::{QueryFailures, UploadAttempts};
use crate::domain::row_counts::{BatchCounts, RowCounts};
use crate::domain::{BatchState, Counts, JobId, Source, Target};
use crate::store::models::{Batch, Job};

/// Reads a row of table `job`, without its batches.
pub(crate) fn read_job(row: &SqliteRow) -> Result<Job, sqlx::Error> {
    Ok(Job {
        id: JobId(row.try_get("id")?),
        state: parse_column(row, "state")?,
        target: read_target(row)?,
        instance: row.try_get("instance")?,
        filename: row.try_get("filename")?,
        format: parse_column(row, "format")?,
        priority: row.try_get("priority")?,
        group: row.try_get("job_group")?,
        bytes: size_column(row, "bytes")?,
        rows: RowCounts::uncounted(size_column(row, "rows")?),
        batches: Vec::new(),
        retry_of: row.try_get::<Option<i64>, _>("retry_of")?.map(JobId),
        source: read_source(row)?,
        created_at: from_ms(row.try_get("created_at")?),
        started_at: time_column(row, "started_at")?,
        finished_at: time_column(row, "finished_at")?,
        content_erased_at: time_column(row, "content_erased_at")?,
        reports_erased_at: time_column(row, "reports_erased_at")?,
        error: row.try_get("error")?,
        header: (size_column(row, "header_from")?, size_column(row, "header_to")?),
    })
}

fn read_source(row: &SqliteRow) -> Result<Option<Source>, sqlx::Error> {
    let (kind, name): (Option<&str>, Option<&str>) = (row.try_get("source")?, row.try_get("source_name")?);
    Ok(kind.zip(name).and_then(|(kind, name)| Source::from_columns(kind, name)))
}

fn read_target(row: &SqliteRow) -> Result<Target, sqlx::Error> {
    Ok(match row.try_get::<&str, _>("target")? {
        "leads" => Target::Leads {
            lookup_field: row.try_get("lookup_field")?,
            list_id: row.try_get("list_id")?,
            partition: row.try_get("partition_name")?,
        },
        "custom-object" => Target::CustomObject { name: row.try_get("object_name")? },
        _ => Target::ProgramMembers { program_id: row.try_get("program_id")?, status: row.try_get("member_status")? },
    })
}

/// Reads a row of table `batch`.
pub(crate) fn read_batch(row: &SqliteRow) -> Result<Batch, sqlx::Error> {
    let id_given_twice = row.try_get("id_given_twice")?;
    let counts = match id_given_twice {
        // They may belong to another upload.
        true => Counts::default(),
        false => Counts {
            processed: optional_size_column(row, "processed")?,
            failed: optional_size_column(row, "failed")?,
            warned: optional_size_column(row, "warned")?,
        },
    };
    let marketo_batch_id: Option<String> = row.try_get("marketo_batch_id")?;
    let overdue_at = time_column(row, "overdue_at")?;
    let state = if overdue_at.is_some() { BatchState::Held } else { parse_column(row, "state")? };
    let may_be_imported = marketo_batch_id.is_some() || row.try_get::<u32, _>("unconfirmed_imports")? > 0;
    Ok(Batch {
        part: row.try_get("part")?,
        state,
        marketo_batch_id,
        attempts: row.try_get("attempts")?,
        message: row.try_get("message")?,
        rows: RowCounts::from_batch(size_column(row, "rows")?, BatchCounts { state, counts, may_be_imported }),
        byte_from: size_column(row, "byte_from")?,
        byte_to: size_column(row, "byte_to")?,
        not_before: time_column(row, "not_before")?,
        uploaded_at: time_column(row, "uploaded_at")?,
        accepted_at: time_column(row, "accepted_at")?,
        importing_at: time_column(row, "importing_at")?,
        polled_at: time_column(row, "polled_at")?,
        ended_at: time_column(row, "ended_at")?,
        failures_bytes: optional_size_column(row, "failures_bytes")?,
        warnings_bytes: optional_size_column(row, "warnings_bytes")?,
        overdue_at,
        id_given_twice,
        waited: Duration::from_millis(size_column(row, "waited_ms")?),
        counts,
        query_failures: QueryFailures {
            all: row.try_get("query_failures")?,
            refusals: row.try_get("query_rejections")?,
        },
        tried: UploadAttempts {
            attempts: row.try_get("attempts")?,
            last_upload: optional_size_column(row, "last_upload")?,
            alone: Duration::from_millis(size_column(row, "alone_ms")?),
            began: time_column(row, "uploaded_at")?,
        },
        given_up: row.try_get("given_up")?,
    })
}

/// Reads a column with the name of an enum's value. The schema's `CHECK` allows no other text.
pub(crate) fn parse_column<T>(row: &SqliteRow, column: &str) -> Result<T, sqlx::Error>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    row.try_get::<&str, _>(column)?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Reads a column with milliseconds since 1970.
pub(crate) fn time_column(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(from_ms))
}

/// Reads a column with a number that is not negative.
pub(crate) fn size_column(row: &SqliteRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)?.cast_unsigned())
}

/// Reads such a column that may be null.
pub(crate) fn optional_size_column(row: &SqliteRow, column: &str) -> Result<Option<u64>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(i64::cast_unsigned))
}
