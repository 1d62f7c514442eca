//! How is a row read? From columns to records, one function a type.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::progress::{AskFailures, Tried};
use super::records::{Batch, Job};
use super::row_counts::{Counted, Rows};
use crate::clock::from_ms;
use crate::job::{BatchState, Counts, JobId, Source, Target};

pub(super) fn read_job(row: &SqliteRow) -> Result<Job, sqlx::Error> {
    Ok(Job {
        id: JobId(row.try_get("id")?),
        state: word(row, "state")?,
        target: read_target(row)?,
        instance: row.try_get("instance")?,
        filename: row.try_get("filename")?,
        format: word(row, "format")?,
        priority: row.try_get("priority")?,
        group: row.try_get("job_group")?,
        bytes: size(row, "bytes")?,
        rows: Rows::uncounted(size(row, "rows")?),
        batches: Vec::new(),
        retry_of: row.try_get::<Option<i64>, _>("retry_of")?.map(JobId),
        source: read_source(row)?,
        created_at: from_ms(row.try_get("created_at")?),
        started_at: time(row, "started_at")?,
        finished_at: time(row, "finished_at")?,
        content_erased_at: time(row, "content_erased_at")?,
        reports_erased_at: time(row, "reports_erased_at")?,
        error: row.try_get("error")?,
        header: (size(row, "header_from")?, size(row, "header_to")?),
    })
}

fn read_source(row: &SqliteRow) -> Result<Option<Source>, sqlx::Error> {
    let (word, text): (Option<&str>, Option<&str>) = (row.try_get("source")?, row.try_get("source_name")?);
    Ok(word.zip(text).and_then(|(word, text)| Source::of_parts(word, text)))
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

pub(super) fn read_batch(row: &SqliteRow) -> Result<Batch, sqlx::Error> {
    let id_given_twice = row.try_get("id_given_twice")?;
    let counts = match id_given_twice {
        // They may be another upload's.
        true => Counts::default(),
        false => Counts {
            processed: maybe_size(row, "processed")?,
            failed: maybe_size(row, "failed")?,
            warned: maybe_size(row, "warned")?,
        },
    };
    let marketo_batch_id: Option<String> = row.try_get("marketo_batch_id")?;
    let overdue_at = time(row, "overdue_at")?;
    let state = if overdue_at.is_some() { BatchState::Held } else { word(row, "state")? };
    let may_be_imported = marketo_batch_id.is_some() || row.try_get::<u32, _>("ghosts")? > 0;
    Ok(Batch {
        part: row.try_get("part")?,
        state,
        marketo_batch_id,
        attempts: row.try_get("attempts")?,
        message: row.try_get("message")?,
        rows: Rows::of_batch(size(row, "rows")?, Counted { state, counts, may_be_imported }),
        byte_from: size(row, "byte_from")?,
        byte_to: size(row, "byte_to")?,
        not_before: time(row, "not_before")?,
        uploaded_at: time(row, "uploaded_at")?,
        accepted_at: time(row, "accepted_at")?,
        importing_at: time(row, "importing_at")?,
        polled_at: time(row, "polled_at")?,
        ended_at: time(row, "ended_at")?,
        failures_bytes: maybe_size(row, "failures_bytes")?,
        warnings_bytes: maybe_size(row, "warnings_bytes")?,
        overdue_at,
        id_given_twice,
        waited: Duration::from_millis(size(row, "waited_ms")?),
        counts,
        ask_failures: AskFailures { all: row.try_get("ask_failures")?, refusals: row.try_get("ask_refusals")? },
        tried: Tried {
            attempts: row.try_get("attempts")?,
            last_upload: maybe_size(row, "last_upload")?,
            alone: Duration::from_millis(size(row, "alone_ms")?),
            began: time(row, "uploaded_at")?,
        },
        given_up: row.try_get("given_up")?,
    })
}

/// A word of ours that the schema's `CHECK` vouches for.
pub(super) fn word<T>(row: &SqliteRow, column: &str) -> Result<T, sqlx::Error>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    row.try_get::<&str, _>(column)?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

pub(super) fn time(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(from_ms))
}

pub(super) fn size(row: &SqliteRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)?.cast_unsigned())
}

pub(super) fn maybe_size(row: &SqliteRow, column: &str) -> Result<Option<u64>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(i64::cast_unsigned))
}
