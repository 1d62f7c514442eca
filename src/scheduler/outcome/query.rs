//! Outcome of a query about an import: the event of a poll, and whether a failed poll or fetch is repeated.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::after;
use crate::config::Instance;
use crate::domain::batch::{QueryFailureKind, QueryFailures};
use crate::domain::row_counts::RowCounts;
use crate::domain::{Counts, Event, FailureReason, IMPORT_LIFETIME, RemoteStatus, ReportKind};
use crate::marketo::ErrorAction;
use crate::scheduler::outcome::instance::instance_backoff;

/// How often a report is requested that Marketo counted rows for and does not return, in multiples of `max_attempts`.
/// With the default backoff that takes 45 minutes: a failed row that is not reported is worse than a job that ends
/// late.
const MAX_FILE_QUERY_REJECTIONS: u32 = 2;

/// How often a report is requested that Marketo counted no row for (its counts do not add up, so it may exist).
const MAX_UNCOUNTED_TRIES: u32 = 3;

/// Returns the event of a poll that returned a known status. `waited` is the time to add to the import's waiting time.
pub fn poll_event(status: RemoteStatus, counts: Counts, message: Option<String>, waited: Duration) -> Event {
    match status {
        RemoteStatus::Queued | RemoteStatus::Importing => Event::Polled { status, counts, waited },
        RemoteStatus::Complete => Event::ImportEnded { counts, message: message.unwrap_or_default() },
        RemoteStatus::Failed => {
            let text = message.filter(|message| !message.is_empty());
            let text = text.unwrap_or_else(|| "the import failed, and Marketo gave no reason".into());
            Event::ImportLost { counts, reason: text.into() }
        }
    }
}

/// The batch's import before a poll.
#[derive(Clone, Copy, Debug)]
pub struct PreviousPoll {
    /// When Marketo accepted the upload; none where the clock is too uncertain to judge its age.
    pub accepted_at: Option<Timestamp>,
    /// The consecutive failures before this poll.
    pub query_failures: QueryFailures,
    /// The row counts of the last response.
    pub counts: Counts,
    /// How long the import has been waited for.
    pub waited: Duration,
    /// Whether the batch is held because the import did not end in time.
    pub is_overdue: bool,
}

impl PreviousPoll {
    /// Returns the event of a poll that returned an undocumented status. It does not end the import: the import is
    /// polled again as long as Marketo knows it.
    pub fn unknown_status_event(
        &self,
        status_text: &str,
        waited: Duration,
        instance: &Instance,
        now: Timestamp,
    ) -> Event {
        let text = format!(
            "Marketo returned the import status \"{status_text}\", which is not one of its documented statuses"
        );
        let failed = FailedQuery {
            action: Some(ErrorAction::Again),
            reason: &text.clone().into(),
            accepted_at: self.accepted_at,
            failures_before: self.query_failures,
        };
        match failed.after_poll(instance, now) {
            PollRetry::RetryAt(not_before) => Event::UnknownStatus { reason: text, waited, not_before },
            PollRetry::GiveUp(reason) => Event::ImportLost { counts: self.counts, reason },
        }
    }
}

/// Returns the time to add to the import's waiting time. `watched` is the time since the last status response on the
/// monotonic clock; none where this process received none. The wall clock is not used: it may have been set, and the
/// length of a downtime is unknown. A single interval adds at most half of `max_import_time`, so that it cannot make an
/// import overdue.
pub fn believed_wait(watched: Option<Duration>, instance: &Instance) -> Duration {
    watched.unwrap_or_default().min(instance.max_import_time / 2)
}

/// Returns the event of an import that has not ended within `max_import_time`: its batch is held from then on.
/// `status_text` is its last status, and `waited` the time to add to its waiting time.
pub fn overdue_event(
    status_text: &str,
    previous: PreviousPoll,
    waited: Duration,
    instance: &Instance,
) -> Option<Event> {
    let max = instance.max_import_time;
    if previous.is_overdue || previous.waited.saturating_add(waited) < max {
        return None;
    }
    let max = SignedDuration::try_from(max).unwrap_or(SignedDuration::MAX);
    Some(Event::Overdue {
        reason: format!("the import is still \"{status_text}\" and has not ended within {max:#} (max_import_time)"),
    })
}

/// What follows from a failed query about an import. It is never another upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollRetry {
    /// The query is repeated at this time.
    RetryAt(Timestamp),
    /// The query is not repeated, for this reason.
    GiveUp(FailureReason),
}

/// Returns whether Marketo may have this report of an ended import of `sent` rows. It has none, and the call is saved,
/// where it counted no row for it. A report without a count is requested, and so is the failure file where the counts
/// do not add up to `sent`.
pub fn may_have_report(report: ReportKind, counts: Counts, sent: u64) -> bool {
    match report {
        ReportKind::Failures => counts.failed != Some(0) || !RowCounts::complete(sent, counts).is_accounted_for(),
        ReportKind::Warnings => counts.warned != Some(0),
    }
}

/// Returns whether a failed fetch of a report is repeated. `before` are the consecutive failures before this one.
pub fn is_worth_retrying(counted: Option<u64>, before: QueryFailures) -> bool {
    counted != Some(0) || before.all + 1 < MAX_UNCOUNTED_TRIES
}

/// Returns whether Marketo rejected a query about an import, rather than not answering it. None stands for a missing
/// report.
pub fn query_failure_kind(action: Option<ErrorAction>) -> QueryFailureKind {
    match action {
        None | Some(ErrorAction::Reject) => QueryFailureKind::Rejected,
        Some(_) => QueryFailureKind::Unanswered,
    }
}

/// A failed query about an import.
#[derive(Clone, Copy, Debug)]
pub struct FailedQuery<'a> {
    /// The error's action; none where Marketo has no report although it counted rows for it (it may be late).
    pub action: Option<ErrorAction>,
    /// Marketo's message, or why there is none.
    pub reason: &'a FailureReason,
    /// When Marketo accepted the upload; none where the clock is too uncertain to judge its age.
    pub accepted_at: Option<Timestamp>,
    /// The consecutive failures before this one.
    pub failures_before: QueryFailures,
}

impl FailedQuery<'_> {
    /// Returns what follows from a failed poll. It is repeated until Marketo no longer knows the import.
    pub fn after_poll(&self, instance: &Instance, now: Timestamp) -> PollRetry {
        let reason = self.reason;
        if self.is_forgotten(now) {
            return self.give_up(format!(
                "the import's outcome is unknown, because Marketo keeps a batch for seven days. Its last answer: {reason}"
            ));
        }
        let failures = self.failures();
        if self.kind() == QueryFailureKind::Rejected && failures.refusals >= instance.max_attempts {
            return self.give_up(format!("Marketo no longer knows the import: {reason}"));
        }
        PollRetry::RetryAt(after(now, instance_backoff(instance, failures.all).max(instance.polling.min)))
    }

    /// Returns what follows from a failed fetch of a report.
    pub fn after_fetch(&self, instance: &Instance, now: Timestamp) -> PollRetry {
        let reason = self.reason;
        if self.is_forgotten(now) {
            return self
                .give_up(format!("Marketo keeps the files of a batch for seven days. Its last answer: {reason}"));
        }
        let failures = self.failures();
        let max_rejections = instance.max_attempts.saturating_mul(MAX_FILE_QUERY_REJECTIONS);
        if self.kind() == QueryFailureKind::Rejected && failures.refusals >= max_rejections {
            return self
                .give_up(format!("Marketo did not return the file in {} attempts: {reason}", failures.refusals));
        }
        PollRetry::RetryAt(after(now, instance_backoff(instance, failures.all)))
    }

    fn give_up(&self, text: String) -> PollRetry {
        PollRetry::GiveUp(self.reason.clone().with_text(text))
    }

    /// Returns the consecutive failures, this one included.
    fn failures(&self) -> QueryFailures {
        self.failures_before.plus(self.kind())
    }

    fn kind(&self) -> QueryFailureKind {
        query_failure_kind(self.action)
    }

    /// Returns whether Marketo has deleted the import by its age. Where Marketo is unreachable or does not answer, it
    /// has not confirmed that, so twice the lifetime has to pass.
    fn is_forgotten(&self, now: Timestamp) -> bool {
        let is_unanswered =
            matches!(self.action, Some(ErrorAction::OutcomeUnknown | ErrorAction::ServiceDown | ErrorAction::NewToken));
        let lifetime = if is_unanswered { IMPORT_LIFETIME * 2 } else { IMPORT_LIFETIME };
        self.accepted_at.is_some_and(|accepted| after(accepted, lifetime) <= now)
    }
}
