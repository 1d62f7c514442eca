//! An answer came, or did not: what follows? Pure: from the answer or fault, the batch's attempts and the policy to the
//! event that is recorded, and what the instance as a whole does.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::after;
use crate::config::{Instance, UnknownOutcome};
use crate::domain::batch::{QueryFailures, UploadAttempts};
use crate::domain::instance::PauseKind;
use crate::domain::row_counts::RowCounts;
use crate::domain::{Counts, DeferReason, Event, FailureScope, IMPORT_LIFETIME, RemoteStatus};
use crate::marketo::{ErrorAction, ReportKind, UploadError};
use crate::scheduler::next_day;
use crate::store::Snapshot;

/// How many of the longest pauses between polls an import is taken to exist that a lost answer may have left behind.
/// Nobody can see it, and most imports are over by then; if it is not, Marketo's own 1016 says so.
const UNCONFIRMED_POLLS: u32 = 10;

/// For how long a batch is tried that waits alone: no other upload shows whether it or the instance is to blame.
const MAX_TRIED_ALONE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A file that Marketo counted rows for and does not give is asked for so many times `max_attempts`: with the usual
/// pauses that is three quarters of an hour, for a failed row that is never heard of is worse than a job that ends late.
const MAX_FILE_QUERY_REJECTIONS: u32 = 2;

/// What an answer asks of the instance as a whole, besides the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceAction {
    /// No call leaves until the window has passed.
    WindowFull,
    TooManyConcurrent,
    Pause {
        kind: PauseKind,
        until: Option<Timestamp>,
    },
}

/// What follows for the instance from an answer to any call. None where it is about the one batch.
pub fn instance_action(ask: ErrorAction, instance: &Instance, now: Timestamp) -> Option<InstanceAction> {
    match ask {
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

/// A batch whose upload failed, and what is known around it: what becomes of the batch follows from that and the fault.
pub struct FailedUpload<'a> {
    pub tried: UploadAttempts,
    /// The instance before it.
    pub seen: &'a Snapshot,
    pub instance: &'a Instance,
    pub now: Timestamp,
}

impl FailedUpload<'_> {
    /// The event that follows from `fault`.
    pub fn event(&self, fault: UploadError) -> Event {
        let put_back = |wait, reason, not_before| Event::Requeued { defer_reason: wait, reason, not_before };
        let later = Some(after(self.now, foreign_queue_delay(&self.seen.recent_durations, self.instance)));
        match fault {
            // Nothing of the batch had left, so it can't be to blame.
            UploadError::NeverSent(reason) => put_back(DeferReason::Service, reason, Some(self.backoff_until())),
            UploadError::Stopped => put_back(DeferReason::Instance, fault.to_string(), None),
            UploadError::BrokenOff(reason) => self.retry_event(reason),
            UploadError::AnswerLost { reason, .. } => self.answer_lost(reason),
            UploadError::Refused { ask, reason, .. } => match ask {
                ErrorAction::StopForCredentials | ErrorAction::DayIsOver => {
                    put_back(DeferReason::Instance, reason, None)
                }
                ErrorAction::WaitWindow | ErrorAction::FewerAtOnce => put_back(DeferReason::Calls, reason, None),
                ErrorAction::QueueFull => put_back(DeferReason::QueueFull, reason, later),
                ErrorAction::ListBusy => put_back(DeferReason::ListBusy, reason, later),
                // While others get through it is about this batch: something in between that takes no such file, say.
                ErrorAction::ServiceDown if self.counts_as_attempt() => self.retry_event(reason),
                // A refused token is renewed where the call is made. That it comes here means that the new one was refused
                // too, which identity had just given: the credentials are good, and Marketo's parts do not agree.
                ErrorAction::ServiceDown | ErrorAction::NewToken => {
                    put_back(DeferReason::Service, reason, Some(self.backoff_until()))
                }
                ErrorAction::Again => self.retry_event(reason),
                ErrorAction::OutcomeUnknown => self.answer_lost(reason),
                ErrorAction::TooLarge | ErrorAction::Reject => Event::Rejected { reason },
            },
        }
    }

    /// The event that follows where the daemon ended while the upload was under way: whether Marketo has it is unknown.
    pub fn interrupted(&self, reason: String) -> Event {
        let scope = if self.counts_as_attempt() { FailureScope::Batch } else { FailureScope::Daemon };
        self.outcome_unknown(reason, scope)
    }

    /// Whether the attempt counts: only if a create of another batch has succeeded since this batch's last upload.
    /// (One of its own would have ended its uploads.) Polls, files and tokens prove nothing about creates.
    fn counts_as_attempt(&self) -> bool {
        self.tried.last_upload.is_some_and(|last| self.seen.instance.last_success > last)
    }

    /// What the failure is put down to, where it may be the batch's or the instance's.
    fn failure_scope(&self) -> FailureScope {
        if self.counts_as_attempt() {
            return FailureScope::Batch;
        }
        let quiet_until = self.backoff_until();
        FailureScope::Instance { backoff_until: quiet_until, tried_alone_for: self.tried_alone_for(quiet_until) }
    }

    /// For how long the batch will have been tried alone at `next`. Times in which the daemon did not run, or a clock
    /// leapt, add nothing: an upload has an end by its timeout.
    fn tried_alone_for(&self, next: Timestamp) -> Duration {
        if self.seen.has_untried_batch {
            return self.tried.alone;
        }
        let upload = self.tried.began.map_or(Duration::ZERO, |began| span(began, self.now));
        self.tried.alone + upload.min(self.instance.request_timeout) + span(self.now, next)
    }

    /// Nothing was made, and the batch may be to blame.
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

    /// Nobody knows whether Marketo has it.
    fn outcome_unknown(&self, reason: String, scope: FailureScope) -> Event {
        let unconfirmed_until = after(self.now, self.instance.polling.max * UNCONFIRMED_POLLS);
        if self.instance.unknown_outcome == UnknownOutcome::Hold {
            return Event::Held { reason, unconfirmed_until, scope };
        }
        if let Some(tries) = self.exhausted(scope) {
            let reason = format!(
                "given up after {tries}; whether Marketo has the last one is unknown, for its answer was lost: {reason}"
            );
            return Event::AttemptsExhausted { reason, unconfirmed_until: Some(unconfirmed_until) };
        }
        Event::AnswerLost { reason, not_before: self.next_try(scope), unconfirmed_until, scope }
    }

    /// How often, or for how long, the batch was tried in vain, where that is enough.
    fn exhausted(&self, scope: FailureScope) -> Option<String> {
        match scope {
            FailureScope::Batch if self.tried.attempts >= self.instance.max_attempts => {
                Some(format!("{} attempts", self.tried.attempts))
            }
            FailureScope::Instance { backoff_until: quiet_until, tried_alone_for: alone }
                if alone >= MAX_TRIED_ALONE + span(self.now, quiet_until) =>
            {
                Some("attempts for seven days".to_owned())
            }
            _ => None,
        }
    }

    fn next_try(&self, scope: FailureScope) -> Timestamp {
        match scope {
            FailureScope::Instance { backoff_until: quiet_until, .. } => quiet_until,
            FailureScope::Batch | FailureScope::Daemon => after(self.now, backoff(self.instance, self.tried.attempts)),
        }
    }

    fn backoff_until(&self) -> Timestamp {
        service_backoff_until(self.seen, self.instance, self.now)
    }
}

/// How long it is from one moment to a later one; nothing where it is not later.
fn span(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// Until when Marketo as a whole is left alone after one more failed upload.
pub fn service_backoff_until(seen: &Snapshot, instance: &Instance, now: Timestamp) -> Timestamp {
    after(now, backoff(instance, seen.instance.service_failures.saturating_add(1)))
}

/// How long to wait for someone else's import to end before the next whole file is sent to find out. By the pace of the
/// last imports that is half of one, so that about one upload is refused for each of ours that is imported beside them;
/// never less than the longest pause between polls, nor more than the longest one after a fault.
fn foreign_queue_delay(paces: &[(u64, Duration)], instance: &Instance) -> Duration {
    let (least, most) = (instance.polling.max, instance.backoff_max.max(instance.polling.max));
    let all: Duration = paces.iter().map(|&(_, took)| took).sum();
    let imports = u32::try_from(paces.len()).unwrap_or(u32::MAX).max(1);
    (all / imports / 2).clamp(least, most)
}

/// What the answer to a poll says of the import. `waited` is how much longer it was waited for.
pub fn poll_event(status: RemoteStatus, counts: Counts, message: Option<String>, waited: Duration) -> Event {
    match status {
        RemoteStatus::Queued | RemoteStatus::Importing => Event::Polled { status, counts, waited },
        RemoteStatus::Complete => Event::ImportEnded { counts, message: message.unwrap_or_default() },
        RemoteStatus::Failed => {
            let reason = message.filter(|message| !message.is_empty());
            let reason = reason.unwrap_or_else(|| "the import failed, and Marketo did not say why".into());
            Event::ImportLost { counts, reason }
        }
    }
}

/// A poll brought a status word that nobody documents. That is no end: Marketo is asked again, as long as it knows the
/// import. `before` is the batch as it was.
pub fn unknown_status_event(
    word: &str,
    before: PreviousPoll,
    waited: Duration,
    instance: &Instance,
    now: Timestamp,
) -> Event {
    let reason = format!("Marketo gave the import's status as \"{word}\", which is none of its documented words");
    match poll_failed(ErrorAction::Again, &reason, before.accepted_at, before.query_failures, instance, now) {
        PollRetry::AskAgain(not_before) => Event::UnknownStatus { reason, waited, not_before },
        PollRetry::GiveUp(reason) => Event::ImportLost { counts: before.counts, reason },
    }
}

/// What is known of a batch whose import is asked after.
#[derive(Clone, Copy, Debug)]
pub struct PreviousPoll {
    pub accepted_at: Option<Timestamp>,
    pub query_failures: QueryFailures,
    pub counts: Counts,
    pub waited: Duration,
    pub is_overdue: bool,
}

/// How much longer an import was waited for. `watched` is what passed since Marketo last said how it stands, by a clock that
/// nobody sets; none where this process has not heard that. The wall clock is not asked: it may have leapt, and nothing tells
/// how long the daemon was down. No single pause decides by itself that an import is overdue.
pub fn believed_wait(watched: Option<Duration>, instance: &Instance) -> Duration {
    watched.unwrap_or_default().min(instance.max_import_time / 2)
}

/// What follows where Marketo has not ended the import within `max_import_time`: it is held from then on. `word` is what
/// Marketo called it last, and `waited` how much longer it was waited for.
pub fn overdue_event(word: &str, before: PreviousPoll, waited: Duration, instance: &Instance) -> Option<Event> {
    let max = instance.max_import_time;
    if before.is_overdue || before.waited.saturating_add(waited) < max {
        return None;
    }
    let max = SignedDuration::try_from(max).unwrap_or(SignedDuration::MAX);
    Some(Event::Overdue {
        reason: format!(
            "Marketo still calls the import \"{word}\" and has not ended it within {max:#} (max_import_time)"
        ),
    })
}

/// What follows from a question about an import that found no good answer. Never another upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollRetry {
    /// It is asked again then.
    AskAgain(Timestamp),
    /// There is no use in asking on, for this reason.
    GiveUp(String),
}

/// Whether Marketo may have such a file of an ended import of `sent` rows. A call is saved where it counted no row for it.
/// Where it did not count, it is asked; so it is for failures where its counts do not add up to what was sent.
pub fn may_have_report(report: ReportKind, counts: Counts, sent: u64) -> bool {
    match report {
        ReportKind::Failures => counts.failed != Some(0) || !RowCounts::complete(sent, counts).is_accounted_for(),
        ReportKind::Warnings => counts.warned != Some(0),
    }
}

/// A file that Marketo counted no row for is only hoped for, where its counts do not add up: so often is it asked for.
const MAX_UNCOUNTED_TRIES: u32 = 3;

/// Whether a file that could not be had is asked for once more. `before` are the failures in a row before this one.
pub fn is_worth_asking_again(counted: Option<u64>, before: QueryFailures) -> bool {
    counted != Some(0) || before.all + 1 < MAX_UNCOUNTED_TRIES
}

/// Whether Marketo said no to a question about an import (none: it has no such file), rather than nothing.
pub fn is_refusal(ask: Option<ErrorAction>) -> bool {
    matches!(ask, None | Some(ErrorAction::Reject))
}

/// A poll failed. It is asked again, until Marketo surely does not know the import any more. `query_failures` are those in
/// a row before this one.
pub fn poll_failed(
    ask: ErrorAction,
    reason: &str,
    accepted_at: Option<Timestamp>,
    query_failures: QueryFailures,
    instance: &Instance,
    now: Timestamp,
) -> PollRetry {
    if is_forgotten(Some(ask), accepted_at, now) {
        let known = "what became of the import is unknown: Marketo keeps a batch for seven days";
        return PollRetry::GiveUp(format!("{known}. It says: {reason}"));
    }
    let failures = query_failures.plus(is_refusal(Some(ask)));
    if is_refusal(Some(ask)) && failures.refusals >= instance.max_attempts {
        return PollRetry::GiveUp(format!("Marketo does not know the import any more: {reason}"));
    }
    PollRetry::AskAgain(after(now, backoff(instance, failures.all).max(instance.polling.min)))
}

/// A failure or warning file could not be had: `ask` is why, or none where Marketo has none although it counted rows for
/// it (it may only be late).
pub fn fetch_failed(
    ask: Option<ErrorAction>,
    reason: &str,
    accepted_at: Option<Timestamp>,
    query_failures: QueryFailures,
    instance: &Instance,
    now: Timestamp,
) -> PollRetry {
    if is_forgotten(ask, accepted_at, now) {
        return PollRetry::GiveUp(format!("Marketo keeps a batch's files for seven days. It says: {reason}"));
    }
    let failures = query_failures.plus(is_refusal(ask));
    if is_refusal(ask) && failures.refusals >= instance.max_attempts.saturating_mul(MAX_FILE_QUERY_REJECTIONS) {
        return PollRetry::GiveUp(format!(
            "Marketo was asked {} times for the file and does not give it: {reason}",
            failures.refusals
        ));
    }
    PollRetry::AskAgain(after(now, backoff(instance, failures.all)))
}

/// Whether Marketo has forgotten the import by now. What can't be reached, or gives no answer, has not said so: after a
/// long silence it is given as long again.
fn is_forgotten(ask: Option<ErrorAction>, accepted_at: Option<Timestamp>, now: Timestamp) -> bool {
    let silent = matches!(ask, Some(ErrorAction::OutcomeUnknown | ErrorAction::ServiceDown | ErrorAction::NewToken));
    let remembered = if silent { IMPORT_LIFETIME * 2 } else { IMPORT_LIFETIME };
    accepted_at.is_some_and(|accepted| after(accepted, remembered) <= now)
}

/// The pause after the `n`th failure in a row, counted from 1: doubling from `backoff_min` up to `backoff_max`.
pub fn backoff(instance: &Instance, n: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(n.saturating_sub(1));
    instance.backoff_min.saturating_mul(doubled).min(instance.backoff_max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;

    /// Eight attempts, pauses from one second to five minutes.
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

    fn refused(ask: ErrorAction) -> UploadError {
        UploadError::Refused { ask, reason: "words".into(), request_id: None }
    }

    #[test]
    fn pauses_double_between_the_two_limits() {
        let instance = instance();
        let secs: Vec<u64> = [1, 2, 3, 8, 9, 10, 40, u32::MAX].map(|n| backoff(&instance, n).as_secs()).into();
        assert_eq!(secs, [1, 2, 4, 128, 256, 300, 300, 300]);
    }

    /// A batch that was uploaded before, as upload 5 of the instance, and began this one a second ago.
    fn tried(attempts: u32) -> UploadAttempts {
        UploadAttempts { attempts, last_upload: Some(5), began: Some(from_ms(-1_000)), ..UploadAttempts::default() }
    }

    /// The instance with its last success: before the batch's last upload, or after it.
    fn success(last_success: u64, service_failures: u32) -> Snapshot {
        let mut seen = failed(service_failures);
        (seen.instance.last_success, seen.instance.uploads_ended) = (last_success, 9);
        seen
    }

    fn after_upload(fault: UploadError, tried: UploadAttempts, seen: &Snapshot, instance: &Instance) -> Event {
        FailedUpload { tried, seen, instance, now: from_ms(0) }.event(fault)
    }

    fn lost() -> UploadError {
        UploadError::AnswerLost { reason: "cut".into(), request_id: None }
    }

    #[test]
    fn each_refusal_has_its_effect_and_few_cost_an_attempt() {
        // What follows where nothing has succeeded since the batch's last upload, and where another upload has.
        for (ask, during, beside) in [
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
                Event::Requeued { defer_reason: wait, not_before: Some(at), .. } => {
                    format!("put-back {} {}", wait.as_str(), seconds(at))
                }
                Event::Requeued { defer_reason: wait, .. } => format!("put-back {}", wait.as_str()),
                Event::Refused { not_before, scope, .. } => format!("refused {}{}", seconds(not_before), counts(scope)),
                Event::AnswerLost { not_before, scope, .. } => {
                    format!("answer-lost {}{}", seconds(not_before), counts(scope))
                }
                other => other.name().to_owned(),
            };
            for (seen, expected) in [(success(5, 4), during), (success(6, 4), beside)] {
                let event = after_upload(refused(ask), tried(3), &seen, &instance());
                assert_eq!(shown(event), expected, "{ask:?}");
            }
        }
    }

    #[test]
    fn an_attempt_counts_only_after_anothers_success() {
        for (last_upload, last_success, counts) in
            [(None, 0, false), (None, 9, false), (Some(5), 0, false), (Some(5), 5, false), (Some(5), 6, true)]
        {
            let tried = UploadAttempts { last_upload, ..tried(8) };
            let seen = success(last_success, 0);
            for fault in [refused(ErrorAction::Again), lost(), UploadError::BrokenOff("cut".into())] {
                let event = after_upload(fault.clone(), tried, &seen, &instance());
                assert_eq!(
                    matches!(event, Event::AttemptsExhausted { .. }),
                    counts,
                    "{fault:?} {last_upload:?} {last_success}"
                );
            }
            let first = FailedUpload { tried, seen: &seen, instance: &instance(), now: from_ms(0) };
            let killed = first.interrupted("the daemon ended".into());
            assert_eq!(matches!(killed, Event::AttemptsExhausted { .. }), counts, "{last_upload:?} {last_success}");
        }
    }

    #[test]
    fn the_last_attempt_ends_the_batch_with_marketos_words() {
        let beside = success(6, 0);
        let after_upload = |fault, attempts| after_upload(fault, tried(attempts), &beside, &instance());
        let Event::AttemptsExhausted { reason, unconfirmed_until: None } = after_upload(refused(ErrorAction::Again), 8)
        else {
            panic!("not given up")
        };
        assert_eq!(reason, "given up after 8 attempts; the last answer was: words");
        // What the last one may have left behind counts all the same.
        let given_up = after_upload(lost(), 8);
        assert!(
            matches!(given_up, Event::AttemptsExhausted { unconfirmed_until: Some(until), .. } if until == from_ms(300_000))
        );
        let broken = || UploadError::BrokenOff("it broke off".into());
        assert!(matches!(after_upload(broken(), 7), Event::Refused { .. }));
        assert!(matches!(after_upload(broken(), 8), Event::AttemptsExhausted { unconfirmed_until: None, .. }));
        // What never left was never an attempt.
        let never = UploadError::NeverSent("no route".into());
        assert!(matches!(after_upload(never, 800), Event::Requeued { .. }));
    }

    #[test]
    fn a_batch_that_waits_alone_is_tried_for_seven_days() {
        let instance = instance();
        let mut seen = success(5, 20);
        for (waiting, fault) in
            [(false, refused(ErrorAction::Again)), (false, lost()), (true, refused(ErrorAction::Again))]
        {
            seen.has_untried_batch = waiting;
            let mut batch = UploadAttempts { last_upload: Some(9), ..tried(1) };
            let mut tries = 0;
            let reason = loop {
                match after_upload(fault.clone(), batch, &seen, &instance) {
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
        // The clock leapt by a month in the middle of an upload.
        let leapt = UploadAttempts { began: Some(from_ms(-30 * 24 * 3_600_000)), ..tried(1) };
        seen.has_untried_batch = false;
        let scope = after_upload(lost(), leapt, &seen, &instance).failure_scope();
        let Some(FailureScope::Instance { tried_alone_for: alone, .. }) = scope else { panic!("{scope:?}") };
        assert_eq!(alone, instance.request_timeout + Duration::from_secs(300));
    }

    #[test]
    fn a_lost_answer_is_sent_again_or_held_as_the_policy_says() {
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
    fn credentials_and_the_days_quota_stop_the_instance() {
        let now = "2026-03-10T12:00:00Z".parse().unwrap();
        let mut instance = instance();
        let whole = |ask, now| instance_action(ask, &instance, now);
        let pause = |kind, until: Option<&str>| {
            Some(InstanceAction::Pause { kind, until: until.map(|until| until.parse().unwrap()) })
        };
        assert_eq!(whole(ErrorAction::StopForCredentials, now), pause(PauseKind::Credentials, None));
        assert_eq!(whole(ErrorAction::NewToken, now), None);
        assert_eq!(whole(ErrorAction::DayIsOver, now), pause(PauseKind::Quota, Some("2026-03-11T06:00:00Z")));
        assert_eq!(whole(ErrorAction::WaitWindow, now), Some(InstanceAction::WindowFull));
        assert_eq!(whole(ErrorAction::Reject, now), None);
        instance.limits.daily_reset = jiff::civil::time(12, 0, 1, 0);
        assert_eq!(
            super::instance_action(ErrorAction::DayIsOver, &instance, now),
            pause(PauseKind::Quota, Some("2026-03-10T12:00:01Z"))
        );
    }

    #[test]
    fn the_wait_for_foreign_imports_is_half_a_recent_import() {
        for (paces, seconds) in
            [(&[][..], 30), (&[(10, 40)], 30), (&[(10, 100), (10, 200)], 75), (&[(10_000, 1200)], 300)]
        {
            let paces: Vec<_> = paces.iter().map(|&(rows, secs)| (rows, Duration::from_secs(secs))).collect();
            assert_eq!(foreign_queue_delay(&paces, &instance()), Duration::from_secs(seconds), "{paces:?}");
        }
        let mut patient = instance();
        patient.polling.max = Duration::from_secs(900);
        assert_eq!(foreign_queue_delay(&[], &patient), Duration::from_secs(900));
    }

    #[test]
    fn a_question_is_asked_until_marketo_surely_has_no_answer() {
        const DAY: i64 = 24 * 3600;
        let said = |next: PollRetry| match next {
            PollRetry::AskAgain(at) => format!("at {}", at.as_millisecond() / 1000),
            PollRetry::GiveUp(reason) => reason,
        };
        // What the answer asks for (none: a file is late), failures in a row with this one, seconds since the acceptance;
        // what follows of a poll, and of a fetch.
        for (ask, failures, age, polled, fetched) in [
            (Some(ErrorAction::OutcomeUnknown), 1, 60, "at 65", "at 61"),
            (Some(ErrorAction::OutcomeUnknown), 5, 60, "at 76", "at 76"),
            (Some(ErrorAction::ServiceDown), 500, DAY, "at 86700", "at 86700"),
            (Some(ErrorAction::NewToken), 500, 7 * DAY, "at 605100", "at 605100"),
            (Some(ErrorAction::Reject), 7, 60, "at 124", "at 124"),
            (Some(ErrorAction::Reject), 8, 60, "Marketo does not know the import any more: w", "at 188"),
            (None, 8, 60, "at 188", "at 188"),
            (None, 16, 60, "at 360", "Marketo was asked 16 times for the file and does not give it: w"),
            (Some(ErrorAction::Reject), 1, 7 * DAY - 1, "at 604804", "at 604800"),
            (Some(ErrorAction::OutcomeUnknown), 1, 7 * DAY, "at 604805", "at 604801"),
            (
                Some(ErrorAction::OutcomeUnknown),
                1,
                14 * DAY,
                "what became of the import is unknown: Marketo keeps a batch for seven days. It says: w",
                "Marketo keeps a batch's files for seven days. It says: w",
            ),
            (
                Some(ErrorAction::Reject),
                1,
                7 * DAY,
                "what became of the import is unknown: Marketo keeps a batch for seven days. It says: w",
                "Marketo keeps a batch's files for seven days. It says: w",
            ),
        ] {
            let (accepted, now) = (Some(from_ms(0)), from_ms(age * 1000));
            let before = (1..failures).fold(QueryFailures::default(), |before, _| before.plus(is_refusal(ask)));
            let poll = poll_failed(ask.unwrap_or(ErrorAction::Again), "w", accepted, before, &instance(), now);
            assert_eq!(said(poll), polled, "{ask:?} {failures}");
            assert_eq!(said(fetch_failed(ask, "w", accepted, before, &instance(), now)), fetched, "{ask:?} {failures}");
        }
    }

    #[test]
    fn a_file_that_nobody_counted_is_asked_for_three_times() {
        let before = |all| QueryFailures { all, refusals: 0 };
        for (counted, all, again) in
            [(Some(0), 0, true), (Some(0), 1, true), (Some(0), 2, false), (Some(1), 9, true), (None, 9, true)]
        {
            assert_eq!(is_worth_asking_again(counted, before(all)), again, "{counted:?} {all}");
        }
    }

    fn asked(waited: Duration) -> PreviousPoll {
        PreviousPoll {
            accepted_at: Some(from_ms(0)),
            query_failures: QueryFailures::default(),
            counts: Counts::default(),
            waited,
            is_overdue: false,
        }
    }

    #[test]
    fn an_import_that_does_not_end_is_held_once() {
        let day = Duration::from_secs(24 * 3600);
        let instance = instance();
        assert_eq!(overdue_event("Importing", asked(2 * day), day - Duration::from_secs(1), &instance), None);
        let Some(Event::Overdue { reason }) = overdue_event("Queued", asked(2 * day), day, &instance) else { panic!() };
        assert_eq!(
            reason,
            "Marketo still calls the import \"Queued\" and has not ended it within 72h (max_import_time)"
        );
        assert_eq!(
            overdue_event("Importing", PreviousPoll { is_overdue: true, ..asked(9 * day) }, day, &instance),
            None
        );
    }

    #[test]
    fn only_what_this_process_watched_counts_as_waited() {
        let (instance, second) = (instance(), Duration::from_secs(1));
        assert_eq!(believed_wait(Some(30 * second), &instance), 30 * second);
        assert_eq!(believed_wait(None, &instance), Duration::ZERO);
        assert_eq!(believed_wait(Some(100 * instance.max_import_time), &instance), instance.max_import_time / 2);
    }

    #[test]
    fn an_unknown_status_is_asked_after_until_marketo_forgets() {
        let (instance, day) = (instance(), 24 * 3600 * 1000);
        let said =
            |now_ms| unknown_status_event("Paused", asked(Duration::ZERO), Duration::ZERO, &instance, from_ms(now_ms));
        let reason = "Marketo gave the import's status as \"Paused\", which is none of its documented words";
        let again = Event::UnknownStatus { reason: reason.into(), waited: Duration::ZERO, not_before: from_ms(7_000) };
        assert_eq!(said(2_000), again);
        assert!(matches!(said(7 * day), Event::ImportLost { reason: lost, .. } if lost.ends_with(reason)));
    }

    #[test]
    fn a_file_is_asked_for_unless_marketo_surely_has_none() {
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
    fn answers_that_stay_away_are_no_refusals_however_many_they_are() {
        let mut before = QueryFailures::default();
        for _ in 0..100 {
            before = before.plus(false);
        }
        // Seven times no, and then once more.
        for refusals in 1..=8 {
            let (now, accepted) = (from_ms(60_000), Some(from_ms(0)));
            let poll = poll_failed(ErrorAction::Reject, "w", accepted, before, &instance(), now);
            assert_eq!(matches!(poll, PollRetry::GiveUp(_)), refusals == 8, "refused {refusals} times");
            let fetch = fetch_failed(None, "w", accepted, before, &instance(), now);
            assert!(matches!(fetch, PollRetry::AskAgain(_)), "refused {refusals} times");
            before = before.plus(true);
        }
    }
}
