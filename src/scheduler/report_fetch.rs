//! Report fetch: downloads one failure or warning file of an ended import.

use crate::clock::PATIENCE;
use crate::delimited::RowLimit;
use crate::domain::{BatchKey, FailureReason, ReportKind};
use crate::marketo::{ErrorAction, QueryError, Report, ReportFile};
use crate::scheduler::api_call::{Admission, Denial, ErrorScope, TokenUse};
use crate::scheduler::chunked_report::ChunkedReport;
use crate::scheduler::outcome::{FailedQuery, PollRetry, is_worth_retrying, query_failure_kind};
use crate::scheduler::worker_context::WorkerContext;
use crate::store::{Batch, ImportKey, Job, QueryFailure, RecordedQueryFailure, StoreError};

/// The bytes that a report may have beyond the rows that were sent: a reason for each row, and a header.
const REASON_BYTES: u64 = 1_000;
const SPARE_BYTES: u64 = 1 << 20;

/// Returns the maximum size of a report in bytes about an upload of `sent` bytes and `rows` rows.
pub(super) fn max_report_bytes(sent: u64, rows: u64) -> u64 {
    sent.saturating_add(rows.saturating_mul(REASON_BYTES)).saturating_add(SPARE_BYTES)
}

/// What became of a report.
pub(super) enum FetchedReport {
    File(StoredReport),
    None,
    /// It was not fetched. The batch's row has the time of the next attempt.
    Later,
}

/// A report that was fetched.
pub(super) struct StoredReport {
    pub bytes: u64,
    /// The limit in bytes, where it was exceeded and the report truncated.
    pub truncated_at: Option<u64>,
    /// The report, where its destination is the memory.
    pub content: Vec<u8>,
}

/// Why a report was not fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One report that is fetched.
pub(super) struct ReportFetch<'a> {
    pub context: &'a WorkerContext,
    pub key: BatchKey,
    pub job: &'a Job,
    pub batch: &'a Batch,
    pub kind: ReportKind,
    /// Marketo's count of the report's rows.
    pub count: Option<u64>,
    /// The largest size of the report in bytes. A report consists of rows that were sent and a reason for each, so a
    /// larger one does not come from a working Marketo.
    pub max_bytes: u64,
    /// Bytes that one transaction will store of the reports. Without space for them nothing is downloaded.
    pub room_bytes: u64,
    pub destination: Destination,
}

/// Where a report is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// In the store, in chunks.
    Store,
    /// In memory, until it is divided.
    Memory,
}

impl ReportFetch<'_> {
    /// Fetches the report, or records when it is fetched again.
    ///
    /// # Errors
    /// A database error.
    pub(super) async fn run(&self) -> Result<FetchedReport, StoreError> {
        let ReportFetch { context, job, batch, .. } = *self;
        let Some(id) = &batch.marketo_batch_id else { return Ok(FetchedReport::None) };
        // Checked before the call: a disk that is full for days must not use up a call each second.
        context.store.has_room_for_report(self.room_bytes).await?;
        let mut token_use = TokenUse::First;
        loop {
            let (token, guard) = match context.admit_call().await? {
                Admission::Admitted(token, guard) => (token, guard),
                Admission::Denied(Denial::NotNow) => return Ok(FetchedReport::Later),
                Admission::Denied(Denial::Unreachable(reason)) => {
                    return self.record_failure(Some(ErrorAction::ServiceDown), reason.into(), None).await;
                }
            };
            let client = context.client();
            let fetching = async {
                match client.report(&token, &job.target, id, self.kind).await? {
                    Report::File(file) => match self.destination {
                        Destination::Store => self.store(file).await,
                        Destination::Memory => self.read(file).await,
                    },
                    Report::None => Ok(None),
                }
            };
            // An incomplete report in the store is deleted when it is fetched again.
            let Some(fetched) = context.run_until_stop(guard, fetching).await else { return Ok(FetchedReport::Later) };
            match fetched {
                Ok(Some(stored)) => return Ok(FetchedReport::File(stored)),
                Ok(None) => return self.record_missing().await,
                Err(FetchError::Store(error)) => return Err(error),
                Err(FetchError::Query(error)) => {
                    match context.handle_refusal(error.action, &error.reason.text, &mut token_use).await? {
                        ErrorScope::Retry => {}
                        ErrorScope::Instance => return Ok(FetchedReport::Later),
                        ErrorScope::Batch => {
                            let QueryError { action, reason, request_id } = error;
                            return self.record_failure(Some(action), reason, request_id).await;
                        }
                    }
                }
            }
        }
    }

    /// Stores a report in chunks, up to the limit. Returns none for an empty one.
    async fn store(&self, mut file: ReportFile) -> Result<Option<StoredReport>, FetchError> {
        let ReportFetch { context, key, kind, max_bytes, .. } = *self;
        // An earlier attempt may have left an incomplete report.
        context.store.delete_report(key, kind).await?;
        let mut limit = RowLimit::new(self.job.format, max_bytes);
        let mut chunks = ChunkedReport::new(context, key, kind);
        loop {
            let bytes = match file.next().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => {
                    chunks.flush().await?;
                    let bytes = chunks.bytes();
                    return Ok((bytes > 0).then_some(StoredReport { bytes, truncated_at: None, content: Vec::new() }));
                }
                Err(reason) => return Err(broken_off(reason)),
            };
            match limit.push(&bytes) {
                None => chunks.push(&bytes).await?,
                // Dropping the file closes its connection. Where the truncated row began in an earlier chunk, that
                // chunk keeps some of its bytes, which are never read.
                Some(kept) => {
                    chunks.push_up_to(kept, &bytes).await?;
                    chunks.flush().await?;
                    if kept == 0 {
                        context.store.delete_report(key, kind).await?;
                    }
                    return Ok(Some(StoredReport { bytes: kept, truncated_at: Some(max_bytes), content: Vec::new() }));
                }
            }
        }
    }

    /// Reads a report into memory, up to the limit. Returns none for an empty one.
    async fn read(&self, mut file: ReportFile) -> Result<Option<StoredReport>, FetchError> {
        let mut content = Vec::new();
        while let Some(bytes) = file.next().await.map_err(broken_off)? {
            content.extend_from_slice(&bytes);
            if content.len() as u64 > self.max_bytes {
                return Ok(Some(StoredReport { bytes: 0, truncated_at: Some(self.max_bytes), content: Vec::new() }));
            }
        }
        let bytes = content.len() as u64;
        Ok((bytes > 0).then_some(StoredReport { bytes, truncated_at: None, content }))
    }

    /// Handles a missing report. Where Marketo counted rows for it, it may be late and is fetched again.
    async fn record_missing(&self) -> Result<FetchedReport, StoreError> {
        let Some(count) = self.count.filter(|&count| count > 0) else { return Ok(FetchedReport::None) };
        let kind = self.kind.as_str();
        let reason = match self.destination {
            Destination::Store => format!("Marketo counts {count} rows for the {kind} file and has no such file"),
            // They are rows of other jobs too.
            Destination::Memory => format!("Marketo counts rows for the {kind} file and has no such file"),
        };
        self.record_failure(None, reason.into(), None).await
    }

    /// Records a failed fetch: the time of the next attempt, or that the batch completes without the report.
    async fn record_failure(
        &self,
        action: Option<ErrorAction>,
        reason: FailureReason,
        request_id: Option<String>,
    ) -> Result<FetchedReport, StoreError> {
        let ReportFetch { context, key, batch, kind, .. } = *self;
        let import = ImportKey { batch: key, marketo_batch_id: batch.marketo_batch_id.clone().unwrap_or_default() };
        let clock = context.observe().await?;
        let now = clock.now();
        // No report is given up by age while the clock may be wrong.
        let accepted_at = batch.accepted_at.filter(|_| clock.steady_at(PATIENCE).is_none());
        if !is_worth_retrying(self.count, batch.query_failures) {
            tracing::debug!(instance = %context.name, job = %key.job, part = key.part, file = kind.as_str(), %reason, request_id,
                "report not available; Marketo counted no row for it");
            return Ok(FetchedReport::None);
        }
        let failed = FailedQuery { action, reason: &reason, accepted_at, failures_before: batch.query_failures };
        match failed.after_fetch(&context.config(), now) {
            PollRetry::GiveUp(reason) => {
                tracing::warn!(instance = %context.name, job = %key.job, part = key.part, file = kind.as_str(), %reason,
                    request_id, "report not available; the batch completes without it");
                let text = format!("complete without the {} file. {reason}", kind.as_str());
                let reason = reason.with_text(text);
                let failure = QueryFailure { reason, kind: query_failure_kind(action), not_before: now, request_id };
                context.store.record_query_failure(import, failure, now).await?;
                Ok(FetchedReport::None)
            }
            PollRetry::RetryAt(not_before) => {
                let (logged_reason, logged_id) = (reason.clone(), request_id.clone());
                let failure = QueryFailure { reason, kind: query_failure_kind(action), not_before, request_id };
                let RecordedQueryFailure { is_news, .. } =
                    context.store.record_query_failure(import, failure, now).await?;
                if is_news {
                    tracing::warn!(instance = %context.name, job = %key.job, part = key.part, file = kind.as_str(),
                        reason = %logged_reason, request_id = logged_id, %not_before, "fetching a report failed; it is retried");
                }
                Ok(FetchedReport::Later)
            }
        }
    }
}

fn broken_off(reason: String) -> FetchError {
    QueryError { action: ErrorAction::OutcomeUnknown, reason: reason.into(), request_id: None }.into()
}
