//! Outcome: maps Marketo's response, or the error in its place, to the event that is recorded and to the effect on the
//! instance. Pure functions of the response, the batch's attempts and the policy.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::backoff;
use crate::clock::after;
use crate::config::{Instance, UnknownOutcome};
use crate::domain::batch::{QueryFailureKind, QueryFailures, UploadAttempts};
use crate::domain::instance::PauseKind;
use crate::domain::row_counts::RowCounts;
use crate::domain::{Counts, DeferReason, Event, FailureScope, IMPORT_LIFETIME, RemoteStatus};
use crate::marketo::{ErrorAction, ReportKind, UploadError};
use crate::scheduler::quota_day::next_day;
use crate::store::Snapshot;

/// How long an unconfirmed import occupies a slot, in multiples of `polling.max`. Most imports have ended by then. If
/// one has not, Marketo's error 1016 (queue full) shows it.
const UNCONFIRMED_POLLS: u32 = 10;

/// How long a batch is retried while no other batch waits. Without another upload it is unknown whether the batch or
/// the instance causes the failures.
const MAX_TRIED_ALONE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How often a report is requested that Marketo counted rows for and does not return, in multiples of `max_attempts`.
/// With the default backoff that takes 45 minutes: a failed row that is not reported is worse than a job that ends
/// late.
const MAX_FILE_QUERY_REJECTIONS: u32 = 2;

/// The effect of a response on the whole instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceAction {
    /// No call is sent until the window has passed (error 606).
    WindowFull,
    /// Fewer calls are sent at once for a while (error 615).
    TooManyConcurrent,
    /// The instance pauses, until `until` or until it is resumed.
    Pause {
        /// The cause of the pause.
        kind: PauseKind,
        /// The end of the pause; none where an operator has to end it.
        until: Option<Timestamp>,
    },
}

/// Returns the effect of an error on the instance. None where the error applies to the batch only.
pub fn instance_action(action: ErrorAction, instance: &Instance, now: Timestamp) -> Option<InstanceAction> {
    match action {
        ErrorAction::WaitWindow => Some(InstanceAction::WindowFull),
        ErrorAction::FewerAtOnce => Some(InstanceAction::TooManyConcurrent),
        ErrorAction::DayIsOver => Some(InstanceAction::Pause {
            kind: PauseKind::Quota,
            until: Some(next_day(now, instance.limits.daily_reset)),
        }),
        ErrorAction::StopForCredentials => Some(InstanceAction::Pause { kind: PauseKind::Credentials, until: None }),
        _ => None,
    }
}

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
        let later = Some(after(self.now, foreign_queue_delay(&self.snapshot.recent_durations, self.instance)));
        match error {
            // Nothing of the batch was sent, so the batch is not the cause.
            UploadError::NeverSent(reason) => requeue(DeferReason::Service, reason, Some(self.backoff_until())),
            UploadError::Stopped => requeue(DeferReason::Instance, error.to_string(), None),
            UploadError::BrokenOff(reason) => self.retry_event(reason),
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
    pub fn interrupted(&self, reason: String) -> Event {
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
    fn retry_event(&self, reason: String) -> Event {
        let scope = self.failure_scope();
        if let Some(tries) = self.exhausted(scope) {
            return Event::AttemptsExhausted {
                reason: format!("given up after {tries}; the last answer was: {reason}"),
                unconfirmed_until: None,
            };
        }
        Event::Refused { reason, not_before: self.next_try(scope), scope }
    }

    fn answer_lost(&self, reason: String) -> Event {
        self.outcome_unknown(reason, self.failure_scope())
    }

    /// Returns the event of an upload of which it is unknown whether Marketo has it.
    fn outcome_unknown(&self, reason: String, scope: FailureScope) -> Event {
        let unconfirmed_until = after(self.now, self.instance.polling.max * UNCONFIRMED_POLLS);
        if self.instance.unknown_outcome == UnknownOutcome::Hold {
            return Event::Held { reason, unconfirmed_until, scope };
        }
        if let Some(tries) = self.exhausted(scope) {
            let reason = format!(
                "given up after {tries}; whether Marketo has the last one is unknown, because its answer was lost: {reason}"
            );
            return Event::AttemptsExhausted { reason, unconfirmed_until: Some(unconfirmed_until) };
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
fn foreign_queue_delay(recent_durations: &[(u64, Duration)], instance: &Instance) -> Duration {
    let (min, max) = (instance.polling.max, instance.backoff_max.max(instance.polling.max));
    let total: Duration = recent_durations.iter().map(|&(_, duration)| duration).sum();
    let imports = u32::try_from(recent_durations.len()).unwrap_or(u32::MAX).max(1);
    (total / imports / 2).clamp(min, max)
}

/// Returns the event of a poll that returned a known status. `waited` is the time to add to the import's waiting time.
pub fn poll_event(status: RemoteStatus, counts: Counts, message: Option<String>, waited: Duration) -> Event {
    match status {
        RemoteStatus::Queued | RemoteStatus::Importing => Event::Polled { status, counts, waited },
        RemoteStatus::Complete => Event::ImportEnded { counts, message: message.unwrap_or_default() },
        RemoteStatus::Failed => {
            let reason = message.filter(|message| !message.is_empty());
            let reason = reason.unwrap_or_else(|| "the import failed, and Marketo gave no reason".into());
            Event::ImportLost { counts, reason }
        }
    }
}

/// Returns the event of a poll that returned an undocumented status. It does not end the import: the import is polled
/// again as long as Marketo knows it. `previous` is the batch before the poll.
pub fn unknown_status_event(
    status_text: &str,
    previous: PreviousPoll,
    waited: Duration,
    instance: &Instance,
    now: Timestamp,
) -> Event {
    let reason =
        format!("Marketo returned the import status \"{status_text}\", which is not one of its documented statuses");
    match poll_failed(ErrorAction::Again, &reason, previous.accepted_at, previous.query_failures, instance, now) {
        PollRetry::RetryAt(not_before) => Event::UnknownStatus { reason, waited, not_before },
        PollRetry::GiveUp(reason) => Event::ImportLost { counts: previous.counts, reason },
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
    GiveUp(String),
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

/// How often a report is requested that Marketo counted no row for (its counts do not add up, so it may exist).
const MAX_UNCOUNTED_TRIES: u32 = 3;

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

/// Returns what follows from a failed poll. It is repeated until Marketo no longer knows the import. `query_failures`
/// are the consecutive failures before this one.
pub fn poll_failed(
    action: ErrorAction,
    reason: &str,
    accepted_at: Option<Timestamp>,
    query_failures: QueryFailures,
    instance: &Instance,
    now: Timestamp,
) -> PollRetry {
    if is_forgotten(Some(action), accepted_at, now) {
        return PollRetry::GiveUp(format!(
            "the import's outcome is unknown, because Marketo keeps a batch for seven days. Its last answer: {reason}"
        ));
    }
    let kind = query_failure_kind(Some(action));
    let failures = query_failures.plus(kind);
    if kind == QueryFailureKind::Rejected && failures.refusals >= instance.max_attempts {
        return PollRetry::GiveUp(format!("Marketo no longer knows the import: {reason}"));
    }
    PollRetry::RetryAt(after(now, instance_backoff(instance, failures.all).max(instance.polling.min)))
}

/// Returns what follows from a failed fetch of a report. `action` is the error's; none where Marketo has no report
/// although it counted rows for it (it may be late). `query_failures` are the consecutive failures before this one.
pub fn fetch_failed(
    action: Option<ErrorAction>,
    reason: &str,
    accepted_at: Option<Timestamp>,
    query_failures: QueryFailures,
    instance: &Instance,
    now: Timestamp,
) -> PollRetry {
    if is_forgotten(action, accepted_at, now) {
        return PollRetry::GiveUp(format!(
            "Marketo keeps the files of a batch for seven days. Its last answer: {reason}"
        ));
    }
    let kind = query_failure_kind(action);
    let failures = query_failures.plus(kind);
    let max_refusals = instance.max_attempts.saturating_mul(MAX_FILE_QUERY_REJECTIONS);
    if kind == QueryFailureKind::Rejected && failures.refusals >= max_refusals {
        return PollRetry::GiveUp(format!(
            "Marketo did not return the file in {} attempts: {reason}",
            failures.refusals
        ));
    }
    PollRetry::RetryAt(after(now, instance_backoff(instance, failures.all)))
}

/// Returns whether Marketo has deleted the import by its age. Where Marketo is unreachable or does not answer, it has
/// not confirmed that, so twice the lifetime has to pass.
fn is_forgotten(action: Option<ErrorAction>, accepted_at: Option<Timestamp>, now: Timestamp) -> bool {
    let is_unanswered =
        matches!(action, Some(ErrorAction::OutcomeUnknown | ErrorAction::ServiceDown | ErrorAction::NewToken));
    let lifetime = if is_unanswered { IMPORT_LIFETIME * 2 } else { IMPORT_LIFETIME };
    accepted_at.is_some_and(|accepted| after(accepted, lifetime) <= now)
}

/// Returns the backoff after the `n`th consecutive failure, counted from 1: doubling from `backoff_min` up to
/// `backoff_max`.
pub fn instance_backoff(instance: &Instance, n: u32) -> Duration {
    backoff::doubled(instance.backoff_min, n.saturating_sub(1), instance.backoff_max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;

    /// Eight attempts, backoff from one second to five minutes.
    fn instance() -> Instance {
        let text = "[instances.default]\nbase_url = \"https://123-ABC-456.mktorest.com\"\nclient_id = \"a\"\n\
                    client_secret = \"b\"\n";
        let config = crate::config::Config::read(Some(("test".as_ref(), text)), []).unwrap();
        config.instances["default"].clone()
    }

    fn failed(service_failures: u32) -> Snapshot {
        Snapshot {
            instance: crate::domain::instance::InstanceState { service_failures, ..Default::default() },
            ..Snapshot::default()
        }
    }

    fn refused(action: ErrorAction) -> UploadError {
        UploadError::Refused { action, reason: "message".into(), request_id: None }
    }

    #[test]
    fn backoff_doubles_between_its_two_limits() {
        let instance = instance();
        let secs: Vec<u64> = [1, 2, 3, 8, 9, 10, 40, u32::MAX].map(|n| instance_backoff(&instance, n).as_secs()).into();
        assert_eq!(secs, [1, 2, 4, 128, 256, 300, 300, 300]);
    }

    /// A batch that was uploaded before, as upload 5 of the instance, and began this one a second ago.
    fn tried(attempts: u32) -> UploadAttempts {
        UploadAttempts { attempts, last_upload: Some(5), began: Some(from_ms(-1_000)), ..UploadAttempts::default() }
    }

    /// The instance with its last success: before the batch's last upload, or after it.
    fn success(last_success: u64, service_failures: u32) -> Snapshot {
        let mut snapshot = failed(service_failures);
        (snapshot.instance.last_success, snapshot.instance.uploads_ended) = (last_success, 9);
        snapshot
    }

    fn after_upload(error: UploadError, tried: UploadAttempts, snapshot: &Snapshot, instance: &Instance) -> Event {
        FailedUpload { tried, snapshot, instance, now: from_ms(0) }.event(error)
    }

    fn lost() -> UploadError {
        UploadError::AnswerLost { reason: "cut".into(), request_id: None }
    }

    #[test]
    fn each_refusal_has_its_effect_and_few_count_as_attempt() {
        // The event where nothing has succeeded since the batch's last upload, and where another upload has.
        for (action, during, beside) in [
            (ErrorAction::NewToken, "put-back service 16", "put-back service 16"),
            (ErrorAction::StopForCredentials, "put-back instance", "put-back instance"),
            (ErrorAction::DayIsOver, "put-back instance", "put-back instance"),
            (ErrorAction::WaitWindow, "put-back calls", "put-back calls"),
            (ErrorAction::FewerAtOnce, "put-back calls", "put-back calls"),
            (ErrorAction::QueueFull, "put-back queue-full 30", "put-back queue-full 30"),
            (ErrorAction::ListBusy, "put-back list-busy 30", "put-back list-busy 30"),
            (ErrorAction::ServiceDown, "put-back service 16", "refused 4 counts"),
            (ErrorAction::Again, "refused 16", "refused 4 counts"),
            (ErrorAction::OutcomeUnknown, "answer-lost 16", "answer-lost 4 counts"),
            (ErrorAction::TooLarge, "rejected", "rejected"),
            (ErrorAction::Reject, "rejected", "rejected"),
        ] {
            let seconds = |at: Timestamp| at.as_millisecond() / 1000;
            let counts = |scope| if scope == FailureScope::Batch { " counts" } else { "" };
            let shown = |event| match event {
                Event::Requeued { defer_reason, not_before: Some(at), .. } => {
                    format!("put-back {} {}", defer_reason.as_str(), seconds(at))
                }
                Event::Requeued { defer_reason, .. } => format!("put-back {}", defer_reason.as_str()),
                Event::Refused { not_before, scope, .. } => format!("refused {}{}", seconds(not_before), counts(scope)),
                Event::AnswerLost { not_before, scope, .. } => {
                    format!("answer-lost {}{}", seconds(not_before), counts(scope))
                }
                other => other.name().to_owned(),
            };
            for (snapshot, expected) in [(success(5, 4), during), (success(6, 4), beside)] {
                let event = after_upload(refused(action), tried(3), &snapshot, &instance());
                assert_eq!(shown(event), expected, "{action:?}");
            }
        }
    }

    #[test]
    fn attempt_counts_only_after_success_of_another_batch() {
        for (last_upload, last_success, counts) in
            [(None, 0, false), (None, 9, false), (Some(5), 0, false), (Some(5), 5, false), (Some(5), 6, true)]
        {
            let tried = UploadAttempts { last_upload, ..tried(8) };
            let snapshot = success(last_success, 0);
            for error in [refused(ErrorAction::Again), lost(), UploadError::BrokenOff("cut".into())] {
                let event = after_upload(error.clone(), tried, &snapshot, &instance());
                assert_eq!(
                    matches!(event, Event::AttemptsExhausted { .. }),
                    counts,
                    "{error:?} {last_upload:?} {last_success}"
                );
            }
            let first = FailedUpload { tried, snapshot: &snapshot, instance: &instance(), now: from_ms(0) };
            let killed = first.interrupted("the daemon ended".into());
            assert_eq!(matches!(killed, Event::AttemptsExhausted { .. }), counts, "{last_upload:?} {last_success}");
        }
    }

    #[test]
    fn last_attempt_ends_the_batch_with_marketos_message() {
        let beside = success(6, 0);
        let after_upload = |error, attempts| after_upload(error, tried(attempts), &beside, &instance());
        let Event::AttemptsExhausted { reason, unconfirmed_until: None } = after_upload(refused(ErrorAction::Again), 8)
        else {
            panic!("not given up")
        };
        assert_eq!(reason, "given up after 8 attempts; the last answer was: message");
        // The import of the last attempt may exist and is unconfirmed.
        let given_up = after_upload(lost(), 8);
        assert!(
            matches!(given_up, Event::AttemptsExhausted { unconfirmed_until: Some(until), .. } if until == from_ms(300_000))
        );
        let broken = || UploadError::BrokenOff("it broke off".into());
        assert!(matches!(after_upload(broken(), 7), Event::Refused { .. }));
        assert!(matches!(after_upload(broken(), 8), Event::AttemptsExhausted { unconfirmed_until: None, .. }));
        // An upload that was never sent is no attempt.
        let never = UploadError::NeverSent("no route".into());
        assert!(matches!(after_upload(never, 800), Event::Requeued { .. }));
    }

    #[test]
    fn batch_that_waits_alone_is_tried_for_seven_days() {
        let instance = instance();
        let mut snapshot = success(5, 20);
        for (waiting, error) in
            [(false, refused(ErrorAction::Again)), (false, lost()), (true, refused(ErrorAction::Again))]
        {
            snapshot.has_untried_batch = waiting;
            let mut batch = UploadAttempts { last_upload: Some(9), ..tried(1) };
            let mut tries = 0;
            let reason = loop {
                match after_upload(error.clone(), batch, &snapshot, &instance) {
                    Event::AttemptsExhausted { reason, .. } => break Some(reason),
                    event if tries < 3_000 => {
                        let Some(FailureScope::Instance { tried_alone_for: alone, .. }) = event.failure_scope() else {
                            panic!("{event:?}")
                        };
                        (batch.alone, tries) = (alone, tries + 1);
                    }
                    _ => break None,
                }
            };
            // One try takes a second, and the pause after it is 300.
            let expected = if waiting { (3_000, false) } else { ((7_u32 * 24 * 3600).div_ceil(301), true) };
            assert_eq!((tries, reason.is_some()), expected, "{reason:?}");
            assert!(reason.is_none_or(|reason| reason.starts_with("given up after attempts for seven days; ")));
        }
        // The clock was set by a month during an upload.
        let moved = UploadAttempts { began: Some(from_ms(-30 * 24 * 3_600_000)), ..tried(1) };
        snapshot.has_untried_batch = false;
        let scope = after_upload(lost(), moved, &snapshot, &instance).failure_scope();
        let Some(FailureScope::Instance { tried_alone_for: alone, .. }) = scope else { panic!("{scope:?}") };
        assert_eq!(alone, instance.request_timeout + Duration::from_secs(300));
    }

    #[test]
    fn lost_answer_is_sent_again_or_held_by_policy() {
        let mut instance = instance();
        let lost = |tried, instance: &_| after_upload(lost(), tried, &failed(0), instance);
        let (reason, unconfirmed_until) = (String::from("cut"), from_ms(300_000));
        let scope = FailureScope::Instance { backoff_until: from_ms(1_000), tried_alone_for: Duration::from_secs(2) };
        let not_before = from_ms(1_000);
        let again = Event::AnswerLost { reason: reason.clone(), not_before, unconfirmed_until, scope };
        assert_eq!(lost(tried(1), &instance), again);
        instance.unknown_outcome = UnknownOutcome::Hold;
        assert_eq!(lost(tried(9), &instance), Event::Held { reason, unconfirmed_until, scope });
    }

    #[test]
    fn refused_credentials_and_used_up_quota_pause_instance() {
        let now = "2026-03-10T12:00:00Z".parse().unwrap();
        let mut instance = instance();
        let action_of = |action, now| instance_action(action, &instance, now);
        let pause = |kind, until: Option<&str>| {
            Some(InstanceAction::Pause { kind, until: until.map(|until| until.parse().unwrap()) })
        };
        assert_eq!(action_of(ErrorAction::StopForCredentials, now), pause(PauseKind::Credentials, None));
        assert_eq!(action_of(ErrorAction::NewToken, now), None);
        assert_eq!(action_of(ErrorAction::DayIsOver, now), pause(PauseKind::Quota, Some("2026-03-11T06:00:00Z")));
        assert_eq!(action_of(ErrorAction::WaitWindow, now), Some(InstanceAction::WindowFull));
        assert_eq!(action_of(ErrorAction::Reject, now), None);
        instance.limits.daily_reset = jiff::civil::time(12, 0, 1, 0);
        assert_eq!(
            super::instance_action(ErrorAction::DayIsOver, &instance, now),
            pause(PauseKind::Quota, Some("2026-03-10T12:00:01Z"))
        );
    }

    #[test]
    fn wait_for_foreign_imports_is_half_a_recent_import() {
        for (recent_durations, seconds) in
            [(&[][..], 30), (&[(10, 40)], 30), (&[(10, 100), (10, 200)], 75), (&[(10_000, 1200)], 300)]
        {
            let recent_durations: Vec<_> =
                recent_durations.iter().map(|&(rows, secs)| (rows, Duration::from_secs(secs))).collect();
            assert_eq!(
                foreign_queue_delay(&recent_durations, &instance()),
                Duration::from_secs(seconds),
                "{recent_durations:?}"
            );
        }
        let mut slow = instance();
        slow.polling.max = Duration::from_secs(900);
        assert_eq!(foreign_queue_delay(&[], &slow), Duration::from_secs(900));
    }

    #[test]
    fn query_is_repeated_until_marketo_has_deleted_the_import() {
        const DAY: i64 = 24 * 3600;
        let shown = |next: PollRetry| match next {
            PollRetry::RetryAt(at) => format!("at {}", at.as_millisecond() / 1000),
            PollRetry::GiveUp(reason) => reason,
        };
        // The error action (none: a report is late), consecutive failures with this one, seconds since the acceptance;
        // the result of a poll, and of a fetch.
        for (action, failures, age, polled, fetched) in [
            (Some(ErrorAction::OutcomeUnknown), 1, 60, "at 65", "at 61"),
            (Some(ErrorAction::OutcomeUnknown), 5, 60, "at 76", "at 76"),
            (Some(ErrorAction::ServiceDown), 500, DAY, "at 86700", "at 86700"),
            (Some(ErrorAction::NewToken), 500, 7 * DAY, "at 605100", "at 605100"),
            (Some(ErrorAction::Reject), 7, 60, "at 124", "at 124"),
            (Some(ErrorAction::Reject), 8, 60, "Marketo no longer knows the import: w", "at 188"),
            (None, 8, 60, "at 188", "at 188"),
            (None, 16, 60, "at 360", "Marketo did not return the file in 16 attempts: w"),
            (Some(ErrorAction::Reject), 1, 7 * DAY - 1, "at 604804", "at 604800"),
            (Some(ErrorAction::OutcomeUnknown), 1, 7 * DAY, "at 604805", "at 604801"),
            (
                Some(ErrorAction::OutcomeUnknown),
                1,
                14 * DAY,
                "the import's outcome is unknown, because Marketo keeps a batch for seven days. Its last answer: w",
                "Marketo keeps the files of a batch for seven days. Its last answer: w",
            ),
            (
                Some(ErrorAction::Reject),
                1,
                7 * DAY,
                "the import's outcome is unknown, because Marketo keeps a batch for seven days. Its last answer: w",
                "Marketo keeps the files of a batch for seven days. Its last answer: w",
            ),
        ] {
            let (accepted, now) = (Some(from_ms(0)), from_ms(age * 1000));
            let before =
                (1..failures).fold(QueryFailures::default(), |before, _| before.plus(query_failure_kind(action)));
            let poll = poll_failed(action.unwrap_or(ErrorAction::Again), "w", accepted, before, &instance(), now);
            assert_eq!(shown(poll), polled, "{action:?} {failures}");
            assert_eq!(
                shown(fetch_failed(action, "w", accepted, before, &instance(), now)),
                fetched,
                "{action:?} {failures}"
            );
        }
    }

    #[test]
    fn report_without_counted_rows_is_requested_three_times() {
        let before = |all| QueryFailures { all, refusals: 0 };
        for (counted, all, again) in
            [(Some(0), 0, true), (Some(0), 1, true), (Some(0), 2, false), (Some(1), 9, true), (None, 9, true)]
        {
            assert_eq!(is_worth_retrying(counted, before(all)), again, "{counted:?} {all}");
        }
    }

    fn previous(waited: Duration) -> PreviousPoll {
        PreviousPoll {
            accepted_at: Some(from_ms(0)),
            query_failures: QueryFailures::default(),
            counts: Counts::default(),
            waited,
            is_overdue: false,
        }
    }

    #[test]
    fn import_that_does_not_end_is_held_once() {
        let day = Duration::from_secs(24 * 3600);
        let instance = instance();
        assert_eq!(overdue_event("Importing", previous(2 * day), day - Duration::from_secs(1), &instance), None);
        let Some(Event::Overdue { reason }) = overdue_event("Queued", previous(2 * day), day, &instance) else {
            panic!()
        };
        assert_eq!(reason, "the import is still \"Queued\" and has not ended within 72h (max_import_time)");
        assert_eq!(
            overdue_event("Importing", PreviousPoll { is_overdue: true, ..previous(9 * day) }, day, &instance),
            None
        );
    }

    #[test]
    fn only_time_watched_by_this_process_counts_as_waited() {
        let (instance, second) = (instance(), Duration::from_secs(1));
        assert_eq!(believed_wait(Some(30 * second), &instance), 30 * second);
        assert_eq!(believed_wait(None, &instance), Duration::ZERO);
        assert_eq!(believed_wait(Some(100 * instance.max_import_time), &instance), instance.max_import_time / 2);
    }

    #[test]
    fn unknown_status_is_polled_until_the_import_is_deleted() {
        let (instance, day) = (instance(), 24 * 3600 * 1000);
        let event = |now_ms| {
            unknown_status_event("Paused", previous(Duration::ZERO), Duration::ZERO, &instance, from_ms(now_ms))
        };
        let reason = "Marketo returned the import status \"Paused\", which is not one of its documented statuses";
        let again = Event::UnknownStatus { reason: reason.into(), waited: Duration::ZERO, not_before: from_ms(7_000) };
        assert_eq!(event(2_000), again);
        assert!(matches!(event(7 * day), Event::ImportLost { reason: lost, .. } if lost.ends_with(reason)));
    }

    #[test]
    fn report_is_requested_unless_marketo_has_none() {
        use ReportKind::{Failures, Warnings};
        let counts = |processed, failed, warned| Counts { processed, failed, warned };
        for (report, counts, asked) in [
            (Failures, counts(Some(2), Some(0), Some(0)), false),
            (Failures, counts(Some(1), Some(1), Some(0)), true),
            (Failures, counts(Some(2), None, Some(0)), true),
            (Failures, counts(Some(1), Some(0), Some(0)), true),
            (Failures, counts(Some(3), Some(0), Some(0)), true),
            (Failures, counts(None, Some(0), Some(0)), true),
            (Warnings, counts(Some(1), Some(0), Some(0)), false),
            (Warnings, counts(Some(2), Some(0), Some(1)), true),
            (Warnings, counts(Some(2), Some(0), None), true),
        ] {
            assert_eq!(may_have_report(report, counts, 2), asked, "{report:?} {counts:?}");
        }
    }

    #[test]
    fn missing_answers_do_not_count_as_refusals() {
        let mut before = QueryFailures::default();
        for _ in 0..100 {
            before = before.plus(QueryFailureKind::Unanswered);
        }
        // Seven refusals, and then an eighth.
        for refusals in 1..=8 {
            let (now, accepted) = (from_ms(60_000), Some(from_ms(0)));
            let poll = poll_failed(ErrorAction::Reject, "w", accepted, before, &instance(), now);
            assert_eq!(matches!(poll, PollRetry::GiveUp(_)), refusals == 8, "refused {refusals} times");
            let fetch = fetch_failed(None, "w", accepted, before, &instance(), now);
            assert!(matches!(fetch, PollRetry::RetryAt(_)), "refused {refusals} times");
            before = before.plus(QueryFailureKind::Rejected);
        }
    }
}
