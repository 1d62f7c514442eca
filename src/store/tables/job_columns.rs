//! Columns of table `job`: how a new job is written, and how a job is read.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::clock::from_ms;
use crate::domain::packing::{ImportShape, Packing};
use crate::domain::row_counts::RowCounts;
use crate::domain::{JobId, JobState, Source, Target};
use crate::store::models::Job;
use crate::store::new_job::{JobLayout, NewJob};
use crate::store::tables::batch_rules::read_rules;
use crate::store::tables::column_values::ColumnValues;
use crate::store::tables::row_mapping::{parse_column, size_column, time_column};

/// The columns from which a [`Job`] is read.
macro_rules! job_columns {
    () => {
        "id, state, target, lookup_field, list_id, partition_name, object_name, program_id, member_status, instance,
         filename, format, priority, job_group, bytes, rows, retry_of, source, source_name, not_before, in_order,
         canary, max_failed_percent, pack_shape, pack_line_end, created_at, started_at, finished_at,
         content_erased_at, reports_erased_at, error, header_from, header_to"
    };
}
pub(crate) use job_columns;

/// Adds the row of a job whose file is complete to `rows`.
pub(crate) fn with_new_job(rows: ColumnValues, new: &NewJob, layout: &JobLayout, now: Timestamp) -> ColumnValues {
    with_layout(with_fixed(with_parameters(rows, new), new, now), new, layout)
        .set("state", JobState::Pending.as_str())
        .end_row()
}

/// Returns the row of a job whose file is still to be received. Its idempotency key is not set yet: two submissions
/// with one key may be received at the same time, and the first one that is complete gets the key.
pub(crate) fn receiving_job_columns(new: &NewJob, now: Timestamp) -> ColumnValues {
    with_fixed(with_parameters(ColumnValues::default(), new), new, now)
        .set("state", JobState::Receiving.as_str())
        .set("bytes", 0)
        .set("header_from", 0)
        .set("header_to", 0)
        .set("rows", 0)
}

/// Returns the columns that change when the file has been received.
pub(crate) fn received_columns(new: &NewJob, layout: &JobLayout) -> ColumnValues {
    with_layout(with_parameters(ColumnValues::default(), new), new, layout).set("state", JobState::Pending.as_str())
}

/// Adds what a client can also send behind the file.
fn with_parameters(row: ColumnValues, new: &NewJob) -> ColumnValues {
    let target = TargetColumns::from_target(&new.target);
    let (source, source_name) = new.source.to_columns();
    row.set("lookup_field", target.lookup_field)
        .set("list_id", target.list_id)
        .set("partition_name", target.partition)
        .set("object_name", target.object)
        .set("program_id", target.program)
        .set("member_status", target.status)
        .set("format", new.format.as_str())
        .set("source", source)
        .set("source_name", source_name)
}

/// Adds what does not change after the submission has begun.
fn with_fixed(row: ColumnValues, new: &NewJob, now: Timestamp) -> ColumnValues {
    let rules = new.batch_rules();
    row.set("instance", new.instance.as_str())
        .set("target", new.target.kind())
        .set("filename", new.filename.as_str())
        .set("priority", new.priority)
        .set("job_group", new.group.as_deref())
        .set("retry_of", new.retry_of.map(|id| id.0))
        .set("not_before", new.not_before.map(Timestamp::as_millisecond))
        .set("in_order", i64::from(rules.in_order))
        .set("canary", rules.canary.map(u64::cast_signed))
        .set("max_failed_percent", rules.max_failed_percent.map(i64::from))
        .set("created_at", now.as_millisecond())
}

/// Adds what is known when the file is complete.
fn with_layout(row: ColumnValues, new: &NewJob, layout: &JobLayout) -> ColumnValues {
    row.set("bytes", layout.bytes.cast_signed())
        .set("header_from", layout.header.0.cast_signed())
        .set("header_to", layout.header.1.cast_signed())
        .set("rows", layout.rows.cast_signed())
        .set("idempotency_key", new.idempotency_key.as_deref())
        .set("content_sha256", layout.sha256.as_ref().map(<[u8; 32]>::as_slice))
        .set("pack_shape", layout.packing.as_ref().map(|packing| packing.shape.0.as_slice()))
        .set("pack_line_end", layout.packing.map_or(0, |packing| i64::from(packing.added_line_end)))
}

/// Reads a job without its batches.
impl FromRow<'_, SqliteRow> for Job {
    fn from_row(row: &SqliteRow) -> Result<Job, sqlx::Error> {
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
            not_before: time_column(row, "not_before")?,
            batch_rules: read_rules(row)?,
            packing: read_packing(row)?,
            created_at: from_ms(row.try_get("created_at")?),
            started_at: time_column(row, "started_at")?,
            finished_at: time_column(row, "finished_at")?,
            content_erased_at: time_column(row, "content_erased_at")?,
            reports_erased_at: time_column(row, "reports_erased_at")?,
            error: row.try_get("error")?,
            header: (size_column(row, "header_from")?, size_column(row, "header_to")?),
        })
    }
}

fn read_packing(row: &SqliteRow) -> Result<Option<Packing>, sqlx::Error> {
    let added_line_end = row.try_get("pack_line_end")?;
    Ok(optional_shape(row)?.map(|shape| Packing { shape, added_line_end }))
}

/// Reads the shape of the imports that a job may share.
pub(crate) fn optional_shape(row: &SqliteRow) -> Result<Option<ImportShape>, sqlx::Error> {
    let shape: Option<&[u8]> = row.try_get("pack_shape")?;
    Ok(shape.and_then(|shape| shape.try_into().ok()).map(ImportShape))
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

/// A target as the columns of its job.
#[derive(Default)]
struct TargetColumns<'a> {
    lookup_field: Option<&'a str>,
    list_id: Option<i64>,
    partition: Option<&'a str>,
    object: Option<&'a str>,
    program: Option<i64>,
    status: Option<&'a str>,
}

impl TargetColumns<'_> {
    fn from_target(target: &Target) -> TargetColumns<'_> {
        match target {
            Target::Leads { lookup_field, list_id, partition } => TargetColumns {
                lookup_field: lookup_field.as_deref(),
                list_id: *list_id,
                partition: partition.as_deref(),
                ..TargetColumns::default()
            },
            Target::CustomObject { name } => TargetColumns { object: Some(name), ..TargetColumns::default() },
            Target::ProgramMembers { program_id, status } => {
                TargetColumns { program: Some(*program_id), status: Some(status), ..TargetColumns::default() }
            }
        }
    }
}
