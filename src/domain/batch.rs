//! Progress of a batch: the fields that events change, and how each event changes them. Pure.

mod query_failures;

use std::time::Duration;

use jiff::Timestamp;

pub use self::query_failures::{QueryFailureKind, QueryFailures};
use crate::domain::event::{DeferReason, Event, FailureScope};
use crate::domain::import::{Counts, RemoteStatus};
use crate::domain::state_machine::{BatchState, IllegalTransitionError, transition};

/// The fields of a batch that events change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchProgress {
    /// Its state.
    pub state: BatchState,
    /// Uploads that count against `max_attempts`.
    pub attempts: u32,
    /// Marketo's id of its import.
    pub marketo_batch_id: Option<String>,
    /// The next upload, poll or download is not before this.
    pub not_before: Option<Timestamp>,
    /// Why the upload was deferred.
    pub wait: Option<DeferReason>,
    /// Marketo's last message about it, or why it waits.
    pub message: Option<String>,
    /// Marketo's row counts.
    pub counts: Counts,
    /// When the last upload began.
    pub uploaded_at: Option<Timestamp>,
    /// When Marketo accepted the upload.
    pub accepted_at: Option<Timestamp>,
    /// When a poll first found the import in progress.
    pub importing_at: Option<Timestamp>,
    /// When the import's status was last queried.
    pub polled_at: Option<Timestamp>,
    /// When the batch ended; none before.
    pub ended_at: Option<Timestamp>,
    /// Queries that failed since the last successful one.
    pub query_failures: QueryFailures,
    /// How long the daemon has waited for the import, measured while the clock was steady.
    pub waited: Duration,
    /// When it became overdue; it is held since then.
    pub overdue_at: Option<Timestamp>,
    /// Until when its unconfirmed imports occupy slots.
    pub unconfirmed_until: Option<Timestamp>,
    /// How many unconfirmed imports it has: uploads whose answer was lost, which may exist on Marketo.
    pub unconfirmed_imports: u32,
    /// The number of its last upload in the instance's order
    /// ([`crate::domain::instance::InstanceState::uploads_ended`]).
    pub last_upload: Option<u64>,
    /// How long it has been tried while no other batch of the instance was pending.
    pub alone: Duration,
    /// It failed because its attempts were used up. Its content is kept for a retry.
    pub attempts_exhausted: bool,
}

/// What is known of a batch's upload when it fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadAttempts {
    /// Attempts that count, this one included.
    pub attempts: u32,
    /// See [`BatchProgress::last_upload`]: the upload before this one.
    pub last_upload: Option<u64>,
    /// See [`BatchProgress::alone`].
    pub alone: Duration,
    /// When this upload began.
    pub began: Option<Timestamp>,
}

impl BatchProgress {
    /// Returns the progress of a new batch.
    pub fn initial() -> BatchProgress {
        BatchProgress {
            state: BatchState::Pending,
            attempts: 0,
            marketo_batch_id: None,
            not_before: None,
            wait: None,
            message: None,
            counts: Counts::default(),
            uploaded_at: None,
            accepted_at: None,
            importing_at: None,
            polled_at: None,
            ended_at: None,
            query_failures: QueryFailures::default(),
            waited: Duration::ZERO,
            overdue_at: None,
            unconfirmed_until: None,
            unconfirmed_imports: 0,
            last_upload: None,
            alone: Duration::ZERO,
            attempts_exhausted: false,
        }
    }

    /// Returns what is known of the upload in progress.
    pub fn upload_attempts(&self) -> UploadAttempts {
        let BatchProgress { attempts, last_upload, alone, uploaded_at, .. } = *self;
        UploadAttempts { attempts, last_upload, alone, began: uploaded_at }
    }

    /// Returns the batch after `event`.
    ///
    /// # Errors
    /// [`IllegalTransitionError`] where the state machine has no such transition.
    pub fn after_event(&self, event: &Event, now: Timestamp) -> Result<BatchProgress, IllegalTransitionError> {
        // Only an overdue import can be abandoned: any other ends by itself.
        if matches!(event, Event::Abandoned { .. }) && self.overdue_at.is_none() {
            return Err(IllegalTransitionError { from: self.state, event: event.name() });
        }
        let mut batch = BatchProgress { state: transition(self.state, event)?, ..self.clone() };
        batch.apply(event, now);
        Ok(batch)
    }

    /// Returns the batch after an event of an import that it shares and that another batch stands for. An unconfirmed
    /// import of theirs counts once, for that batch. Those of earlier uploads of this batch still count.
    ///
    /// # Errors
    /// As of [`BatchProgress::after_event`].
    pub fn after_shared_event(&self, event: &Event, now: Timestamp) -> Result<BatchProgress, IllegalTransitionError> {
        let mut batch = self.after_event(event, now)?;
        match event {
            // Those of earlier uploads have ended too.
            Event::ImportEnded { .. } => {}
            Event::Settled { .. } => {
                batch.unconfirmed_until = self.unconfirmed_until;
                batch.unconfirmed_imports = if self.unconfirmed_until.is_some() { self.unconfirmed_imports } else { 0 };
            }
            _ if batch.unconfirmed_until > self.unconfirmed_until => {
                batch.unconfirmed_until = self.unconfirmed_until;
                batch.unconfirmed_imports = self.unconfirmed_imports.max(1);
            }
            _ => {}
        }
        Ok(batch)
    }

    /// Returns the state to show: an overdue import is held, whatever its status on Marketo.
    pub fn shown_state(&self) -> BatchState {
        if self.overdue_at.is_some() { BatchState::Held } else { self.state }
    }

    /// Returns the batch after a failed query about its import. The next one is at `not_before`.
    pub fn after_query_failure(&self, kind: QueryFailureKind, not_before: Timestamp, now: Timestamp) -> BatchProgress {
        // The duration of an import is estimated from its status queries alone.
        let polled_at = if self.state == BatchState::Collecting { self.polled_at } else { Some(now) };
        BatchProgress {
            query_failures: self.query_failures.plus(kind),
            not_before: Some(not_before),
            polled_at,
            ..self.clone()
        }
    }

    /// Changes the fields other than the state.
    fn apply(&mut self, event: &Event, now: Timestamp) {
        // The last delay is over. Events that begin a new one set it below.
        (self.not_before, self.wait) = (None, None);
        match event {
            Event::UploadBegan => {
                self.attempts += 1;
                self.uploaded_at = Some(now);
            }
            Event::Requeued { defer_reason, reason, not_before } => {
                self.attempts = self.attempts.saturating_sub(1);
                self.wait = Some(*defer_reason);
                // The other reasons defer the instance, so any batch may be the next one.
                self.not_before = not_before.filter(|_| *defer_reason == DeferReason::ListBusy);
                self.message = Some(reason.text.clone());
            }
            Event::Refused { reason, not_before, scope } => {
                self.not_before = Some(*not_before);
                self.message = Some(reason.text.clone());
                self.count_failed_upload(*scope);
            }
            Event::AnswerLost { reason, not_before, unconfirmed_until, scope } => {
                self.not_before = Some(*not_before);
                self.message = Some(reason.text.clone());
                self.count_failed_upload(*scope);
                self.add_unconfirmed(*unconfirmed_until, now);
            }
            Event::Held { reason, unconfirmed_until, .. } => {
                self.message = Some(reason.text.clone());
                self.add_unconfirmed(*unconfirmed_until, now);
            }
            Event::AttemptsExhausted { reason, unconfirmed_until } => {
                self.message = Some(reason.text.clone());
                self.attempts_exhausted = true;
                if let Some(until) = unconfirmed_until {
                    self.add_unconfirmed(*until, now);
                }
            }
            Event::Split { reason } => {
                self.attempts = self.attempts.saturating_sub(1);
                self.message = Some(reason.clone());
            }
            Event::Rejected { reason } => self.message = Some(reason.text.clone()),
            Event::Accepted { marketo_batch_id, status } => {
                self.marketo_batch_id = Some(marketo_batch_id.clone());
                self.accepted_at = Some(now);
                self.message = None;
                self.query_failures = QueryFailures::default();
                self.waited = Duration::ZERO;
                if *status != RemoteStatus::Queued {
                    self.importing_at = Some(now);
                }
            }
            Event::Settled { marketo_batch_id } => {
                self.marketo_batch_id = Some(marketo_batch_id.clone());
                self.accepted_at = Some(now);
                self.message = None;
                self.query_failures = QueryFailures::default();
                self.waited = Duration::ZERO;
                // This import is confirmed now. Those of other uploads of the batch are not.
                self.unconfirmed_imports = self.unconfirmed_imports.saturating_sub(1);
                self.unconfirmed_until = self.unconfirmed_until.filter(|_| self.unconfirmed_imports > 0);
            }
            Event::Polled { status, counts, waited } => {
                self.polled_at = Some(now);
                self.query_failures = QueryFailures::default();
                self.counts = *counts;
                self.waited = self.waited.saturating_add(*waited);
                // The message of a failed query is out of date.
                self.message = self.message.take().filter(|_| self.overdue_at.is_some());
                if *status == RemoteStatus::Importing {
                    self.importing_at = self.importing_at.or(Some(now));
                }
            }
            Event::UnknownStatus { reason, waited, not_before } => {
                self.polled_at = Some(now);
                self.query_failures = self.query_failures.plus(QueryFailureKind::Unanswered);
                self.waited = self.waited.saturating_add(*waited);
                self.message = Some(reason.clone());
                self.not_before = Some(*not_before);
            }
            Event::Overdue { reason } => {
                self.overdue_at = Some(now);
                self.message = Some(reason.clone());
            }
            Event::Abandoned { .. } => {
                self.overdue_at = None;
            }
            Event::ImportEnded { counts, message } => {
                self.overdue_at = None;
                self.polled_at = Some(now);
                self.query_failures = QueryFailures::default();
                self.counts = *counts;
                self.message = Some(message.clone());
                // Marketo's queue is first in, first out: uploads before this one have ended too.
                (self.unconfirmed_until, self.unconfirmed_imports) = (None, 0);
            }
            Event::ImportLost { counts, reason } => {
                self.overdue_at = None;
                self.counts = *counts;
                self.message = Some(reason.text.clone());
            }
            Event::Unpacked { reason } => {
                self.attempts = self.attempts.saturating_sub(1);
                self.forget_import();
                (self.query_failures, self.waited) = (QueryFailures::default(), Duration::ZERO);
                self.overdue_at = None;
                self.message = Some(reason.text.clone());
            }
            Event::Collected | Event::Cancelled => {}
            Event::Retried => {
                self.attempts = 0;
                (self.last_upload, self.alone, self.attempts_exhausted) = (None, Duration::ZERO, false);
                self.forget_import();
                self.message = None;
            }
        }
        self.ended_at = self.state.is_terminal().then_some(now);
    }

    /// Clears what is known of an import, because the batch is sent again.
    fn forget_import(&mut self) {
        self.counts = Counts::default();
        self.marketo_batch_id = None;
        (self.accepted_at, self.importing_at, self.polled_at) = (None, None, None);
    }

    /// Counts the attempt only where the batch is the cause of the failure.
    fn count_failed_upload(&mut self, scope: FailureScope) {
        match scope {
            FailureScope::Batch => self.alone = Duration::ZERO,
            FailureScope::Instance { tried_alone_for: alone, .. } => {
                self.attempts = self.attempts.saturating_sub(1);
                self.alone = alone;
            }
            FailureScope::Daemon => self.attempts = self.attempts.saturating_sub(1),
        }
    }

    /// Adds an unconfirmed import. Those of earlier uploads that still count, count until the same time.
    fn add_unconfirmed(&mut self, until: Timestamp, now: Timestamp) {
        let others = self.unconfirmed_until.is_some_and(|until| until > now);
        self.unconfirmed_imports = if others { self.unconfirmed_imports + 1 } else { 1 };
        self.unconfirmed_until = self.unconfirmed_until.max(Some(until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;

    fn lost(until: i64) -> Event {
        let (not_before, unconfirmed_until) = (from_ms(1), from_ms(until));
        Event::AnswerLost { reason: "cut".into(), not_before, unconfirmed_until, scope: FailureScope::Batch }
    }

    fn after_events(events: &[(i64, Event)]) -> BatchProgress {
        events
            .iter()
            .fold(BatchProgress::initial(), |batch, (at, event)| batch.after_event(event, from_ms(*at)).unwrap())
    }

    #[test]
    fn each_lost_answer_counts_as_an_unconfirmed_import() {
        use Event::UploadBegan;
        let unconfirmed = |events: &[(i64, Event)]| {
            (after_events(events).unconfirmed_imports, after_events(events).unconfirmed_until)
        };
        let twice = [(1, UploadBegan), (2, lost(100)), (3, UploadBegan), (50, lost(150))];
        assert_eq!(unconfirmed(&twice), (2, Some(from_ms(150))));
        let late = [(1, UploadBegan), (2, lost(100)), (3, UploadBegan), (100, lost(200))];
        assert_eq!(unconfirmed(&late), (1, Some(from_ms(200))));
        let exhausted = Event::AttemptsExhausted { reason: "cut".into(), unconfirmed_until: Some(from_ms(99)) };
        assert_eq!(unconfirmed(&[(1, UploadBegan), (2, exhausted)]), (1, Some(from_ms(99))));
        let held = Event::Held { reason: "cut".into(), unconfirmed_until: from_ms(99), scope: FailureScope::Batch };
        assert_eq!(unconfirmed(&[(1, UploadBegan), (2, held.clone()), (3, Event::Cancelled)]), (1, Some(from_ms(99))));
        // An operator finds one of two.
        let found = Event::Settled { marketo_batch_id: "7".into() };
        let twice = [(1, UploadBegan), (2, held.clone()), (3, Event::Retried), (4, UploadBegan), (5, held), (6, found)];
        assert_eq!(unconfirmed(&twice), (1, Some(from_ms(99))));
        assert_eq!(unconfirmed(&[&twice[..2], &twice[5..]].concat()), (0, None));
    }

    #[test]
    fn an_unconfirmed_shared_import_counts_for_one_batch() {
        let held = |until| Event::Held {
            reason: "cut".into(),
            unconfirmed_until: from_ms(until),
            scope: FailureScope::Daemon,
        };
        let found = Event::Settled { marketo_batch_id: "7".into() };
        let unconfirmed = |batch: &BatchProgress| (batch.unconfirmed_imports, batch.unconfirmed_until);
        // A batch without unconfirmed imports, and one that has an unconfirmed import of an earlier upload.
        for (earlier, counted) in [(vec![], None), (vec![(1, Event::UploadBegan), (2, lost(100))], Some(from_ms(100)))]
        {
            let batch = after_events(&[&earlier[..], &[(3, Event::UploadBegan)]].concat());
            let shared = batch.after_shared_event(&held(150), from_ms(4)).unwrap();
            assert_eq!(unconfirmed(&shared), (1, counted));
            let settled = shared.after_shared_event(&found, from_ms(5)).unwrap();
            assert_eq!(unconfirmed(&settled), (counted.map_or(0, |_| 1), counted));
            let ended = Event::ImportEnded { counts: Counts::default(), message: "done".into() };
            assert_eq!(unconfirmed(&settled.after_shared_event(&ended, from_ms(6)).unwrap()), (0, None));
        }
    }

    #[test]
    fn only_faults_of_the_batch_count_as_attempts() {
        let instance = FailureScope::Instance { backoff_until: from_ms(9), tried_alone_for: Duration::from_secs(5) };
        for (scope, attempts, alone) in [(FailureScope::Batch, 1, 0), (instance, 0, 5), (FailureScope::Daemon, 0, 0)] {
            let refused = Event::Refused { reason: "611".into(), not_before: from_ms(9), scope };
            let batch = after_events(&[(1, Event::UploadBegan), (2, refused)]);
            let alone = Duration::from_secs(alone);
            assert_eq!(
                (batch.attempts, batch.alone, batch.not_before),
                (attempts, alone, Some(from_ms(9))),
                "{scope:?}"
            );
        }
    }

    #[test]
    fn retried_batch_with_exhausted_attempts_begins_anew() {
        let exhausted = Event::AttemptsExhausted { reason: "611".into(), unconfirmed_until: None };
        let batch = after_events(&[(1, Event::UploadBegan), (2, exhausted)]);
        assert_eq!((batch.attempts_exhausted, batch.unconfirmed_imports), (true, 0));
        let batch = BatchProgress { last_upload: Some(7), alone: Duration::from_secs(9), ..batch };
        let again = batch.after_event(&Event::Retried, from_ms(3)).unwrap();
        assert_eq!(
            (again.attempts, again.attempts_exhausted, again.upload_attempts()),
            (0, false, UploadAttempts { began: Some(from_ms(1)), ..UploadAttempts::default() })
        );
    }

    #[test]
    fn ended_batches_have_no_unconfirmed_imports() {
        let accepted = Event::Accepted { marketo_batch_id: "1".into(), status: RemoteStatus::Queued };
        let ended = Event::ImportEnded { counts: Counts::default(), message: "done".into() };
        let events = [(1, Event::UploadBegan), (2, lost(100)), (3, Event::UploadBegan), (4, accepted), (5, ended)];
        assert_eq!((after_events(&events).unconfirmed_imports, after_events(&events).unconfirmed_until), (0, None));
    }
}
