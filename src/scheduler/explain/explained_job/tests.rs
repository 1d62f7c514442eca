//! Tests of the words: each reason in a few words and in full, and how a job ended.

use std::time::Duration;

use super::*;
use crate::clock::from_ms;
use crate::config::Polling;
use crate::domain::batch_rules::BatchRules;
use crate::domain::instance::Pause;
use crate::domain::row_counts::RowCounts;
use crate::domain::{BatchKey, Counts, Format, Target};
use crate::store::{InFlightBatch, QueuedBatch};

const RULES: SchedulingRules = SchedulingRules {
    max_in_flight: 2,
    upload_bytes: 10_000_000,
    polling: Polling { min: Duration::from_secs(5), max: Duration::from_secs(30) },
    backoff_max: Duration::from_secs(900),
};

fn at(second: i64) -> Timestamp {
    from_ms(1_000 * second)
}

fn job() -> Job {
    Job {
        id: JobId(9),
        state: JobState::Pending,
        target: Target::Leads { lookup_field: None, list_id: Some(7), partition: None },
        instance: "eu".into(),
        filename: "leads.csv".into(),
        format: Format::Csv,
        priority: 0,
        group: None,
        bytes: 10,
        rows: RowCounts::uncounted(10),
        batches: vec![Batch::new(1, 10, 0, 1)],
        retry_of: None,
        source: None,
        not_before: None,
        batch_rules: BatchRules::default(),
        packing: None,
        created_at: at(0),
        started_at: None,
        finished_at: None,
        content_erased_at: None,
        reports_erased_at: None,
        error: None,
        header: (0, 6),
    }
}

fn in_flight(job: i64, list_id: Option<i64>) -> InFlightBatch {
    InFlightBatch {
        key: BatchKey { job: JobId(job), part: 1 },
        state: BatchState::Importing,
        group: None,
        list_id,
        rows: 10,
        rows_done: 0,
        not_before: None,
        accepted_at: Some(at(1)),
        importing_at: Some(at(1)),
        polled_at: None,
        is_overdue: false,
    }
}

fn queued(job: i64) -> QueuedBatch {
    let key = BatchKey { job: JobId(job), part: 1 };
    QueuedBatch {
        key,
        priority: 0,
        group: None,
        group_head: None,
        list_id: None,
        batch_rules: BatchRules::default(),
        bytes: 100,
        pack_shape: None,
        rows: 10,
        not_before: None,
    }
}

/// What the test changes; by default the job may be uploaded at once.
struct Case {
    job: Job,
    outlook: QueueOutlook,
    ahead: Option<JobId>,
    next_call_at: Option<Timestamp>,
}

impl Case {
    fn new(change: impl FnOnce(&mut Case)) -> Case {
        let mut case = Case { job: job(), outlook: QueueOutlook::default(), ahead: None, next_call_at: None };
        change(&mut case);
        case
    }

    fn paused(kind: PauseKind, until: Option<Timestamp>) -> Case {
        let pause = Pause { kind, reason: "607".into(), at: at(1), until };
        Case::new(|case| case.outlook.snapshot.instance.pause = Some(pause))
    }

    fn explained(&self) -> ExplainedJob<'_> {
        ExplainedJob {
            job: &self.job,
            ahead: self.ahead,
            outlook: &self.outlook,
            rules: &RULES,
            next_call_at: self.next_call_at,
            now: at(100),
        }
    }

    /// The code, the few words and the time. The full text has the same code and time.
    fn waiting(&self) -> (WaitReason, String, Option<Timestamp>) {
        let explained = self.explained();
        let (waiting, explanation) = (explained.waiting().unwrap(), explained.explain());
        assert_eq!((explanation.waits_for, explanation.until), (waiting.waits_for, waiting.until));
        assert!(explanation.text.ends_with('.') || explanation.text.contains("message: "), "{}", explanation.text);
        (waiting.waits_for, waiting.text, waiting.until)
    }
}

#[test]
fn each_reason_has_few_words_and_its_time() {
    use WaitReason::{Backoff, Calls, Group, Import, List, Operator, Quota, Service, Slot, Turn};
    let later = Some(at(120));
    let full = |case: &mut Case| case.outlook.snapshot.in_flight = vec![in_flight(1, None), in_flight(2, None)];
    for (case, waits_for, text, until) in [
        (Case::paused(PauseKind::Operator, None), Operator, "paused by an operator", None),
        (Case::paused(PauseKind::Credentials, None), Operator, "paused, because Marketo refuses the credentials", None),
        (Case::paused(PauseKind::Quota, later), Quota, "the day's quota of calls is used up", later),
        (
            Case::new(|case| case.outlook.snapshot.instance.backoff_until = later),
            Service,
            "Marketo is unavailable, or no upload succeeds",
            later,
        ),
        (Case::new(|case| case.job.not_before = later), WaitReason::NotBefore, "waits for its earliest time", later),
        (
            Case::new(|case| case.outlook.snapshot.busy_lists = vec![(7, at(120))]),
            List,
            "another integration imports into static list 7",
            later,
        ),
        (
            Case::new(|case| case.outlook.snapshot.in_flight = vec![in_flight(5, Some(7))]),
            List,
            "waits for job 5 (static list 7)",
            None,
        ),
        (Case::new(|case| case.job.batches[0].not_before = later), Backoff, "part 1 failed and is retried", later),
        (
            Case::new(|case| (case.ahead, case.job.group) = (Some(JobId(7)), Some("nightly".into()))),
            Group,
            "waits for job 7 (group nightly)",
            None,
        ),
        (
            Case::new(|case| {
                case.outlook.snapshot.instance.observed_slot_limit = Some(0);
                case.outlook.snapshot.instance.slot_probe_at = later;
            }),
            Slot,
            "Marketo's queue is full",
            later,
        ),
        (Case::new(full), Slot, "waits for a free slot", None),
        (
            Case::new(|case| {
                full(case);
                case.outlook.queued = vec![queued(3), queued(9)];
            }),
            Slot,
            "waits for a free slot, 1 job ahead of it",
            None,
        ),
        (
            Case::new(|case| {
                full(case);
                case.outlook.queued = vec![queued(3), queued(4), queued(9)];
            }),
            Slot,
            "waits for a free slot, 2 jobs ahead of it",
            None,
        ),
        (
            Case::new(|case| {
                full(case);
                (case.outlook.queued, case.outlook.has_more) = (vec![queued(3), queued(4)], true);
            }),
            Slot,
            "waits for a free slot, more than 2 jobs ahead of it",
            None,
        ),
        (Case::new(|case| case.outlook.snapshot.in_flight_elsewhere = 2), Slot, "waits for a free slot", None),
        (Case::new(|case| case.next_call_at = later), Calls, "the limit of calls in the window is reached", later),
        (Case::new(|_| {}), Turn, "next", None),
        (Case::new(|case| case.job.batches[0].state = BatchState::Importing), Import, "Marketo is importing it", None),
    ] {
        assert_eq!(case.waiting(), (waits_for, text.to_owned(), until));
    }
}

/// A job of three parts, of which the first ones have these states and the others are pending.
fn parts(states: &[BatchState], rules: BatchRules) -> Case {
    let mut batches = vec![Batch::new(1, 10, 0, 1), Batch::new(2, 10, 0, 1), Batch::new(3, 10, 0, 1)];
    for (batch, &state) in batches.iter_mut().zip(states) {
        batch.state = state;
    }
    Case::new(|case| (case.job.batches, case.job.batch_rules) = (batches, rules))
}

#[test]
fn pending_batches_have_reasons_of_their_own() {
    use BatchState::{Complete, Held, Importing, Pending, Uploading};
    use WaitReason::{Import, Operator, Slot, Turn, Upload};
    let in_order = BatchRules { in_order: true, ..BatchRules::default() };
    let canary = BatchRules { canary: Some(10), ..BatchRules::default() };
    let none = BatchRules::default();
    let full = |mut case: Case| {
        case.outlook.snapshot.in_flight = vec![in_flight(1, None), in_flight(2, None)];
        case
    };
    let paused = |mut case: Case| {
        case.outlook.snapshot.instance = Case::paused(PauseKind::Operator, None).outlook.snapshot.instance;
        case
    };
    for (case, expected) in [
        (parts(&[Importing], none), Some((Turn, "next"))),
        (full(parts(&[Importing], none)), Some((Slot, "waits for a free slot"))),
        (paused(parts(&[Importing], none)), Some((Operator, "paused by an operator"))),
        (parts(&[Importing], in_order), Some((Import, "waits for part 1 (in_order)"))),
        (paused(parts(&[Importing], in_order)), Some((Operator, "paused by an operator"))),
        (parts(&[Complete, Uploading], in_order), Some((Upload, "waits for part 2 (in_order)"))),
        (parts(&[Complete], in_order), Some((Turn, "next"))),
        (parts(&[Held], in_order), Some((Operator, "waits for part 1 (in_order)"))),
        (parts(&[Importing], canary), Some((Import, "waits for part 1 (canary)"))),
        (parts(&[Complete, Importing], canary), Some((Turn, "next"))),
        (parts(&[Pending], canary), Some((Turn, "next"))),
        (parts(&[Complete, Complete, Importing], in_order), None),
    ] {
        let first = case.job.batches.iter().find(|batch| batch.state == Pending).map(|batch| batch.part);
        let found = first.and_then(|part| case.explained().pending_waiting(part));
        let found = found.map(|waiting| (waiting.waits_for, waiting.text));
        assert_eq!(found, expected.map(|(reason, text)| (reason, text.to_owned())), "{:?}", case.job.batches);
    }
}

#[test]
fn an_explanation_names_the_part_that_others_wait_for() {
    let in_order = BatchRules { in_order: true, ..BatchRules::default() };
    let text = |states: &[BatchState], rules| parts(states, rules).explained().explain().text;
    let waits = |part| format!(" The pending parts of the job wait until part {part} is complete (in_order).");
    assert!(text(&[BatchState::Importing], in_order).ends_with(&waits(1)));
    assert!(text(&[BatchState::Collecting], in_order).ends_with(&waits(1)));
    assert!(text(&[BatchState::Complete, BatchState::Uploading], in_order).ends_with(&waits(2)));
    assert!(!text(&[BatchState::Importing], BatchRules::default()).contains("pending parts"));
    assert!(!text(&[BatchState::Complete], in_order).contains("pending parts"));
}

#[test]
fn a_deferred_part_does_not_explain_another_one() {
    let mut case = parts(&[], BatchRules::default());
    case.job.batches[0].not_before = Some(at(120));
    let waiting = |part| case.explained().pending_waiting(part).map(|waiting| (waiting.text, waiting.until));
    assert_eq!(waiting(1), Some(("part 1 failed and is retried".into(), Some(at(120)))));
    assert_eq!(waiting(2), Some(("next".into(), None)));
    assert_eq!(waiting(9), None);
}

#[test]
fn a_pause_that_is_over_is_no_reason() {
    assert_eq!(Case::paused(PauseKind::Quota, Some(at(100))).waiting().0, WaitReason::Turn);
}

#[test]
fn an_ended_job_waits_for_nothing_and_has_its_counts() {
    let counts = |processed, failed| RowCounts::complete(10, Counts { processed, failed, warned: Some(0) });
    for (state, rows, text) in [
        (JobState::Complete, counts(Some(10), Some(0)), "Marketo imported 10 of its 10 rows."),
        (JobState::Complete, counts(Some(8), Some(2)), "Marketo imported 8 of its 10 rows, and 2 failed."),
        (JobState::Cancelled, RowCounts::uncounted(1), "Marketo imported 0 of its 1 row."),
        (
            JobState::Complete,
            counts(Some(8), Some(1)),
            "Marketo imported 8 of its 10 rows, and 1 failed. 1 row of 10 is unaccounted for: \
             Marketo counted 8 processed and 1 failed.",
        ),
        (JobState::Failed, RowCounts::uncounted(10), "1006: field 'x' not found"),
    ] {
        let mut case = Case::new(|case| (case.job.state, case.job.rows) = (state, rows));
        case.job.error = (state == JobState::Failed).then(|| "1006: field 'x' not found".into());
        let explained = case.explained();
        assert_eq!(explained.waiting(), None);
        assert_eq!((explained.explain().waits_for, explained.explain().text), (WaitReason::Nothing, text.to_owned()));
    }
}
