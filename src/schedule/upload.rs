//! How does a batch get to Marketo? The intent is on the disk before the request leaves, and how it ended is recorded
//! before anything else is done about it.

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;

use super::call::Admitted;
use super::desk::Desk;
use super::halve::{TooLarge, halve};
use super::outcome::{FailedUpload, service_quiet};
use super::plan::{Rules, still_open};
use super::without_values::fault_without_values;
use crate::job::{BatchKey, BatchState, Event, Wait};
use crate::marketo::{Ask, CreateFault, Created, Upload, content_limit};
use crate::store::{Batch, Content, Job, Kind, StoreError, Tried};

/// Uploads a pending batch, if the instance still lets it.
pub(super) async fn upload(desk: &Desk, key: BatchKey) -> Result<(), StoreError> {
    let (job, mut batch) = desk.store.batch(key).await?;
    let (mut begun, mut renewed, mut began) = (false, false, None);
    loop {
        let (token, pass) = match desk.admit().await {
            Ok(Admitted::Go(token, pass)) => (token, pass),
            Ok(other) => return not_admitted(desk, key, other, begun).await,
            // A refused token was the last that Marketo said: the batch must not be left as if that were not known.
            Err(error) if begun => return put_back(desk, key, Wait::Instance, error.to_string(), None).await,
            Err(error) => return Err(error),
        };
        if !begun {
            // The wait at the gate may have been long: what was planned may have been cancelled, retried or paused since, or
            // uploads of the same plan may have been told that the queue is full.
            let begin = desk.endpoint.begin.lock().await;
            let now = desk.clock.now();
            let open = still_open(&desk.snapshot(now).await?, &Rules::of(&desk.config()), now);
            (_, batch) = desk.store.batch(key).await?;
            if !open || batch.state != BatchState::Pending {
                pass.over().await;
                return Ok(());
            }
            if let Err(error) = desk.store.record(key, Event::UploadBegan, None, now).await {
                pass.over().await;
                // Cancelled between the two.
                return if matches!(error, StoreError::Illegal(_)) { Ok(()) } else { Err(error) };
            }
            drop(begin);
            (begun, began) = (true, Some(now));
        }
        let (content, bytes) = content(desk, &job, &batch);
        let limit = desk.config().limits.upload_bytes;
        if bytes > content_limit(&job.filename, limit) {
            pass.over().await;
            return halve(desk, key, &job, &batch, TooLarge::ForUs(limit), None).await;
        }
        let upload = Upload { target: &job.target, filename: &job.filename, format: job.format, bytes };
        let sent = desk.client().create(&token, upload, content, desk.stop.cancelled()).await;
        let fault = match sent {
            Ok(created) => {
                let recorded = accepted(desk, key, created).await;
                pass.over().await;
                return recorded;
            }
            Err(fault) => fault_without_values(desk, &job, fault).await,
        };
        pass.over().await;
        let asked = match &fault {
            CreateFault::Refused { ask: Ask::NewToken, .. } if !renewed => {
                renewed = true;
                continue;
            }
            CreateFault::Refused { ask, reason, .. } => Some((*ask, reason.clone())),
            _ => None,
        };
        if let CreateFault::Refused { ask: Ask::TooLarge, request_id, .. } = fault {
            return halve(desk, key, &job, &batch, TooLarge::ForMarketo, request_id).await;
        }
        let now = desk.clock.now();
        // It only sizes pauses.
        let seen = desk.snapshot(now).await.unwrap_or_default();
        let request_id = request_id(&fault);
        let tried = Tried { attempts: batch.attempts + 1, began, ..batch.tried };
        let event = FailedUpload { tried, seen: &seen, instance: &desk.config(), now }.after(fault);
        record(desk, key, event, request_id).await?;
        // The batch first: a death between the two must not make an unknown outcome of a refusal.
        if let Some((ask, reason)) = asked {
            desk.heed(ask, &reason, &mut renewed).await?;
        }
        return Ok(());
    }
}

/// Settles a batch that was being uploaded when the daemon died: whether Marketo has it is unknown.
pub(super) async fn recover(desk: &Desk, key: BatchKey) -> Result<(), StoreError> {
    let (_, batch) = desk.store.batch(key).await?;
    let reason = "the daemon ended while the upload was under way".to_owned();
    let now = desk.clock.now();
    let seen = desk.snapshot(now).await?;
    let event = FailedUpload { tried: batch.tried, seen: &seen, instance: &desk.config(), now }.interrupted(reason);
    record(desk, key, event, None).await
}

async fn not_admitted(desk: &Desk, key: BatchKey, why: Admitted<'_>, begun: bool) -> Result<(), StoreError> {
    let now = desk.clock.now();
    let (reason, until) = match why {
        Admitted::Unreachable(reason) => {
            // It only sizes the pause.
            let seen = desk.snapshot(now).await.unwrap_or_default();
            (reason, Some(service_quiet(&seen, &desk.config(), now)))
        }
        _ => ("the instance is paused".to_owned(), None),
    };
    if begun {
        // A refused token was the last that Marketo said, so there is no import.
        let wait = if until.is_some() { Wait::Service } else { Wait::Instance };
        return put_back(desk, key, wait, reason, until).await;
    }
    if let Some(until) = until {
        tracing::warn!(instance = %desk.name, %reason, %until, "Marketo can't be reached");
        desk.store.service_failed(&desk.name, until, now).await?;
    }
    Ok(())
}

async fn put_back(
    desk: &Desk,
    key: BatchKey,
    wait: Wait,
    reason: String,
    not_before: Option<Timestamp>,
) -> Result<(), StoreError> {
    record(desk, key, Event::PutBack { wait, reason, not_before }, None).await
}

async fn accepted(desk: &Desk, key: BatchKey, created: Created) -> Result<(), StoreError> {
    let Created { marketo_batch_id, status, request_id } = created;
    tracing::info!(instance = %desk.name, job = %key.job, part = key.part, marketo_batch_id, ?status, request_id,
        "Marketo took the batch");
    let event = Event::Accepted { marketo_batch_id, status };
    // Another import of the batch may have been watched before.
    desk.watch.forget(key);
    desk.watch.heard(key);
    desk.keep(key, event, request_id).await.map(drop)
}

async fn record(desk: &Desk, key: BatchKey, event: Event, request_id: Option<String>) -> Result<(), StoreError> {
    let (event_name, message) = (event.name(), event.words().map(str::to_owned));
    let state = desk.keep(key, event, request_id.clone()).await?;
    tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, event = event_name, %state, request_id,
        message, "the upload did not succeed");
    Ok(())
}

fn request_id(fault: &CreateFault) -> Option<String> {
    match fault {
        CreateFault::NeverSent(_) | CreateFault::Stopped | CreateFault::BrokenOff(_) => None,
        CreateFault::Refused { request_id, .. } | CreateFault::AnswerLost { request_id, .. } => request_id.clone(),
    }
}

/// The header and the batch's rows, as they stand in the store, and how many bytes they are.
fn content(desk: &Desk, job: &Job, batch: &Batch) -> (impl Stream<Item = std::io::Result<Bytes>> + Send + use<>, u64) {
    let span = |(from, to)| desk.store.content(job.id, Kind::File, 0, from, to);
    let rows = (batch.byte_from, batch.byte_to);
    let bytes = (job.header.1 - job.header.0) + (rows.1 - rows.0);
    (pieces(span(job.header)).chain(pieces(span(rows))), bytes)
}

fn pieces(content: Content) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    stream::try_unfold(content, async |mut content| {
        let piece = content.next().await.map_err(std::io::Error::other)?;
        Ok(piece.map(|piece| (Bytes::from(piece), content)))
    })
}
