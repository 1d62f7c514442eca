//! Report worker: fetches the failure and warning files of an ended import into the store, byte for byte.

use crate::domain::{BatchKey, BatchState, Event, ReportKind};
use crate::scheduler::outcome::may_have_report;
use crate::scheduler::report_fetch::{Destination, FetchedReport, ReportFetch, max_report_bytes};
use crate::scheduler::row_matching;
use crate::scheduler::row_matching::ReportBytes;
use crate::scheduler::shared_reports::{EndedSharedImport, fetch_shared_reports};
use crate::scheduler::worker_context::WorkerContext;
use crate::store::{Batch, CHUNK_BYTES, Job, PackedRowMatch, ReportSizes, StoreError};

/// Fetches the reports of a batch, and records the batch as complete when it has them.
///
/// # Errors
/// A database error.
pub(super) async fn fetch_reports(context: &WorkerContext, key: BatchKey) -> Result<(), StoreError> {
    let (job, batch) = context.store.batch(key).await?;
    if batch.state != BatchState::Collecting {
        return Ok(());
    }
    if let Some(shared) = context.store.shared_import(key).await? {
        let import = EndedSharedImport { key, job: &job, batch: &batch, shared: &shared };
        return fetch_shared_reports(context, import).await;
    }
    let max_bytes = max_report_bytes(sent_bytes(&job, &batch), batch.rows.total);
    let (mut sizes, mut truncations) = ([None, None], Vec::new());
    let reports = [(ReportKind::Failures, batch.counts.failed), (ReportKind::Warnings, batch.counts.warned)];
    for (size, (kind, count)) in sizes.iter_mut().zip(reports) {
        if !may_have_report(kind, batch.counts, batch.rows.total) {
            continue;
        }
        let destination = Destination::Store;
        let room_bytes = CHUNK_BYTES as u64;
        let fetch =
            ReportFetch { context, key, job: &job, batch: &batch, kind, count, max_bytes, room_bytes, destination };
        match fetch.run().await? {
            FetchedReport::File(stored) => {
                *size = Some(stored.bytes).filter(|&bytes| bytes > 0);
                if let Some(limit) = stored.truncated_at {
                    let (file, kept, sent) = (kind.as_str(), stored.bytes, batch.rows.total);
                    tracing::warn!(instance = %context.name, job = %key.job, part = key.part, file, limit, kept,
                        "report is larger than the rows that were sent allow; it was truncated");
                    truncations.push(format!(
                        "Marketo's {file} file has more than {limit} bytes, the most that is kept for {sent} rows; \
                         it is truncated after the last complete row, at {kept} bytes"
                    ));
                }
            }
            FetchedReport::None => {}
            FetchedReport::Later => return Ok(()),
        }
    }
    let [failures, warnings] = sizes;
    let matches = match_rows(context, &job, &batch, ReportBytes { failures, warnings }).await;
    let stored = ReportSizes { failures, warnings, truncations, matches };
    context.store.set_report_sizes(key, stored, context.clock.now()).await?;
    context.store.record_event(key, Event::Collected, None, context.clock.now()).await?;
    tracing::info!(instance = %context.name, job = %key.job, part = key.part, failures_bytes = failures,
        warnings_bytes = warnings, "batch complete");
    Ok(())
}

/// Matches the reports' rows with those that were sent. A match that can't be made is made when it is asked for, and
/// keeps no batch from completing.
async fn match_rows(context: &WorkerContext, job: &Job, batch: &Batch, bytes: ReportBytes) -> Vec<PackedRowMatch> {
    row_matching::pack_matches(&context.store, job, batch, bytes).await.unwrap_or_else(|error| {
        tracing::warn!(instance = %context.name, job = %job.id, part = batch.part, %error,
            "rows of the reports were not matched with those that were sent");
        Vec::new()
    })
}

fn sent_bytes(job: &Job, batch: &Batch) -> u64 {
    (job.header.1 - job.header.0) + (batch.byte_to - batch.byte_from)
}
