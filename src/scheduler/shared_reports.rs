//! Shared reports: fetches the failure and warning files of an import that several jobs share, and gives each job its
//! rows of them.
//!
//! The files are held in memory until they are divided, and never stored: they have rows of all jobs.

use bytes::Bytes;

use crate::byte_order_mark::without_mark;
use crate::clock::after;
use crate::delimited;
use crate::delimited::{JobReport, JobReports, RawReports, ReportDivider, UnknownRows};
use crate::domain::batch::QueryFailureKind;
use crate::domain::{BatchKey, Counts, ReportKind};
use crate::scheduler::outcome::{instance_backoff, may_have_report};
use crate::scheduler::report_fetch::{Destination, FetchedReport, ReportFetch, max_report_bytes};
use crate::scheduler::row_matching::on_blocking_thread;
use crate::scheduler::upload_content::{added_line_end, line_end, stored_header};
use crate::scheduler::worker_context::WorkerContext;
use crate::store::{
    Batch, CHUNK_BYTES, DividedFile, DividedReports, ImportKey, Job, PackedRowMatch, PackedRows, QueryFailure,
    ReportSizes, SharedImport, StoreError, StoredFile,
};

/// The largest report that is held in memory, in bytes. The rows of an upload are at most 10 MB, and reasons are short.
/// A larger report cannot be divided.
const MAX_REPORT_BYTES: u64 = 64 << 20;

/// Bytes of a reason, for an estimate.
const ESTIMATED_REASON_BYTES: u64 = 100;

/// An import that has ended and that several jobs share.
#[derive(Clone, Copy)]
pub(super) struct EndedSharedImport<'a> {
    pub key: BatchKey,
    /// The job of the batch that stands for the import, and that batch.
    pub job: &'a Job,
    pub batch: &'a Batch,
    pub shared: &'a SharedImport,
}

/// Fetches the reports of a shared import, divides them, and records the batches as complete.
///
/// # Errors
/// A database error.
pub(super) async fn fetch_shared_reports(
    context: &WorkerContext,
    import: EndedSharedImport<'_>,
) -> Result<(), StoreError> {
    let EndedSharedImport { key, job, batch, shared } = import;
    let (counts, rows) = (shared.counts, shared.packed.iter().map(|packed| packed.rows).sum());
    let sent = (job.header.1 - job.header.0) + shared.packed.iter().map(PackedRows::bytes_sent).sum::<u64>();
    let max_bytes = max_report_bytes(sent, rows).min(MAX_REPORT_BYTES);
    let room_bytes = divided_bytes(counts, sent, rows);
    let mut contents = [None, None];
    let mut is_whole = shared.is_whole && !batch.id_given_twice;
    let reports = [(ReportKind::Failures, counts.failed), (ReportKind::Warnings, counts.warned)];
    for (content, (kind, count)) in contents.iter_mut().zip(reports) {
        if !may_have_report(kind, counts, rows) {
            continue;
        }
        let destination = Destination::Memory;
        let fetch = ReportFetch { context, key, job, batch, kind, count, max_bytes, room_bytes, destination };
        match fetch.run().await? {
            FetchedReport::File(report) => {
                is_whole &= report.truncated_at.is_none();
                *content = Some(report.content);
            }
            FetchedReport::None => {}
            FetchedReport::Later => return Ok(()),
        }
    }
    let [failures, warnings] = contents;
    let divided = if is_whole { divide(context, import, RawReports { failures, warnings }).await? } else { None };
    let unknown = divided.is_none();
    let divided = divided.unwrap_or_else(|| shared.packed.iter().map(|_| unknown_reports()).collect());
    let stored = shared.packed.iter().zip(divided).map(|(packed, reports)| to_stored(*packed, reports));
    let stored = stored.collect::<std::io::Result<_>>().map_err(|error| StoreError::Refused(error.to_string()))?;
    match context.store.complete_shared_import(key, stored, context.clock.now()).await {
        Err(StoreError::Full) => return record_no_room(context, import).await,
        completed => completed?,
    }
    tracing::info!(instance = %context.name, job = %key.job, part = key.part, jobs = shared.packed.len(), unknown,
        "shared import complete");
    Ok(())
}

/// Records when the reports are fetched again that were not stored, because the disk has no room for them. Nothing of
/// them is stored, so there is room for the next chunk, and without the delay each second would cost two calls.
async fn record_no_room(context: &WorkerContext, import: EndedSharedImport<'_>) -> Result<(), StoreError> {
    let EndedSharedImport { key, batch, .. } = import;
    let now = context.observe().await?.now();
    let backoff = instance_backoff(&context.config(), batch.query_failures.all.saturating_add(1));
    let failure = QueryFailure {
        reason: "the disk has no room for the reports; they are fetched again".into(),
        kind: QueryFailureKind::Unanswered,
        not_before: after(now, backoff),
        request_id: None,
    };
    let import = ImportKey { batch: key, marketo_batch_id: batch.marketo_batch_id.clone().unwrap_or_default() };
    let recorded = context.store.record_query_failure(import, failure, now).await?;
    if recorded.is_news {
        tracing::error!(instance = %context.name, job = %key.job, part = key.part,
            "the disk has no room for the reports of a shared import; they are fetched again");
    }
    Ok(())
}

/// Returns an estimate of the bytes of all divided reports, which are stored in one transaction: the rows that Marketo
/// counted, as large as the average row that was sent, and a reason for each. They are compressed, which it leaves out.
fn divided_bytes(counts: Counts, sent: u64, rows: u64) -> u64 {
    let reported = [counts.failed, counts.warned].map(|count| count.unwrap_or(rows).min(rows)).iter().sum::<u64>();
    let row = sent.div_ceil(rows.max(1)).saturating_add(ESTIMATED_REASON_BYTES);
    reported.saturating_mul(row).max(CHUNK_BYTES as u64)
}

/// Divides the reports; none where a file that was sent is no longer there.
///
/// # Errors
/// An error of reading the database that says nothing about the file.
async fn divide(
    context: &WorkerContext,
    import: EndedSharedImport<'_>,
    reports: RawReports,
) -> Result<Option<Vec<JobReports>>, StoreError> {
    let EndedSharedImport { key, job, shared, .. } = import;
    let division = async {
        let header = stored_header(&context.store, job).await?;
        let header = Bytes::copy_from_slice(without_mark(&header));
        let columns = delimited::columns(&header, job.format);
        let (format, counts) = (job.format, shared.counts);
        let mut divider = run_step(move || ReportDivider::new(columns, format, counts, reports)).await?;
        let line_end = line_end(&header);
        for &packed in &shared.packed {
            if divider.needs_sent_rows() {
                divider = push_rows(context, divider, packed).await?;
                if let Some(added) = added_line_end(&line_end, packed) {
                    divider.push(&added);
                }
            }
            divider.end_job(packed.rows);
        }
        run_step(move || divider.finish()).await
    };
    match division.await {
        Ok(divided) => Ok(Some(divided)),
        Err(error) if !is_lost(&error) => Err(error),
        Err(error) => {
            tracing::warn!(instance = %context.name, job = %key.job, part = key.part, %error,
                "the reports of a shared import could not be divided");
            Ok(None)
        }
    }
}

/// Returns whether a file that was sent will never be read again. After any other error the reports are fetched and
/// divided again: the outcome of a whole import must not be unknown because of one read that failed.
fn is_lost(error: &StoreError) -> bool {
    matches!(error, StoreError::Erased { .. } | StoreError::Damaged(_) | StoreError::Refused(_))
}

/// Runs a step of the division. One that panics does so each time, and loses what it holds.
async fn run_step<T: Send + 'static>(step: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    let lost = |_| StoreError::Refused("the division of the reports has ended early".to_owned());
    on_blocking_thread(step).await.map_err(lost)
}

/// Reads the rows of one job into the divider.
async fn push_rows(
    context: &WorkerContext,
    mut divider: ReportDivider,
    packed: PackedRows,
) -> Result<ReportDivider, StoreError> {
    let (from, to) = packed.bytes;
    let mut content = context.store.content(StoredFile::submitted(packed.key.job), from..to);
    while let Some(chunk) = content.next().await? {
        divider = run_step(move || {
            divider.push(&chunk);
            divider
        })
        .await?;
    }
    Ok(divider)
}

/// Returns the reports of a job of whose rows nothing is known.
fn unknown_reports() -> JobReports {
    JobReports {
        failures: JobReport::default(),
        warnings: JobReport::default(),
        counts: Counts::default(),
        unknown: UnknownRows::AllOthers,
    }
}

/// Returns the reports of a job as they are stored.
fn to_stored(packed: PackedRows, reports: JobReports) -> std::io::Result<DividedReports> {
    let JobReports { failures, warnings, counts, unknown } = reports;
    let mut stored = DividedReports {
        key: packed.key,
        counts,
        unknown_rows: match unknown {
            UnknownRows::None | UnknownRows::AllOthers => None,
            UnknownRows::Rows(rows) => Some(delimited::encode_rows(&rows)),
        },
        files: Vec::new(),
        sizes: ReportSizes::default(),
    };
    for (kind, JobReport { bytes, found }) in [(ReportKind::Failures, failures), (ReportKind::Warnings, warnings)] {
        if bytes.is_empty() {
            continue;
        }
        let size = match kind {
            ReportKind::Failures => &mut stored.sizes.failures,
            ReportKind::Warnings => &mut stored.sizes.warnings,
        };
        *size = Some(bytes.len() as u64);
        stored.files.push(DividedFile::compress(kind, &bytes)?);
        // Every file that shares an import was accepted by a version that stores the line.
        if let Some(first_line) = packed.first_line {
            stored.sizes.matches.push(PackedRowMatch::compress(kind, first_line, &found.encode())?);
        }
    }
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_that_failed_leaves_no_outcome_unknown() {
        for lost in [StoreError::Damaged("chunk".into()), StoreError::Refused("no longer stored".into())] {
            assert!(is_lost(&lost), "{lost}");
        }
        for error in [StoreError::Disk("I/O error".into()), StoreError::Full, StoreError::Closed] {
            assert!(!is_lost(&error), "{error}");
        }
    }

    #[test]
    fn room_for_divided_reports_follows_from_the_counts() {
        let counts = |failed, warned| Counts { processed: None, failed, warned };
        let chunk = CHUNK_BYTES as u64;
        assert_eq!(divided_bytes(counts(Some(0), Some(3)), 9_000_000, 9_000), chunk, "at least one chunk");
        assert_eq!(divided_bytes(counts(Some(9_000), Some(0)), 9_000_000, 9_000), 9_000 * 1_100);
        assert_eq!(divided_bytes(counts(None, None), 9_000_000, 9_000), 2 * 9_000 * 1_100, "every row may be in both");
        assert_eq!(divided_bytes(counts(Some(u64::MAX), Some(0)), 9_000_000, 9_000), 9_000 * 1_100);
        assert_eq!(divided_bytes(counts(None, None), 0, 0), chunk);
    }
}
