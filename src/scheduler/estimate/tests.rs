//! Tests of the estimates: the order of the queue, pauses, and what is not foreseen.

use std::time::Duration;

use super::*;
use crate::clock::from_ms;
use crate::config::Polling;
use crate::domain::batch_rules::BatchRules;
use crate::domain::instance::Pause;
use crate::domain::row_counts::RowCounts;
use crate::domain::{BatchState, Format, JobId, JobState, Target};
use crate::store::{EndedImport, InFlightBatch, QueuedBatch};

const RULES: SchedulingRules = SchedulingRules {
    max_in_flight: 2,
    upload_bytes: 10_000_000,
    polling: Polling { min: Duration::from_secs(5), max: Duration::from_secs(30) },
    backoff_max: Duration::from_secs(900),
};

const NOW: i64 = 100;

fn key(job: i64) -> BatchKey {
    BatchKey { job: JobId(job), part: 1 }
}

fn at(second: i64) -> Timestamp {
    from_ms(1_000 * second)
}

fn importing(job: i64, since: i64) -> InFlightBatch {
    InFlightBatch {
        key: key(job),
        state: BatchState::Importing,
        group: None,
        list_id: None,
        rows: 100,
        rows_done: 0,
        not_before: None,
        accepted_at: Some(at(since)),
        importing_at: Some(at(since)),
        polled_at: None,
        is_overdue: false,
    }
}

fn queued(job: i64, rows: u64) -> QueuedBatch {
    QueuedBatch {
        key: key(job),
        priority: 0,
        group: None,
        group_head: None,
        list_id: None,
        batch_rules: BatchRules::default(),
        bytes: 100,
        pack_shape: None,
        rows,
        not_before: None,
    }
}

fn of_group(job: i64, head: i64) -> QueuedBatch {
    QueuedBatch { group: Some("nightly".into()), group_head: Some(JobId(head)), ..queued(job, 100) }
}

/// Imports of 100 rows took 10 s. 1 is to end at 105, and 2 at 108.
fn outlook(queued: Vec<QueuedBatch>) -> QueueOutlook {
    let import = EndedImport { rows: 100, accepted_at: at(0), ended_at: at(10) };
    QueueOutlook {
        snapshot: Snapshot {
            in_flight: vec![importing(1, 95), importing(2, 98)],
            ended_imports: vec![import],
            ..Snapshot::default()
        },
        queued,
        has_more: false,
    }
}

fn idle(queued: Vec<QueuedBatch>) -> QueueOutlook {
    let mut idle = outlook(queued);
    idle.snapshot.in_flight.clear();
    idle
}

/// The second at which each job's upload begins, and that at which its import ends; 0 where that is unknown.
fn forecast<const N: usize>(outlook: &QueueOutlook, jobs: [i64; N]) -> [Option<(i64, i64)>; N] {
    let forecast = QueueForecast::of(outlook, &RULES, at(NOW));
    let seconds = |import: &ImportForecast| (import.upload.as_second(), import.end.map_or(0, |end| end.as_second()));
    jobs.map(|job| forecast.imports.get(&key(job)).map(seconds))
}

fn pause(kind: PauseKind, until: Option<i64>) -> Pause {
    Pause { kind, reason: String::new(), at: at(1), until: until.map(at) }
}

#[test]
fn two_imports_run_at_once_in_the_order_of_the_queue() {
    // 3 takes the first slot, 4 the second, and 5 the one of 3.
    let outlook = outlook(vec![queued(3, 100), queued(4, 200), queued(5, 100)]);
    let expected = [(95, 105), (98, 108), (105, 115), (108, 128), (115, 125)];
    assert_eq!(forecast(&outlook, [1, 2, 3, 4, 5]), expected.map(Some));
}

#[test]
fn uploads_fill_the_slots_and_two_of_them_run() {
    let outlook = outlook((3..=6).map(|job| queued(job, 100)).collect());
    let rules = SchedulingRules { max_in_flight: 10, ..RULES };
    let forecast = QueueForecast::of(&outlook, &rules, at(NOW));
    let found = [3, 4, 5, 6].map(|job| forecast.imports[&key(job)]);
    assert_eq!(found.map(|import| import.upload), [at(NOW); 4]);
    assert_eq!(found.map(|import| import.end), [115, 118, 125, 128].map(|second| Some(at(second))));
}

#[test]
fn with_one_import_at_a_time_each_waits_for_the_other() {
    let rules = SchedulingRules { max_in_flight: 1, ..RULES };
    let forecast = QueueForecast::of(&idle(vec![queued(3, 100), queued(4, 100)]), &rules, at(NOW));
    assert_eq!([3, 4].map(|job| forecast.imports[&key(job)].end), [Some(at(110)), Some(at(120))]);
}

#[test]
fn import_that_takes_longer_than_expected_ends_later() {
    let mut late = outlook(Vec::new());
    late.snapshot.in_flight = vec![importing(1, 60)];
    // It has taken 40 s instead of 10.
    assert_eq!(forecast(&late, [1]), [Some((60, 110))]);
}

#[test]
fn jobs_of_a_group_come_one_after_the_other() {
    let jobs = vec![of_group(3, 3), of_group(4, 3), queued(5, 100)];
    assert_eq!(forecast(&idle(jobs), [3, 4, 5]), [Some((100, 110)), Some((110, 120)), Some((100, 110))]);
    // Behind a job that comes after the end of the outlook, and behind a held one.
    assert_eq!(forecast(&idle(vec![of_group(9, 2)]), [9]), [None]);
    let mut held = idle(vec![of_group(3, 1)]);
    let first = InFlightBatch { state: BatchState::Held, group: Some("nightly".into()), ..importing(1, 50) };
    held.snapshot.in_flight.push(first);
    assert_eq!(forecast(&held, [1, 3]), [None, None]);
}

#[test]
fn a_static_list_has_one_import_at_a_time() {
    let listed = |job| QueuedBatch { list_id: Some(7), ..queued(job, 100) };
    let mut outlook = idle(vec![listed(3), listed(4), queued(5, 100)]);
    assert_eq!(forecast(&outlook, [3, 4, 5]), [Some((100, 110)), Some((110, 120)), Some((100, 110))]);
    outlook.snapshot.busy_lists = vec![(7, at(130))];
    assert_eq!(forecast(&outlook, [3, 4]), [Some((130, 140)), Some((140, 150))]);
}

#[test]
fn higher_priority_and_jobs_with_fewer_imports_go_first() {
    let part = |job, part| QueuedBatch { key: BatchKey { job: JobId(job), part }, ..queued(job, 100) };
    let urgent = QueuedBatch { priority: 5, ..queued(9, 100) };
    let outlook = idle(vec![urgent, part(3, 1), part(3, 2), part(4, 1)]);
    let forecast = QueueForecast::of(&outlook, &RULES, at(NOW));
    let uploads = [part(9, 1), part(3, 1), part(4, 1), part(3, 2)].map(|batch| forecast.imports[&batch.key].upload);
    assert_eq!(uploads, [100, 100, 110, 110].map(at));
}

#[test]
fn batches_wait_for_those_of_their_job_that_come_first() {
    let in_order = BatchRules { in_order: true, ..BatchRules::default() };
    let canary = BatchRules { canary: Some(10), ..BatchRules::default() };
    for (batch_rules, expected) in
        [(BatchRules::default(), [100, 100, 110]), (in_order, [100, 110, 120]), (canary, [100, 110, 110])]
    {
        let part = |part| QueuedBatch { key: BatchKey { job: JobId(3), part }, batch_rules, ..queued(3, 100) };
        let forecast = QueueForecast::of(&idle(vec![part(1), part(2), part(3)]), &RULES, at(NOW));
        let uploads = [1, 2, 3].map(|number| forecast.imports[&part(number).key].upload);
        assert_eq!(uploads, expected.map(at), "{batch_rules:?}");
        let mut held = idle(vec![part(2)]);
        held.snapshot.in_flight.push(InFlightBatch { state: BatchState::Held, ..importing(3, 50) });
        let is_known = QueueForecast::of(&held, &RULES, at(NOW)).imports.contains_key(&part(2).key);
        assert_eq!(is_known, batch_rules == BatchRules::default(), "{batch_rules:?}");
    }
}

#[test]
fn no_estimate_without_imports_or_behind_an_operator() {
    let jobs = || vec![queued(3, 100)];
    let mut unknown = outlook(jobs());
    unknown.snapshot.ended_imports.clear();
    assert_eq!(forecast(&unknown, [1, 3]), [None; 2]);
    let mut paused = outlook(jobs());
    paused.snapshot.instance.pause = Some(pause(PauseKind::Operator, None));
    assert_eq!(forecast(&paused, [1, 3]), [Some((95, 105)), None], "imports on Marketo go on");
    paused.snapshot.instance.pause = Some(pause(PauseKind::Credentials, None));
    assert_eq!(forecast(&paused, [1, 3]), [None; 2], "their ends are not noticed");
    paused.snapshot.instance.pause = Some(pause(PauseKind::Quota, Some(500)));
    paused.snapshot.instance.suspended_pause = Some(pause(PauseKind::Operator, None));
    assert_eq!(forecast(&paused, [1, 3]), [Some((95, 500)), None]);
}

#[test]
fn uploads_wait_for_the_end_of_a_pause_or_a_backoff() {
    let mut waiting = idle(vec![queued(3, 100)]);
    let instance = &mut waiting.snapshot.instance;
    instance.pause = Some(pause(PauseKind::Quota, Some(500)));
    assert_eq!(forecast(&waiting, [3]), [Some((500, 510))]);
    waiting.snapshot.instance.pause = Some(pause(PauseKind::Quota, Some(NOW)));
    assert_eq!(forecast(&waiting, [3]), [Some((100, 110))], "it is over");
    waiting.snapshot.instance.pause = None;
    waiting.snapshot.instance.backoff_until = Some(at(130));
    assert_eq!(forecast(&waiting, [3]), [Some((130, 140))]);
    waiting.queued[0].not_before = Some(at(1_000));
    assert_eq!(forecast(&waiting, [3]), [Some((1_000, 1_010))], "its earliest time");
}

#[test]
fn full_queue_of_marketo_is_tried_at_the_next_probe() {
    let mut full = idle(vec![queued(3, 100), queued(4, 100)]);
    full.snapshot.instance.observed_slot_limit = Some(0);
    full.snapshot.instance.slot_probe_at = Some(at(160));
    assert_eq!(forecast(&full, [3, 4]), [Some((160, 170)), Some((170, 180))]);
}

#[test]
fn unconfirmed_imports_occupy_slots() {
    let mut lost = idle(vec![queued(3, 100), queued(4, 100)]);
    lost.snapshot.unconfirmed_until = vec![at(9_000)];
    assert_eq!(forecast(&lost, [3, 4]), [Some((100, 110)), Some((110, 120))]);
    lost.snapshot.unconfirmed_until.push(at(9_000));
    assert_eq!(forecast(&lost, [3]), [None]);
}

#[test]
fn what_follows_an_import_of_unknown_length_is_unknown() {
    let outlook = idle(vec![queued(3, 1_000_000), queued(4, 2_000_000), queued(5, 100)]);
    assert_eq!(forecast(&outlook, [3, 4, 5]), [Some((100, 0)), Some((100, 0)), None]);
}

#[test]
fn a_job_ends_with_its_last_batch_if_all_are_foreseen() {
    let part = |number| QueuedBatch { key: BatchKey { job: JobId(3), part: number }, ..queued(3, 100) };
    let outlook = idle(vec![part(1), part(2), part(3)]);
    let forecast = QueueForecast::of(&outlook, &RULES, at(NOW));
    let mut job = job(3);
    assert_eq!(forecast.estimate(&job), Estimate { start: Some(at(100)), end: Some(at(120)) });
    job.started_at = Some(at(90));
    assert_eq!(forecast.estimate(&job), Estimate { start: None, end: Some(at(120)) });
    job.batches.push(Batch::new(4, 100, 0, 1));
    assert_eq!(forecast.estimate(&job).end, None, "the fourth batch is not in sight");
}

fn job(id: i64) -> Job {
    Job {
        id: JobId(id),
        state: JobState::Pending,
        target: Target::Leads { lookup_field: None, list_id: None, partition: None },
        instance: "default".into(),
        filename: "leads.csv".into(),
        format: Format::Csv,
        priority: 0,
        group: None,
        bytes: 10,
        rows: RowCounts::uncounted(300),
        batches: (1..=3).map(|part| Batch::new(part, 100, 0, 1)).collect(),
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
