//! How does a batch get to Marketo? The intent is on the disk before the request leaves, and how it ended is recorded
//! before anything else is done about it.

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;

use crate::domain::batch::UploadAttempts;
use crate::domain::{BatchKey, BatchState, DeferReason, Event};
use crate::marketo::{CreatedImport, ErrorAction, UploadError, UploadRequest, max_content_bytes};
use crate::scheduler::api_call::Admission;
use crate::scheduler::outcome::{FailedUpload, service_backoff_until};
use crate::scheduler::plan::{SchedulingRules, may_still_upload};
use crate::scheduler::redaction::upload_error_without_values;
use crate::scheduler::split::{TooLarge, split_upload};
use crate::scheduler::worker_context::WorkerContext;
use crate::store::{Batch, ContentReader, FileKind, Job, StoreError};

/// Uploads a pending batch, if the instance still lets it.
pub(super) async fn upload(desk: &WorkerContext, key: BatchKey) -> Result<(), StoreError> {
    let (job, mut batch) = desk.store.batch(key).await?;
    let (mut begun, mut renewed, mut began) = (false, false, None);
    loop {
        let (token, pass) = match desk.admit_call().await {
            Ok(Admission::Admitted(token, pass)) => (token, pass),
            Ok(other) => return not_admitted(desk, key, other, begun).await,
            // A refused token was the last that Marketo said: the batch must not be left as if that were not known.
            Err(error) if begun => return put_back(desk, key, DeferReason::Instance, error.to_string(), None).await,
            Err(error) => return Err(error),
        };
        if !begun {
            // The wait at the gate may have been long: what was planned may have been cancelled, retried or paused since, or
            // uploads of the same plan may have been told that the queue is full.
            let begin = desk.endpoint.begin.lock().await;
            let clock = desk.observe().await?;
            let now = clock.now();
            let open =
                may_still_upload(&desk.snapshot(&clock).await?, &SchedulingRules::from_instance(&desk.config()), now);
            (_, batch) = desk.store.batch(key).await?;
            if !open || batch.state != BatchState::Pending {
                pass.finish().await;
                return Ok(());
            }
            if let Err(error) = desk.store.record_event(key, Event::UploadBegan, None, now).await {
                pass.finish().await;
                // Cancelled between the two.
                return if matches!(error, StoreError::Illegal(_)) { Ok(()) } else { Err(error) };
            }
            drop(begin);
            (begun, began) = (true, Some(now));
        }
        let (content, bytes) = content(desk, &job, &batch);
        let limit = desk.config().limits.upload_bytes;
        if bytes > max_content_bytes(&job.filename, limit) {
            pass.finish().await;
            return split_upload(desk, key, &job, &batch, TooLarge::ForUs(limit), None).await;
        }
        let upload = UploadRequest { target: &job.target, filename: &job.filename, format: job.format, bytes };
        let sent = desk.client().create(&token, upload, content, desk.stop.cancelled()).await;
        let fault = match sent {
            Ok(created) => {
                let recorded = accepted(desk, key, created).await;
                pass.finish().await;
                return recorded;
            }
            Err(fault) => upload_error_without_values(desk, &job, fault).await,
        };
        pass.finish().await;
        let asked = match &fault {
            UploadError::Refused { ask: ErrorAction::NewToken, .. } if !renewed => {
                renewed = true;
                continue;
            }
            UploadError::Refused { ask, reason, .. } => Some((*ask, reason.clone())),
            _ => None,
        };
        if let UploadError::Refused { ask: ErrorAction::TooLarge, request_id, .. } = fault {
            return split_upload(desk, key, &job, &batch, TooLarge::ForMarketo, request_id).await;
        }
        let (seen, now) = desk.seen().await;
        let request_id = request_id(&fault);
        let tried = UploadAttempts { attempts: batch.attempts + 1, began, ..batch.tried };
        let event = FailedUpload { tried, seen: &seen, instance: &desk.config(), now }.event(fault);
        record(desk, key, event, request_id).await?;
        // The batch first: a death between the two must not make an unknown outcome of a refusal.
        if let Some((ask, reason)) = asked {
            desk.handle_refusal(ask, &reason, &mut renewed).await?;
        }
        return Ok(());
    }
}

/// Settles a batch that was being uploaded when the daemon died: whether Marketo has it is unknown.
pub(super) async fn recover(desk: &WorkerContext, key: BatchKey) -> Result<(), StoreError> {
    let (_, batch) = desk.store.batch(key).await?;
    let reason = "the daemon ended while the upload was under way".to_owned();
    let clock = desk.observe().await?;
    let (seen, now) = (desk.snapshot(&clock).await?, clock.now());
    let event = FailedUpload { tried: batch.tried, seen: &seen, instance: &desk.config(), now }.interrupted(reason);
    record(desk, key, event, None).await
}

async fn not_admitted(desk: &WorkerContext, key: BatchKey, why: Admission<'_>, begun: bool) -> Result<(), StoreError> {
    let (seen, now) = desk.seen().await;
    let (reason, until) = match why {
        Admission::Unreachable(reason) => (reason, Some(service_backoff_until(&seen, &desk.config(), now))),
        _ => ("the instance is paused".to_owned(), None),
    };
    if begun {
        // A refused token was the last that Marketo said, so there is no import.
        let wait = if until.is_some() { DeferReason::Service } else { DeferReason::Instance };
        return put_back(desk, key, wait, reason, until).await;
    }
    if let Some(until) = until {
        tracing::warn!(instance = %desk.name, %reason, %until, "Marketo can't be reached");
        desk.store.record_service_failure(&desk.name, until, now).await?;
    }
    Ok(())
}

async fn put_back(
    desk: &WorkerContext,
    key: BatchKey,
    wait: DeferReason,
    reason: String,
    not_before: Option<Timestamp>,
) -> Result<(), StoreError> {
    record(desk, key, Event::Requeued { defer_reason: wait, reason, not_before }, None).await
}

async fn accepted(desk: &WorkerContext, key: BatchKey, created: CreatedImport) -> Result<(), StoreError> {
    let CreatedImport { marketo_batch_id, status, request_id } = created;
    tracing::info!(instance = %desk.name, job = %key.job, part = key.part, marketo_batch_id, ?status, request_id,
        "Marketo took the batch");
    let event = Event::Accepted { marketo_batch_id, status };
    // Another import of the batch may have been watched before.
    desk.import_watch.forget(key);
    desk.import_watch.record_answer(key);
    desk.record_event(key, event, request_id).await.map(drop)
}

async fn record(
    desk: &WorkerContext,
    key: BatchKey,
    event: Event,
    request_id: Option<String>,
) -> Result<(), StoreError> {
    let (event_name, message) = (event.name(), event.message().map(str::to_owned));
    let state = desk.record_event(key, event, request_id.clone()).await?;
    tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, event = event_name, %state, request_id,
        message, "the upload did not succeed");
    Ok(())
}

fn request_id(fault: &UploadError) -> Option<String> {
    match fault {
        UploadError::NeverSent(_) | UploadError::Stopped | UploadError::BrokenOff(_) => None,
        UploadError::Refused { request_id, .. } | UploadError::AnswerLost { request_id, .. } => request_id.clone(),
    }
}

/// The header and the batch's rows, as they stand in the store, and how many bytes they are.
fn content(
    desk: &WorkerContext,
    job: &Job,
    batch: &Batch,
) -> (impl Stream<Item = std::io::Result<Bytes>> + Send + use<>, u64) {
    let span = |(from, to)| desk.store.content(job.id, FileKind::File, 0, from, to);
    let rows = (batch.byte_from, batch.byte_to);
    let bytes = (job.header.1 - job.header.0) + (rows.1 - rows.0);
    (pieces(span(job.header)).chain(pieces(span(rows))), bytes)
}

fn pieces(content: ContentReader) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    stream::try_unfold(content, async |mut content| {
        let piece = content.next().await.map_err(std::io::Error::other)?;
        Ok(piece.map(|piece| (Bytes::from(piece), content)))
    })
}
