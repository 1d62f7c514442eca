//! Report worker: fetches the failure and warning files of an ended import into the store, byte for byte.

use crate::clock::PATIENCE;
use crate::delimited::RowLimit;
use crate::domain::{BatchKey, BatchState, Event, Format};
use crate::marketo::{ErrorAction, QueryError, Report, ReportFile, ReportKind};
use crate::scheduler::api_call::{Admission, Denial, ErrorScope};
use crate::scheduler::outcome::{PollRetry, fetch_failed, is_worth_retrying, may_have_report, query_failure_kind};
use crate::scheduler::worker_context::WorkerContext;
use crate::store::{
    Batch, CHUNK_BYTES, CompressedChunk, FileKind, Job, QueryFailure, RecordedQueryFailure, ReportSizes, StoreError,
};

/// Fetches the reports of a batch, and records the batch as complete when it has them.
///
/// # Errors
/// A database error.
pub(super) async fn fetch_reports(context: &WorkerContext, key: BatchKey) -> Result<(), StoreError> {
    let (job, batch) = context.store.batch(key).await?;
    if batch.state != BatchState::Collecting {
        return Ok(());
    }
    let (mut sizes, mut truncations) = ([None, None], Vec::new());
    let reports = [
        (ReportKind::Failures, FileKind::Failures, batch.counts.failed),
        (ReportKind::Warnings, FileKind::Warnings, batch.counts.warned),
    ];
    for (size, (report, kind, count)) in sizes.iter_mut().zip(reports) {
        if !may_have_report(report, batch.counts, batch.rows.total) {
            continue;
        }
        match fetch(context, key, &job, &batch, report, kind, count).await? {
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
    let stored = ReportSizes { failures, warnings, truncations };
    context.store.set_report_sizes(key, stored, context.clock.now()).await?;
    context.store.record_event(key, Event::Collected, None, context.clock.now()).await?;
    tracing::info!(instance = %context.name, job = %key.job, part = key.part, failures_bytes = failures,
        warnings_bytes = warnings, "batch complete");
    Ok(())
}

enum FetchedReport {
    File(StoredReport),
    None,
    /// It was not fetched. The batch's row has the time of the next attempt.
    Later,
}

/// A report in the store.
struct StoredReport {
    bytes: u64,
    /// The limit in bytes, where it was exceeded and the report truncated.
    truncated_at: Option<u64>,
}

/// The bytes that a report may have beyond the rows that were sent: a reason for each row, and a header.
const REASON_BYTES: u64 = 1_000;
const SPARE_BYTES: u64 = 1 << 20;

/// Returns the maximum size of a report in bytes. A report consists of rows that were sent and a reason for each, so a
/// larger one does not come from a working Marketo.
fn max_report_bytes(job: &Job, batch: &Batch) -> u64 {
    let sent = (job.header.1 - job.header.0) + (batch.byte_to - batch.byte_from);
    sent.saturating_add(batch.rows.total.saturating_mul(REASON_BYTES)).saturating_add(SPARE_BYTES)
}

async fn fetch(
    context: &WorkerContext,
    key: BatchKey,
    job: &Job,
    batch: &Batch,
    report: ReportKind,
    kind: FileKind,
    count: Option<u64>,
) -> Result<FetchedReport, StoreError> {
    let Some(id) = &batch.marketo_batch_id else { return Ok(FetchedReport::None) };
    let max_bytes = max_report_bytes(job, batch);
    // Checked before the call: a disk that is full for days must not use up a call each second.
    context.store.has_room_for_report().await?;
    let mut renewed = false;
    loop {
        let (token, guard) = match context.admit_call().await? {
            Admission::Admitted(token, guard) => (token, guard),
            Admission::Denied(Denial::NotNow) => return Ok(FetchedReport::Later),
            Admission::Denied(Denial::Unreachable(reason)) => {
                return record_failure(context, key, batch, kind, Some(ErrorAction::ServiceDown), reason, None).await;
            }
        };
        let client = context.client();
        let fetching = async {
            match client.report(&token, &job.target, id, report).await {
                Ok(Report::File(file)) => store(context, key, kind, file, max_bytes, job.format).await,
                Ok(Report::None) => Ok(Ok(None)),
                Err(error) => Ok(Err(error)),
            }
        };
        // An incomplete report in the store is deleted when it is fetched again.
        let Some(fetched) = context.run_until_stop(guard, fetching).await else { return Ok(FetchedReport::Later) };
        match fetched? {
            Ok(Some(stored)) => return Ok(FetchedReport::File(stored)),
            Ok(None) => return record_missing(context, key, batch, kind, count).await,
            Err(error) => match context.handle_refusal(error.action, &error.reason, &mut renewed).await? {
                ErrorScope::Retry => {}
                ErrorScope::Instance => return Ok(FetchedReport::Later),
                ErrorScope::Batch => {
                    let QueryError { action, reason, request_id } = error;
                    return record_failure(context, key, batch, kind, Some(action), reason, request_id).await;
                }
            },
        }
    }
}

/// Stores a report in chunks, up to the limit. Returns none for an empty one.
async fn store(
    context: &WorkerContext,
    key: BatchKey,
    kind: FileKind,
    mut file: ReportFile,
    max_bytes: u64,
    format: Format,
) -> Result<Result<Option<StoredReport>, QueryError>, StoreError> {
    // An earlier attempt may have left an incomplete report.
    context.store.delete_report(key, kind).await?;
    let mut limit = RowLimit::new(format, max_bytes);
    let mut chunks = ChunkedReport { context, key, kind, from: 0, buffer: Vec::with_capacity(CHUNK_BYTES) };
    loop {
        let bytes = match file.next().await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                chunks.flush().await?;
                return Ok(Ok((chunks.from > 0).then_some(StoredReport { bytes: chunks.from, truncated_at: None })));
            }
            Err(reason) => {
                return Ok(Err(QueryError { action: ErrorAction::OutcomeUnknown, reason, request_id: None }));
            }
        };
        match limit.push(&bytes) {
            None => chunks.push(&bytes).await?,
            // Dropping the file closes its connection. Where the truncated row began in an earlier chunk, that chunk
            // keeps some of its bytes, which are never read.
            Some(kept) => {
                chunks.push_up_to(kept, &bytes).await?;
                chunks.flush().await?;
                if kept == 0 {
                    context.store.delete_report(key, kind).await?;
                }
                return Ok(Ok(Some(StoredReport { bytes: kept, truncated_at: Some(max_bytes) })));
            }
        }
    }
}

/// Buffers a report and writes it to the store in chunks.
struct ChunkedReport<'a> {
    context: &'a WorkerContext,
    key: BatchKey,
    kind: FileKind,
    /// The offset of the buffer in the report.
    from: u64,
    buffer: Vec<u8>,
}

impl ChunkedReport<'_> {
    async fn push(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == CHUNK_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Keeps of the buffer and of `bytes` what lies before byte `end` of the report.
    async fn push_up_to(&mut self, end: u64, bytes: &[u8]) -> Result<(), StoreError> {
        // The difference fits in `usize`, because the buffer and `bytes` are in memory.
        let room = end.saturating_sub(self.from) as usize;
        if room <= self.buffer.len() {
            self.buffer.truncate(room);
            return Ok(());
        }
        let more = room - self.buffer.len();
        self.push(&bytes[..more]).await
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = CompressedChunk::compress(self.from, &self.buffer)
            .map_err(|error| StoreError::Refused(error.to_string()))?;
        self.from += self.buffer.len() as u64;
        self.buffer.clear();
        self.context.store.insert_report_chunk(self.key, self.kind, chunk).await
    }
}

/// Handles a missing report. Where Marketo counted rows for it, it may be late and is fetched again.
async fn record_missing(
    context: &WorkerContext,
    key: BatchKey,
    batch: &Batch,
    kind: FileKind,
    count: Option<u64>,
) -> Result<FetchedReport, StoreError> {
    let Some(count) = count.filter(|&count| count > 0) else { return Ok(FetchedReport::None) };
    let reason = format!("Marketo counts {count} rows for the {} file and has no such file", kind.as_str());
    record_failure(context, key, batch, kind, None, reason, None).await
}

/// Records a failed fetch: the time of the next attempt, or that the batch completes without the report.
async fn record_failure(
    context: &WorkerContext,
    key: BatchKey,
    batch: &Batch,
    kind: FileKind,
    action: Option<ErrorAction>,
    reason: String,
    request_id: Option<String>,
) -> Result<FetchedReport, StoreError> {
    let clock = context.observe().await?;
    let now = clock.now();
    // No report is given up by age while the clock may be wrong.
    let accepted_at = batch.accepted_at.filter(|_| clock.steady_at(PATIENCE).is_none());
    let counted = if kind == FileKind::Failures { batch.counts.failed } else { batch.counts.warned };
    if !is_worth_retrying(counted, batch.query_failures) {
        tracing::debug!(instance = %context.name, job = %key.job, part = key.part, file = kind.as_str(), %reason, request_id,
            "report not available; Marketo counted no row for it");
        return Ok(FetchedReport::None);
    }
    match fetch_failed(action, &reason, accepted_at, batch.query_failures, &context.config(), now) {
        PollRetry::GiveUp(reason) => {
            tracing::warn!(instance = %context.name, job = %key.job, part = key.part, file = kind.as_str(), %reason,
                request_id, "report not available; the batch completes without it");
            let reason = format!("complete without the {} file. {reason}", kind.as_str());
            let failure = QueryFailure { reason, kind: query_failure_kind(action), not_before: now, request_id };
            context.store.record_query_failure(key, failure, now).await?;
            Ok(FetchedReport::None)
        }
        PollRetry::RetryAt(not_before) => {
            let (logged_reason, logged_id) = (reason.clone(), request_id.clone());
            let failure = QueryFailure { reason, kind: query_failure_kind(action), not_before, request_id };
            let RecordedQueryFailure { is_news, .. } = context.store.record_query_failure(key, failure, now).await?;
            if is_news {
                tracing::warn!(instance = %context.name, job = %key.job, part = key.part, file = kind.as_str(),
                    reason = logged_reason, request_id = logged_id, %not_before, "fetching a report failed; it is retried");
            }
            Ok(FetchedReport::Later)
        }
    }
}
