//! Poll worker: asks Marketo for the status of one import. No result of a poll makes the file be sent again.

use jiff::Timestamp;

use crate::clock::PATIENCE;
use crate::domain::row_counts::RowCounts;
use crate::domain::{BatchKey, ErrorCode, Event, FailureReason, RemoteStatus};
use crate::marketo::{ErrorAction, ImportStatus, QueryError};
use crate::scheduler::api_call::{Admission, Denial, ErrorScope, TokenUse};
use crate::scheduler::outcome::{
    FailedQuery, PollRetry, PreviousPoll, believed_wait, overdue_event, poll_event, query_failure_kind,
};
use crate::scheduler::redaction::{reason_without_values, without_values};
use crate::scheduler::worker_context::WorkerContext;
use crate::store::{Batch, ImportKey, QueryFailure, SharingEnd, SharingLimit, StoreError};

/// Polls the import of a batch, and records the result.
///
/// # Errors
/// A database error.
pub(super) async fn poll(context: &WorkerContext, key: BatchKey) -> Result<(), StoreError> {
    let (job, batch) = context.store.batch(key).await?;
    let Some(id) = batch.marketo_batch_id.clone() else { return Ok(()) };
    if !batch.is_on_marketo() {
        return Ok(());
    }
    let import = PolledImport { context, key, batch: &batch, id: &id };
    let mut token_use = TokenUse::First;
    loop {
        let (token, guard) = match context.admit_call().await? {
            Admission::Admitted(token, guard) => (token, guard),
            Admission::Denied(Denial::NotNow) => return Ok(()),
            Admission::Denied(Denial::Unreachable(reason)) => {
                let error = QueryError { action: ErrorAction::ServiceDown, reason: reason.into(), request_id: None };
                return import.record_failure(error).await;
            }
        };
        let client = context.client();
        let Some(response) = context.run_until_stop(guard, client.status(&token, &job.target, &id)).await else {
            return Ok(());
        };
        match response {
            Ok(mut status) => {
                if let Some(message) = status.message.take() {
                    status.message = Some(without_values(context, &job, message).await);
                }
                return import.record_status(status).await;
            }
            Err(error) => match context.handle_refusal(error.action, &error.reason.text, &mut token_use).await? {
                ErrorScope::Retry => {}
                ErrorScope::Instance => return Ok(()),
                ErrorScope::Batch => {
                    let reason = reason_without_values(context, &job, error.reason).await;
                    return import.record_failure(QueryError { reason, ..error }).await;
                }
            },
        }
    }
}

/// An import whose status is asked for.
struct PolledImport<'a> {
    context: &'a WorkerContext,
    key: BatchKey,
    /// The batch before the poll.
    batch: &'a Batch,
    /// Marketo's id of the import.
    id: &'a str,
}

impl PolledImport<'_> {
    /// Records the status in a response.
    async fn record_status(&self, response: ImportStatus) -> Result<(), StoreError> {
        let PolledImport { context, key, batch, id } = *self;
        let ImportStatus { status, status_text, counts, message, request_id, .. } = response;
        let (clock, config) = (context.observe().await?, context.config());
        let now = clock.now();
        let previous = PreviousPoll {
            accepted_at: batch.accepted_at.filter(|_| clock.steady_at(PATIENCE).is_none()),
            query_failures: batch.query_failures,
            counts: batch.counts,
            waited: batch.waited,
            is_overdue: batch.overdue_at.is_some(),
        };
        let waited = believed_wait(context.import_watch.record_answer(key), &config);
        let event = match status {
            Some(status) => poll_event(status, counts, message, waited),
            None => previous.unknown_status_event(&status_text, waited, &config, now),
        };
        if let Event::ImportEnded { .. } | Event::ImportLost { .. } = event {
            context.import_watch.remove(key);
            tracing::info!(instance = %context.name, job = %key.job, part = key.part, marketo_batch_id = id,
                status = status_text, processed = counts.processed, failed = counts.failed, warned = counts.warned,
                request_id, "import ended");
            let sent = batch.import_rows;
            let discrepancy =
                RowCounts::complete(sent, counts).discrepancy().filter(|_| status == Some(RemoteStatus::Complete));
            if let Some(discrepancy) = discrepancy {
                tracing::warn!(instance = %context.name, job = %key.job, part = key.part, marketo_batch_id = id, sent,
                    discrepancy, "Marketo's row counts do not add up");
            }
            if let Event::ImportLost { reason, .. } = &event
                && is_sent_alone(status, batch)
            {
                return self.send_alone(reason.code, request_id, now).await;
            }
            return self.record_event(event, request_id, now).await;
        }
        // Each poll returns the same unknown status. It is logged once.
        if let Event::UnknownStatus { reason, .. } = &event
            && batch.message.as_ref() != Some(reason)
        {
            tracing::warn!(instance = %context.name, job = %key.job, part = key.part, marketo_batch_id = id,
                status = status_text, request_id, "Marketo returned an unknown import status; polling continues");
        }
        self.record_event(event, request_id, now).await?;
        if let Some(event) = overdue_event(&status_text, previous, waited, &config) {
            tracing::error!(instance = %context.name, job = %key.job, part = key.part, marketo_batch_id = id,
                status = status_text,
                "import is overdue (max_import_time); the batch is held until it ends or is abandoned");
            return self.record_event(event, None, now).await;
        }
        Ok(())
    }

    /// Records an event of the import, unless an operator gave the batch up during the poll.
    async fn record_event(&self, event: Event, request_id: Option<String>, now: Timestamp) -> Result<(), StoreError> {
        ignore_given_up(self.context.store.record_import_event(self.import_key(), event, request_id, now).await)
    }

    fn import_key(&self) -> ImportKey {
        ImportKey { batch: self.key, marketo_batch_id: self.id.to_owned() }
    }

    /// Records that an import that several jobs share ended `Failed`: each of them is sent again alone. Which of them
    /// is the cause is unknown, and Marketo's message may be about the rows of another job.
    async fn send_alone(
        &self,
        code: Option<ErrorCode>,
        request_id: Option<String>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let PolledImport { context, key, batch, .. } = *self;
        let others = batch.shared_with;
        let text = format!("the import that it shared with {others} other jobs ended Failed; it is sent again alone");
        tracing::warn!(instance = %context.name, job = %key.job, part = key.part, others, request_id,
            "a shared import failed; each of its jobs is sent again alone");
        let event = Event::Unpacked { reason: FailureReason { code, text } };
        let end = SharingEnd { event, limit: SharingLimit::Alone, request_id };
        ignore_given_up(context.store.end_sharing_of(self.import_key(), end, now).await)
    }

    /// Records a failed poll: the time of the next one, or that the import is lost.
    async fn record_failure(&self, error: QueryError) -> Result<(), StoreError> {
        let PolledImport { context, key, batch, .. } = *self;
        let clock = context.observe().await?;
        let now = clock.now();
        // No import is given up by age while the clock may be wrong.
        let accepted_at = batch.accepted_at.filter(|_| clock.steady_at(PATIENCE).is_none());
        let QueryError { action, reason, request_id } = error;
        let failed =
            FailedQuery { action: Some(action), reason: &reason, accepted_at, failures_before: batch.query_failures };
        match failed.after_poll(&context.config(), now) {
            PollRetry::GiveUp(reason) => {
                tracing::warn!(instance = %context.name, job = %key.job, part = key.part, %reason, request_id,
                    "import lost");
                let event = Event::ImportLost { counts: batch.counts, reason };
                context.import_watch.remove(key);
                self.record_event(event, request_id, now).await?;
            }
            PollRetry::RetryAt(not_before) => {
                let (logged_reason, logged_id) = (reason.clone(), request_id.clone());
                let failure = QueryFailure { reason, kind: query_failure_kind(Some(action)), not_before, request_id };
                let recorded = context.store.record_query_failure(self.import_key(), failure, now).await;
                let is_news = recorded.as_ref().is_ok_and(|recorded| recorded.is_news);
                ignore_given_up(recorded)?;
                if is_news {
                    tracing::warn!(instance = %context.name, job = %key.job, part = key.part, reason = %logged_reason,
                        request_id = logged_id, %not_before, "poll failed; it is retried");
                }
            }
        }
        Ok(())
    }
}

/// Returns whether the jobs of an import that is lost are sent again alone. Of one that Marketo has not ended `Failed`,
/// rows may have been imported.
fn is_sent_alone(status: Option<RemoteStatus>, batch: &Batch) -> bool {
    status == Some(RemoteStatus::Failed) && batch.shared_with > 0
}

/// Ignores the result of a write about an import that an operator gave up during the poll: there is nothing left to
/// record. The batch may have another import by now, in which another job took it along.
fn ignore_given_up<T>(recorded: Result<T, StoreError>) -> Result<(), StoreError> {
    match recorded {
        Ok(_) | Err(StoreError::Illegal(_) | StoreError::NoBatch(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failed_import_of_several_jobs_is_sent_again() {
        let batch = |shared_with| Batch { shared_with, ..Batch::new(1, 10, 0, 1) };
        for (status, shared_with, is_sent) in [
            (Some(RemoteStatus::Failed), 2, true),
            (Some(RemoteStatus::Failed), 0, false),
            // It has had an undocumented status for longer than Marketo keeps an import.
            (None, 2, false),
        ] {
            assert_eq!(is_sent_alone(status, &batch(shared_with)), is_sent, "{status:?} {shared_with}");
        }
    }
}
