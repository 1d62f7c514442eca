//! Outcome of a failed upload: the event that is recorded for the batch.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::after;
use crate::config::{Instance, UnknownOutcome};
use crate::domain::batch::UploadAttempts;
use crate::domain::{DeferReason, Event, FailureReason, FailureScope};
use crate::marketo::{ErrorAction, UploadError};
use crate::scheduler::import_duration::mean_duration;
use crate::scheduler::outcome::instance::instance_backoff;
use crate::store::Snapshot;

/// How long an unconfirmed import occupies a slot, in multiples of `polling.max`. Most imports have ended by then. If
/// one has not, Marketo's error 1016 (queue full) shows it.
const UNCONFIRMED_POLLS: u32 = 10;

/// How long a batch is retried while no other batch waits. Without another upload it is unknown whether the batch or
/// the instance causes the failures.
const MAX_TRIED_ALONE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A failed upload: together with the error it determines what happens to the batch.
pub struct FailedUpload<'a> {
    /// The batch's attempts, this one included.
    pub tried: UploadAttempts,
    /// The instance before the outcome is recorded.
    pub snapshot: &'a Snapshot,
    /// The instance's configuration.
    pub instance: &'a Instance,
    /// The time of the outcome.
    pub now: Timestamp,
}

impl FailedUpload<'_> {
    /// Returns the event to record for `error`.
    pub fn event(&self, error: UploadError) -> Event {
        let requeue = |defer_reason, reason, not_before| Event::Requeued { defer_reason, reason, not_before };
        let later =
            Some(after(self.now, foreign_queue_delay(mean_duration(&self.snapshot.ended_imports), self.instance)));
        match error {
            // Nothing of the batch was sent, so the batch is not the cause.
            UploadError::NeverSent(reason) => requeue(DeferReason::Service, reason.into(), Some(self.backoff_until())),
            UploadError::Stopped => requeue(DeferReason::Instance, error.to_string().into(), None),
            UploadError::BrokenOff(reason) => self.retry_event(reason.into()),
            UploadError::AnswerLost { reason, .. } => self.answer_lost(reason),
            UploadError::Refused { action, reason, .. } => match action {
                ErrorAction::StopForCredentials | ErrorAction::DayIsOver => {
                    requeue(DeferReason::Instance, reason, None)
                }
                ErrorAction::WaitWindow | ErrorAction::FewerAtOnce => requeue(DeferReason::Calls, reason, None),
                ErrorAction::QueueFull => requeue(DeferReason::QueueFull, reason, later),
                ErrorAction::ListBusy => requeue(DeferReason::ListBusy, reason, later),
                // While other uploads succeed, the batch is the cause: a proxy that does not accept its file, for
                // example.
                ErrorAction::ServiceDown if self.counts_as_attempt() => self.retry_event(reason),
                // The caller renews a refused token once. Here the new token was refused too, although the identity
                // endpoint had just issued it: the credentials are valid and Marketo's services disagree.
                ErrorAction::ServiceDown | ErrorAction::NewToken => {
                    requeue(DeferReason::Service, reason, Some(self.backoff_until()))
                }
                ErrorAction::Again => self.retry_event(reason),
                ErrorAction::OutcomeUnknown => self.answer_lost(reason),
                ErrorAction::TooLarge | ErrorAction::Reject => Event::Rejected { reason },
            },
        }
    }

    /// Returns the event for an upload that was under way when the daemon ended: whether Marketo has it is unknown.
    pub fn interrupted(&self, reason: FailureReason) -> Event {
        let scope = if self.counts_as_attempt() { FailureScope::Batch } else { FailureScope::Daemon };
        self.outcome_unknown(reason, scope)
    }

    /// Returns whether the attempt counts: only if the create call of another batch has succeeded since this batch's
    /// last upload. (One of its own would have ended its uploads.) Polls, reports and tokens prove nothing about create
    /// calls.
    fn counts_as_attempt(&self) -> bool {
        self.tried.last_upload.is_some_and(|last| self.snapshot.instance.last_success > last)
    }

    /// Returns the scope of a failure that the batch or the instance may have caused.
    fn failure_scope(&self) -> FailureScope {
        if self.counts_as_attempt() {
            return FailureScope::Batch;
        }
        let backoff_until = self.backoff_until();
        FailureScope::Instance { backoff_until, tried_alone_for: self.tried_alone_for(backoff_until) }
    }

    /// Returns how long the batch will have been tried alone at `next`. Time in which the daemon did not run, or by
    /// which the clock was set, is not added: an upload adds at most its timeout.
    fn tried_alone_for(&self, next: Timestamp) -> Duration {
        if self.snapshot.has_untried_batch {
            return self.tried.alone;
        }
        let upload = self.tried.began.map_or(Duration::ZERO, |began| span(began, self.now));
        self.tried.alone + upload.min(self.instance.request_timeout) + span(self.now, next)
    }

    /// Returns the event of an upload that made no import and that the batch may have failed.
    fn retry_event(&self, reason: FailureReason) -> Event {
        let scope = self.failure_scope();
        if let Some(tries) = self.exhausted(scope) {
            let text = format!("given up after {tries}; the last answer was: {reason}");
            return Event::AttemptsExhausted { reason: reason.with_text(text), unconfirmed_until: None };
        }
        Event::Refused { reason, not_before: self.next_try(scope), scope }
    }

    fn answer_lost(&self, reason: FailureReason) -> Event {
        self.outcome_unknown(reason, self.failure_scope())
    }

    /// Returns the event of an upload of which it is unknown whether Marketo has it.
    fn outcome_unknown(&self, reason: FailureReason, scope: FailureScope) -> Event {
        let unconfirmed_until = after(self.now, self.instance.polling.max * UNCONFIRMED_POLLS);
        if self.instance.unknown_outcome == UnknownOutcome::Hold {
            return Event::Held { reason, unconfirmed_until, scope };
        }
        if let Some(tries) = self.exhausted(scope) {
            let text = format!(
                "given up after {tries}; whether Marketo has the last one is unknown, because its answer was lost: {reason}"
            );
            return Event::AttemptsExhausted {
                reason: reason.with_text(text),
                unconfirmed_until: Some(unconfirmed_until),
            };
        }
        Event::AnswerLost { reason, not_before: self.next_try(scope), unconfirmed_until, scope }
    }

    /// Returns how often, or how long, the batch was tried, where that is the maximum.
    fn exhausted(&self, scope: FailureScope) -> Option<String> {
        match scope {
            FailureScope::Batch if self.tried.attempts >= self.instance.max_attempts => {
                Some(format!("{} attempts", self.tried.attempts))
            }
            FailureScope::Instance { backoff_until, tried_alone_for }
                if tried_alone_for >= MAX_TRIED_ALONE + span(self.now, backoff_until) =>
            {
                Some("attempts for seven days".to_owned())
            }
            _ => None,
        }
    }

    fn next_try(&self, scope: FailureScope) -> Timestamp {
        match scope {
            FailureScope::Instance { backoff_until, .. } => backoff_until,
            FailureScope::Batch | FailureScope::Daemon => {
                after(self.now, instance_backoff(self.instance, self.tried.attempts))
            }
        }
    }

    fn backoff_until(&self) -> Timestamp {
        service_backoff_until(self.snapshot, self.instance, self.now)
    }
}

/// Returns the time between two moments; zero where the second is not later.
fn span(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// Returns the end of the instance's backoff after one more failed upload.
pub fn service_backoff_until(snapshot: &Snapshot, instance: &Instance, now: Timestamp) -> Timestamp {
    after(now, instance_backoff(instance, snapshot.instance.service_failures.saturating_add(1)))
}

/// Returns the wait before the next upload while imports of other integrations fill the queue. Only an upload of a
/// whole file shows whether it is still full. The wait is half the mean duration of the recent imports, so that about
/// one upload is refused for each import of ours. It is at least `polling.max` and at most the longest backoff.
pub(super) fn foreign_queue_delay(mean_duration: Duration, instance: &Instance) -> Duration {
    let (min, max) = (instance.polling.max, instance.backoff_max.max(instance.polling.max));
    (mean_duration / 2).clamp(min, max)
}
