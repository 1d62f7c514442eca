//! Upload worker: sends one batch to Marketo, in three steps: begin, send, record.
//!
//! The begin of the upload is on disk before the request is sent, and its outcome is recorded before any other effect.
//! After a crash the row therefore shows whether Marketo may have the batch.

use jiff::Timestamp;

use crate::clock::after;
use crate::domain::batch::UploadAttempts;
use crate::domain::{BatchKey, BatchState, DeferReason, Event, FailureReason};
use crate::marketo::{AccessToken, CreatedImport, ErrorAction, UploadError, UploadRequest, max_content_bytes};
use crate::scheduler::api_call::{Admission, CallGuard, Denial, TokenUse};
use crate::scheduler::outcome::{FailedSharedUpload, FailedUpload, service_backoff_until};
use crate::scheduler::plan::{SchedulingRules, max_packed_jobs, may_still_upload};
use crate::scheduler::redaction::{shared_upload_error, upload_error_without_values};
use crate::scheduler::split::{OversizedBatch, TooLarge, split_upload};
use crate::scheduler::upload_content::upload_content;
use crate::scheduler::worker_context::WorkerContext;
use crate::store::{
    Batch, Job, PackLimits, PackedRows, SharingEnd, SharingLimit, StoreError, UploadBegin, UploadCheck,
};

/// An upload that is recorded as begun.
struct BegunUpload {
    key: BatchKey,
    job: Job,
    /// The batch before the upload began.
    batch: Batch,
    /// The rows of the jobs that share the import, this batch's first; none where it goes alone.
    packed: Vec<PackedRows>,
    began_at: Timestamp,
}

/// How one request ended.
enum SendOutcome {
    Accepted(CreatedImport),
    Failed(UploadError),
    /// The upload is larger than `limits.upload_bytes`. No request was made.
    OverLimit(u64),
}

/// Uploads a pending batch, if the instance still allows it.
///
/// # Errors
/// A database error.
pub(super) async fn upload(context: &WorkerContext, key: BatchKey) -> Result<(), StoreError> {
    let (token, guard) = match context.admit_call().await? {
        Admission::Admitted(token, guard) => (token, guard),
        Admission::Denied(Denial::NotNow) => return Ok(()),
        Admission::Denied(Denial::Unreachable(reason)) => return record_unreachable(context, reason).await,
    };
    let upload = match begin(context, key).await {
        Ok(Some(upload)) => upload,
        not_begun => {
            guard.finish().await;
            return not_begun.map(drop);
        }
    };
    let outcome = send(context, &upload, &token).await;
    if !is_refused_token(&outcome) {
        return record_outcome(context, &upload, outcome, guard).await;
    }
    // Marketo refused the token and made no import. The batch is sent once more with a new token.
    guard.finish().await;
    let (token, guard) = match context.admit_call().await {
        Ok(Admission::Admitted(token, guard)) => (token, guard),
        Ok(Admission::Denied(denial)) => return requeue_denied(context, key, denial).await,
        Err(error) => {
            let event = requeued(DeferReason::Instance, error.to_string(), None);
            return record_event(context, key, event, None).await;
        }
    };
    let outcome = send(context, &upload, &token).await;
    record_outcome(context, &upload, outcome, guard).await
}

/// Step 1: checks that the batch may still be uploaded, and records that its upload begins. Returns none where it may
/// not.
async fn begin(context: &WorkerContext, key: BatchKey) -> Result<Option<BegunUpload>, StoreError> {
    // The wait at the rate limiter may have been long: the batch may have been cancelled or retried since the plan, the
    // instance paused, or its queue found full by another upload.
    let _one_at_a_time = context.endpoint.begin.lock().await;
    let clock = context.observe().await?;
    let began_at = clock.now();
    let rules = SchedulingRules::from_instance(&context.config());
    let UploadCheck { slots, job, batch } = context.upload_check(key, &clock).await?;
    if !may_still_upload(&slots, &rules, began_at) || batch.state != BatchState::Pending {
        return Ok(None);
    }
    let limits = PackLimits {
        max_jobs: max_packed_jobs(&slots),
        max_bytes: max_content_bytes(&job.filename, context.config().limits.upload_bytes),
        latest_not_before: after(began_at, rules.longest_pause()),
    };
    match context.store.begin_upload(UploadBegin { key, limits, now: began_at }).await {
        Ok(packed) => Ok(Some(BegunUpload { key, job, batch, packed, began_at })),
        // The batch was cancelled, or the instance paused, after they were read.
        Err(StoreError::Illegal(_) | StoreError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Step 2: sends the header and the batch's rows, or those of all batches that share the import.
async fn send(context: &WorkerContext, upload: &BegunUpload, token: &AccessToken) -> SendOutcome {
    let BegunUpload { job, batch, packed, .. } = upload;
    let content = match upload_content(&context.store, job, batch, packed).await {
        Ok(content) => content,
        Err(error) => return SendOutcome::Failed(UploadError::BrokenOff(error.to_string())),
    };
    let bytes = content.bytes;
    let limit = context.config().limits.upload_bytes;
    if bytes > max_content_bytes(&job.filename, limit) {
        return SendOutcome::OverLimit(limit);
    }
    let request = UploadRequest { target: &job.target, filename: &job.filename, format: job.format, bytes };
    let content = content.stream;
    match context.client().create(token, request, content, context.stop.cancelled()).await {
        Ok(created) => SendOutcome::Accepted(created),
        Err(error) if packed.is_empty() => SendOutcome::Failed(upload_error_without_values(context, job, error).await),
        Err(error) => SendOutcome::Failed(shared_upload_error(error, packed.len())),
    }
}

fn is_refused_token(outcome: &SendOutcome) -> bool {
    matches!(outcome, SendOutcome::Failed(UploadError::Refused { action: ErrorAction::NewToken, .. }))
}

/// Step 3: records the outcome of the request and the end of the call.
async fn record_outcome(
    context: &WorkerContext,
    upload: &BegunUpload,
    outcome: SendOutcome,
    guard: CallGuard<'_>,
) -> Result<(), StoreError> {
    match outcome {
        SendOutcome::Accepted(created) => {
            let recorded = record_accepted(context, upload.key, created).await;
            guard.finish().await;
            recorded
        }
        SendOutcome::OverLimit(limit) => {
            guard.finish().await;
            split(context, upload, TooLarge::ForUs(limit), None).await
        }
        SendOutcome::Failed(UploadError::Refused { action: ErrorAction::TooLarge, request_id, .. }) => {
            guard.finish().await;
            split(context, upload, TooLarge::ForMarketo, request_id).await
        }
        SendOutcome::Failed(error) => {
            guard.finish().await;
            record_failed(context, upload, error).await
        }
    }
}

/// Splits an upload that is too large: one of several jobs between them, one of a single job between its rows.
async fn split(
    context: &WorkerContext,
    upload: &BegunUpload,
    limit: TooLarge,
    request_id: Option<String>,
) -> Result<(), StoreError> {
    let BegunUpload { key, job, batch, packed, .. } = upload;
    if packed.is_empty() {
        return split_upload(context, *key, OversizedBatch { job, batch, limit, request_id }).await;
    }
    let header = job.header.1 - job.header.0;
    let bytes = header + packed.iter().map(PackedRows::bytes_sent).sum::<u64>();
    let reason = format!("{}: its {} jobs are sent in smaller imports", limit.reason(bytes), packed.len());
    let end = SharingEnd { event: Event::Split { reason }, limit: SharingLimit::MaxBytes(bytes / 2), request_id };
    end_sharing(context, *key, end).await
}

/// Records that the jobs of an import are sent again in other imports.
async fn end_sharing(context: &WorkerContext, key: BatchKey, end: SharingEnd) -> Result<(), StoreError> {
    tracing::warn!(instance = %context.name, job = %key.job, part = key.part, limit = ?end.limit,
        request_id = end.request_id, reason = end.event.message(), "a shared import failed; its jobs are sent again");
    let now = context.clock.now();
    context.record_with_retry(key, "split", || context.store.end_sharing(key, end.clone(), now)).await
}

/// Records that each job of an import is sent again alone.
async fn send_alone(
    context: &WorkerContext,
    key: BatchKey,
    event: Event,
    request_id: Option<String>,
) -> Result<(), StoreError> {
    end_sharing(context, key, SharingEnd { event, limit: SharingLimit::Alone, request_id }).await
}

async fn record_accepted(context: &WorkerContext, key: BatchKey, created: CreatedImport) -> Result<(), StoreError> {
    let CreatedImport { marketo_batch_id, status, request_id } = created;
    tracing::info!(instance = %context.name, job = %key.job, part = key.part, marketo_batch_id, ?status, request_id,
        "upload accepted");
    let event = Event::Accepted { marketo_batch_id, status };
    // An earlier import of the batch may be in the watch.
    context.import_watch.remove(key);
    context.import_watch.record_answer(key);
    context.record_event(key, event, request_id).await.map(drop)
}

async fn record_failed(context: &WorkerContext, upload: &BegunUpload, error: UploadError) -> Result<(), StoreError> {
    let refusal = match &error {
        UploadError::Refused { action, reason, .. } => Some((*action, reason.text.clone())),
        _ => None,
    };
    let request_id = request_id(&error);
    // A file of one of the jobs could not be read, for example.
    let is_broken_off = matches!(error, UploadError::BrokenOff(_));
    let (snapshot, now) = context.snapshot_or_default().await;
    let BegunUpload { batch, began_at, .. } = upload;
    let tried = UploadAttempts { attempts: batch.attempts + 1, began: Some(*began_at), ..batch.tried };
    let event = FailedUpload { tried, snapshot: &snapshot, instance: &context.config(), now }.event(error);
    let others = u32::try_from(upload.packed.len().saturating_sub(1)).unwrap_or(u32::MAX);
    let failed = FailedSharedUpload { event: &event, others, is_broken_off, now };
    match failed.sent_alone().filter(|_| others > 0) {
        Some(event) => send_alone(context, upload.key, event, request_id).await?,
        None => record_event(context, upload.key, event, request_id).await?,
    }
    // The batch is recorded before the instance. In the other order a crash in between would leave the batch
    // `uploading`, and the refusal would be taken for an unknown outcome.
    if let Some((action, reason)) = refusal {
        // A refused token was renewed before this attempt.
        let mut token_use = TokenUse::Renewed;
        context.handle_refusal(action, &reason, &mut token_use).await?;
    }
    Ok(())
}

/// Settles a batch whose upload was under way when the daemon stopped: whether Marketo has it is unknown.
///
/// # Errors
/// A database error.
pub(super) async fn recover(context: &WorkerContext, key: BatchKey) -> Result<(), StoreError> {
    let (_, batch) = context.store.batch(key).await?;
    let reason = "the daemon ended while the upload was under way".into();
    let clock = context.observe().await?;
    let (snapshot, now) = (context.snapshot(&clock).await?, clock.now());
    let failed = FailedUpload { tried: batch.tried, snapshot: &snapshot, instance: &context.config(), now };
    let event = failed.interrupted(reason);
    let failed = FailedSharedUpload { event: &event, others: batch.shared_with, is_broken_off: false, now };
    match failed.sent_alone().filter(|_| batch.shared_with > 0) {
        Some(event) => send_alone(context, key, event, None).await,
        None => record_event(context, key, event, None).await,
    }
}

/// Records that no token could be obtained before the upload began.
async fn record_unreachable(context: &WorkerContext, reason: String) -> Result<(), StoreError> {
    let (snapshot, now) = context.snapshot_or_default().await;
    let until = service_backoff_until(&snapshot, &context.config(), now);
    tracing::warn!(instance = %context.name, %reason, %until, "Marketo is unreachable; uploads wait");
    context.store.record_service_failure(&context.name, until, now).await
}

/// Puts a batch back whose upload has begun and cannot be repeated with a new token.
async fn requeue_denied(context: &WorkerContext, key: BatchKey, denial: Denial) -> Result<(), StoreError> {
    let event = match denial {
        Denial::NotNow => requeued(DeferReason::Instance, "the instance is paused".to_owned(), None),
        Denial::Unreachable(reason) => {
            let (snapshot, now) = context.snapshot_or_default().await;
            let until = service_backoff_until(&snapshot, &context.config(), now);
            requeued(DeferReason::Service, reason, Some(until))
        }
    };
    record_event(context, key, event, None).await
}

fn requeued(defer_reason: DeferReason, reason: impl Into<FailureReason>, not_before: Option<Timestamp>) -> Event {
    Event::Requeued { defer_reason, reason: reason.into(), not_before }
}

async fn record_event(
    context: &WorkerContext,
    key: BatchKey,
    event: Event,
    request_id: Option<String>,
) -> Result<(), StoreError> {
    let (event_name, reason) = (event.name(), event.message().map(str::to_owned));
    let state = context.record_event(key, event, request_id.clone()).await?;
    tracing::warn!(instance = %context.name, job = %key.job, part = key.part, event = event_name, %state, request_id,
        reason, "upload failed");
    Ok(())
}

fn request_id(error: &UploadError) -> Option<String> {
    match error {
        UploadError::NeverSent(_) | UploadError::Stopped | UploadError::BrokenOff(_) => None,
        UploadError::Refused { request_id, .. } | UploadError::AnswerLost { request_id, .. } => request_id.clone(),
    }
}
