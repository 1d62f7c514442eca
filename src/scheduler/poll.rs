//! How does an import stand? Whatever a poll brings, and whatever becomes of it, the file is never sent again for it.

use crate::clock::PATIENCE;
use crate::domain::row_counts::RowCounts;
use crate::domain::{BatchKey, Event, RemoteStatus};
use crate::marketo::{ErrorAction, ImportStatus, QueryError};
use crate::scheduler::api_call::{Admission, ErrorScope};
use crate::scheduler::outcome::{
    PollRetry, PreviousPoll, believed_wait, is_refusal, overdue_event, poll_event, poll_failed, unknown_status_event,
};
use crate::scheduler::redaction::without_values;
use crate::scheduler::worker_context::WorkerContext;
use crate::store::{Batch, StoreError};

pub(super) async fn poll(desk: &WorkerContext, key: BatchKey) -> Result<(), StoreError> {
    let (job, batch) = desk.store.batch(key).await?;
    let Some(id) = batch.marketo_batch_id.clone() else { return Ok(()) };
    if !batch.is_on_marketo() {
        return Ok(());
    }
    let mut renewed = false;
    loop {
        let (token, pass) = match desk.admit_call().await? {
            Admission::Admitted(token, pass) => (token, pass),
            Admission::NotNow => return Ok(()),
            Admission::Unreachable(reason) => {
                return failed(
                    desk,
                    key,
                    &batch,
                    QueryError { ask: ErrorAction::ServiceDown, reason, request_id: None },
                )
                .await;
            }
        };
        let client = desk.client();
        let Some(answer) = desk.run_until_stop(pass, client.status(&token, &job.target, &id)).await else {
            return Ok(());
        };
        match answer {
            Ok(mut status) => {
                if let Some(message) = status.message.take() {
                    status.message = Some(without_values(desk, &job, message).await);
                }
                return answered(desk, key, &batch, &id, status).await;
            }
            Err(fault) => match desk.handle_refusal(fault.ask, &fault.reason, &mut renewed).await? {
                ErrorScope::Retry => {}
                ErrorScope::Instance => return Ok(()),
                ErrorScope::Batch => {
                    let reason = without_values(desk, &job, fault.reason).await;
                    return failed(desk, key, &batch, QueryError { reason, ..fault }).await;
                }
            },
        }
    }
}

async fn answered(
    desk: &WorkerContext,
    key: BatchKey,
    batch: &Batch,
    id: &str,
    answer: ImportStatus,
) -> Result<(), StoreError> {
    let ImportStatus { status, word, counts, message, request_id } = answer;
    let (clock, config) = (desk.observe().await?, desk.config());
    let now = clock.now();
    let asked = PreviousPoll {
        accepted_at: batch.accepted_at.filter(|_| clock.steady_at(PATIENCE).is_none()),
        query_failures: batch.query_failures,
        counts: batch.counts,
        waited: batch.waited,
        is_overdue: batch.overdue_at.is_some(),
    };
    let waited = believed_wait(desk.import_watch.record_answer(key), &config);
    let event = match status {
        Some(status) => poll_event(status, counts, message, waited),
        None => unknown_status_event(&word, asked, waited, &config, now),
    };
    if let Event::ImportEnded { .. } | Event::ImportLost { .. } = event {
        desk.import_watch.forget(key);
        tracing::info!(instance = %desk.name, job = %key.job, part = key.part, marketo_batch_id = id, status = word,
            processed = counts.processed, failed = counts.failed, warned = counts.warned, request_id,
            "the import ended");
        let sent = batch.rows.total;
        let doubt = RowCounts::complete(sent, counts).discrepancy().filter(|_| status == Some(RemoteStatus::Complete));
        if let Some(doubt) = doubt {
            tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, marketo_batch_id = id, sent, doubt,
                "Marketo's counts do not add up");
        }
        return unless_given_up(desk.store.record_event(key, event, request_id, now).await);
    }
    // Each poll brings it again, and once is enough.
    if let Event::UnknownStatus { reason, .. } = &event
        && batch.message.as_ref() != Some(reason)
    {
        tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, marketo_batch_id = id, status = word,
            request_id, "Marketo gave an unknown status; the import is asked after on");
    }
    if let Err(error) = desk.store.record_event(key, event, request_id, now).await {
        return unless_given_up::<()>(Err(error));
    }
    if let Some(event) = overdue_event(&word, asked, waited, &config) {
        tracing::error!(instance = %desk.name, job = %key.job, part = key.part, marketo_batch_id = id, status = word,
            "Marketo does not end the import; the batch is held, and an operator may give it up");
        return unless_given_up(desk.store.record_event(key, event, None, now).await);
    }
    Ok(())
}

/// An operator may have given up the import while it was asked after: then the answer is about nothing that there is. No
/// upload of the batch can have begun since, for a batch has one worker at a time.
fn unless_given_up<T>(recorded: Result<T, StoreError>) -> Result<(), StoreError> {
    match recorded {
        Ok(_) | Err(StoreError::Illegal(_) | StoreError::NoBatch(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn failed(desk: &WorkerContext, key: BatchKey, batch: &Batch, fault: QueryError) -> Result<(), StoreError> {
    let clock = desk.observe().await?;
    let now = clock.now();
    // By age nothing is given up while the clock is not to be believed.
    let accepted_at = batch.accepted_at.filter(|_| clock.steady_at(PATIENCE).is_none());
    let QueryError { ask, reason, request_id } = fault;
    match poll_failed(ask, &reason, accepted_at, batch.query_failures, &desk.config(), now) {
        PollRetry::GiveUp(reason) => {
            tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, %reason, request_id, "import lost");
            let event = Event::ImportLost { counts: batch.counts, reason };
            desk.import_watch.forget(key);
            unless_given_up(desk.store.record_event(key, event, request_id, now).await)?;
        }
        PollRetry::AskAgain(not_before) => {
            let (refused, said, answer) = (is_refusal(Some(ask)), reason.clone(), request_id.clone());
            let asked = desk.store.record_query_failure(key, reason, refused, not_before, request_id, now).await;
            let is_news = asked.as_ref().is_ok_and(|asked| asked.is_news);
            unless_given_up(asked)?;
            if is_news {
                tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, reason = said,
                    request_id = answer, %not_before, "a poll failed; the import goes on");
            }
        }
    }
    Ok(())
}
