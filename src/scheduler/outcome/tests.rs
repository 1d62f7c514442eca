//! Tests of the outcomes.

use std::time::Duration;

use jiff::Timestamp;

use super::upload::foreign_queue_delay;
use super::*;
use crate::clock::from_ms;
use crate::config::{Instance, UnknownOutcome};
use crate::domain::batch::{QueryFailureKind, QueryFailures, UploadAttempts};
use crate::domain::instance::PauseKind;
use crate::domain::{Counts, Event, FailureScope, ReportKind};
use crate::marketo::{ErrorAction, UploadError};
use crate::store::Snapshot;

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
    assert_eq!(reason, "given up after 8 attempts; the last answer was: message".into());
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
    for (waiting, error) in [(false, refused(ErrorAction::Again)), (false, lost()), (true, refused(ErrorAction::Again))]
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
        assert!(reason.is_none_or(|reason| reason.text.starts_with("given up after attempts for seven days; ")));
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
    let again = Event::AnswerLost { reason: reason.clone().into(), not_before, unconfirmed_until, scope };
    assert_eq!(lost(tried(1), &instance), again);
    instance.unknown_outcome = UnknownOutcome::Hold;
    assert_eq!(lost(tried(9), &instance), Event::Held { reason: reason.into(), unconfirmed_until, scope });
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
    for (mean, seconds) in [(0, 30), (40, 30), (150, 75), (1200, 300)] {
        let delay = foreign_queue_delay(Duration::from_secs(mean), &instance());
        assert_eq!(delay, Duration::from_secs(seconds), "{mean}");
    }
    let mut slow = instance();
    slow.polling.max = Duration::from_secs(900);
    assert_eq!(foreign_queue_delay(Duration::ZERO, &slow), Duration::from_secs(900));
}

#[test]
fn query_is_repeated_until_marketo_has_deleted_the_import() {
    const DAY: i64 = 24 * 3600;
    let shown = |next: PollRetry| match next {
        PollRetry::RetryAt(at) => format!("at {}", at.as_millisecond() / 1000),
        PollRetry::GiveUp(reason) => reason.text,
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
        let before = (1..failures).fold(QueryFailures::default(), |before, _| before.plus(query_failure_kind(action)));
        let reason = "w".into();
        let failed = |action| FailedQuery { action, reason: &reason, accepted_at: accepted, failures_before: before };
        let poll = failed(Some(action.unwrap_or(ErrorAction::Again))).after_poll(&instance(), now);
        assert_eq!(shown(poll), polled, "{action:?} {failures}");
        let fetch = failed(action).after_fetch(&instance(), now);
        assert_eq!(shown(fetch), fetched, "{action:?} {failures}");
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
    let Some(Event::Overdue { reason }) = overdue_event("Queued", previous(2 * day), day, &instance) else { panic!() };
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
    let event =
        |now_ms| previous(Duration::ZERO).unknown_status_event("Paused", Duration::ZERO, &instance, from_ms(now_ms));
    let reason = "Marketo returned the import status \"Paused\", which is not one of its documented statuses";
    let again = Event::UnknownStatus { reason: reason.into(), waited: Duration::ZERO, not_before: from_ms(7_000) };
    assert_eq!(event(2_000), again);
    assert!(matches!(event(7 * day), Event::ImportLost { reason: lost, .. } if lost.text.ends_with(reason)));
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
        let reason = "w".into();
        let failed = |action| FailedQuery { action, reason: &reason, accepted_at: accepted, failures_before: before };
        let poll = failed(Some(ErrorAction::Reject)).after_poll(&instance(), now);
        assert_eq!(matches!(poll, PollRetry::GiveUp(_)), refusals == 8, "refused {refusals} times");
        let fetch = failed(None).after_fetch(&instance(), now);
        assert!(matches!(fetch, PollRetry::RetryAt(_)), "refused {refusals} times");
        before = before.plus(QueryFailureKind::Rejected);
    }
}
