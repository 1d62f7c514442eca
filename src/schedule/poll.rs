//! How does an import stand? Whatever a poll brings, and whatever becomes of it, the file is never sent again for it.

use super::call::{Admitted, Matter};
use super::desk::Desk;
use super::outcome::{Unanswered, after_status, is_refusal, poll_failed};
use super::without_values::without_values;
use crate::job::{BatchKey, BatchState, Event, RemoteStatus};
use crate::marketo::{Ask, AskFault, Status};
use crate::store::{Batch, Rows, StoreError};

pub(super) async fn poll(desk: &Desk, key: BatchKey) -> Result<(), StoreError> {
    let (job, batch) = desk.store.batch(key).await?;
    let Some(id) = batch.marketo_batch_id.clone() else { return Ok(()) };
    if !matches!(batch.state, BatchState::Queued | BatchState::Importing) {
        return Ok(());
    }
    let mut renewed = false;
    loop {
        let (token, pass) = match desk.admit().await? {
            Admitted::Go(token, pass) => (token, pass),
            Admitted::NotNow => return Ok(()),
            Admitted::Unreachable(reason) => {
                return failed(desk, key, &batch, AskFault { ask: Ask::ServiceDown, reason, request_id: None }).await;
            }
        };
        let client = desk.client();
        let Some(answer) = desk.unless_stopped(pass, client.status(&token, &job.target, &id)).await else {
            return Ok(());
        };
        match answer {
            Ok(mut status) => {
                if let Some(message) = status.message.take() {
                    status.message = Some(without_values(desk, &job, message).await);
                }
                return answered(desk, key, &id, batch.rows.total, status).await;
            }
            Err(fault) => match desk.heed(fault.ask, &fault.reason, &mut renewed).await? {
                Matter::Again => {}
                Matter::Instance => return Ok(()),
                Matter::Batch => {
                    let reason = without_values(desk, &job, fault.reason).await;
                    return failed(desk, key, &batch, AskFault { reason, ..fault }).await;
                }
            },
        }
    }
}

async fn answered(desk: &Desk, key: BatchKey, id: &str, sent: u64, answer: Status) -> Result<(), StoreError> {
    let Status { status, counts, message, request_id } = answer;
    if matches!(status, RemoteStatus::Complete | RemoteStatus::Failed) {
        tracing::info!(instance = %desk.name, job = %key.job, part = key.part, marketo_batch_id = id, ?status,
            processed = counts.processed, failed = counts.failed, warned = counts.warned, request_id,
            "the import ended");
    }
    let doubt = Rows::complete(sent, counts).doubt().filter(|_| status == RemoteStatus::Complete);
    if let Some(doubt) = doubt {
        tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, marketo_batch_id = id, sent, doubt,
            "Marketo's counts do not add up");
    }
    desk.store.record(key, after_status(status, counts, message), request_id, desk.clock.now()).await?;
    Ok(())
}

async fn failed(desk: &Desk, key: BatchKey, batch: &Batch, fault: AskFault) -> Result<(), StoreError> {
    let now = desk.clock.now();
    let AskFault { ask, reason, request_id } = fault;
    match poll_failed(ask, &reason, desk.believed(batch.accepted_at, now), batch.ask_failures, &desk.config(), now) {
        Unanswered::GiveUp(reason) => {
            tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, %reason, request_id, "import lost");
            let event = Event::Lost { counts: batch.counts, reason };
            desk.store.record(key, event, request_id, now).await?;
        }
        Unanswered::AskAgain(not_before) => {
            tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, %reason, request_id, %not_before,
                "a poll failed; the import goes on");
            desk.store.ask_failed(key, reason, is_refusal(Some(ask)), not_before, request_id, now).await?;
        }
    }
    Ok(())
}
