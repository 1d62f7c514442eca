//! Tests of the plan: limits, order, pauses and intervals. `a/b` is part b of job a.
#![allow(clippy::field_reassign_with_default, reason = "one statement for each part of a snapshot reads better")]

use std::time::Duration;

use crate::clock::from_ms;
use crate::domain::JobId;
use crate::domain::instance::{InstanceState, Pause};
use crate::scheduler::plan::*;
use crate::store::{InFlightBatch, PendingBatch};

const NOW: i64 = 1_000_000;

fn rules(importing: u32, queued: u32) -> SchedulingRules {
    SchedulingRules {
        max_in_flight: max_in_flight(importing, queued),
        upload_bytes: 10_000_000,
        polling: config::Polling { min: Duration::from_secs(5), max: Duration::from_secs(30) },
        backoff_max: Duration::from_secs(300),
    }
}

fn key(job: i64, part: u32) -> BatchKey {
    BatchKey { job: JobId(job), part }
}

fn pending(job: i64, part: u32) -> PendingBatch {
    PendingBatch { key: key(job, part), priority: 0, group: None, list_id: None, last_upload: None, pack_shape: None }
}

fn in_flight(job: i64, part: u32, state: BatchState) -> InFlightBatch {
    InFlightBatch {
        is_overdue: false,
        key: key(job, part),
        state,
        group: None,
        list_id: None,
        rows: 10,
        rows_done: 0,
        not_before: None,
        accepted_at: Some(from_ms(NOW)),
        importing_at: None,
        polled_at: None,
    }
}

fn uploads(plan: &Plan) -> Vec<String> {
    let upload = |step: &Step| match step {
        Step::Upload(key) => Some(key.to_string()),
        _ => None,
    };
    plan.steps.iter().filter_map(upload).collect()
}

fn planned(snapshot: &Snapshot, rules: &SchedulingRules) -> Plan {
    plan(snapshot, &HashMap::new(), rules, from_ms(NOW))
}

#[test]
fn uploads_fill_the_free_slots() {
    use BatchState as S;
    // importing, queued, batches in flight, unconfirmed imports, and how many of twenty pending batches are uploaded.
    for (importing, queued, flights, unconfirmed, free) in [
        (2, 10, vec![], 0, 10),
        (2, 10, vec![S::Queued; 4], 0, 6),
        (2, 10, vec![S::Uploading, S::Queued, S::Importing, S::Importing], 0, 6),
        (2, 10, vec![S::Queued; 10], 0, 0),
        (2, 10, vec![S::Queued; 12], 0, 0),
        (2, 10, vec![S::Collecting; 10], 0, 10),
        (2, 10, vec![S::Held; 3], 0, 10),
        (2, 10, vec![S::Held; 3], 3, 7),
        (2, 10, vec![S::Queued; 8], 1, 1),
        (2, 10, vec![S::Queued; 8], 5, 0),
        (2, 3, vec![S::Importing; 2], 0, 1),
        (1, 10, vec![], 0, 1),
        (1, 10, vec![S::Queued], 0, 0),
        (1, 10, vec![S::Collecting], 0, 1),
        (1, 10, vec![], 1, 0),
    ] {
        let mut snapshot = Snapshot::default();
        snapshot.in_flight = (100..).zip(&flights).map(|(job, &state)| in_flight(job, 1, state)).collect();
        snapshot.candidates = (1..=20).map(|job| pending(job, 1)).collect();
        snapshot.unconfirmed_until = vec![from_ms(NOW + 1); unconfirmed];
        let busy = snapshot.in_flight.iter().map(|flight| (flight.key, Work::Upload)).collect();
        let plan = plan(&snapshot, &busy, &rules(importing, queued), from_ms(NOW));
        assert_eq!(uploads(&plan).len(), free, "{importing} {queued} {flights:?} {unconfirmed}");
    }
}

#[test]
fn upload_without_a_row_yet_occupies_its_slot() {
    let snapshot = Snapshot { candidates: (1..=12).map(|job| pending(job, 1)).collect(), ..Snapshot::default() };
    // Jobs 1 and 2 are still candidates; job 99 is not in the snapshot.
    let busy = [1, 2, 99].map(|job| (key(job, 1), Work::Upload)).into();
    let plan = plan(&snapshot, &busy, &rules(2, 10), from_ms(NOW));
    assert_eq!(uploads(&plan), ["3/1", "4/1", "5/1", "6/1", "7/1", "8/1", "9/1"]);
}

#[test]
fn slot_of_an_unconfirmed_import_is_freed_when_it_expires() {
    let mut snapshot = Snapshot { candidates: vec![pending(1, 1)], ..Snapshot::default() };
    snapshot.unconfirmed_until = vec![from_ms(NOW + 5)];
    let waits = planned(&snapshot, &rules(1, 10));
    assert_eq!((uploads(&waits).len(), waits.next_wake), (0, Some(from_ms(NOW + 5))));
    let later = plan(&snapshot, &HashMap::new(), &rules(1, 10), from_ms(NOW + 5));
    assert_eq!(uploads(&later), ["1/1"]);
}

#[test]
fn order_is_priority_then_fewest_in_flight_then_age() {
    let mut snapshot = Snapshot::default();
    // Job 1 is large and has three batches on Marketo; 2 and 3 came later; 4 is urgent and large.
    snapshot.in_flight = (1..=3).map(|part| in_flight(1, part, BatchState::Queued)).collect();
    snapshot.candidates = (4..=10).map(|part| pending(1, part)).collect();
    snapshot.candidates.extend([pending(2, 1), pending(2, 2), pending(3, 1)]);
    snapshot.candidates.extend([1, 2].map(|part| PendingBatch { priority: 7, ..pending(4, part) }));
    let plan = planned(&snapshot, &rules(2, 10));
    assert_eq!(uploads(&plan), ["4/1", "4/2", "2/1", "3/1", "2/2", "1/4", "1/5"]);
}

#[test]
fn a_group_has_one_batch_at_a_time_in_the_order_of_its_jobs() {
    let grouped = |job, part| PendingBatch { group: Some("g".into()), ..pending(job, part) };
    let mut snapshot = Snapshot::default();
    snapshot.candidates =
        vec![grouped(5, 1), grouped(5, 2), PendingBatch { priority: 9, ..grouped(6, 1) }, pending(7, 1)];
    assert_eq!(uploads(&planned(&snapshot, &rules(2, 10))), ["5/1", "7/1"]);
    for (state, expected) in [
        (BatchState::Uploading, &["7/1"][..]),
        (BatchState::Importing, &["7/1"]),
        (BatchState::Held, &["7/1"]),
        // The import is over; only its files are still being fetched.
        (BatchState::Collecting, &["5/2", "7/1"]),
    ] {
        let group = Some(String::from("g"));
        snapshot.in_flight = vec![InFlightBatch { group, ..in_flight(5, 1, state) }];
        snapshot.candidates = vec![grouped(5, 2), grouped(6, 1), pending(7, 1)];
        let busy = [(key(5, 1), Work::Poll)].into();
        let plan = plan(&snapshot, &busy, &rules(2, 10), from_ms(NOW));
        assert_eq!(uploads(&plan), expected, "{state}");
    }
}

#[test]
fn unknown_upload_blocks_groups_and_lists() {
    // Job 6 waits at the rate limiter. Job 5 of the same group had failed and was retried, so 6 is no candidate any
    // more.
    let mut snapshot = Snapshot::default();
    snapshot.candidates = vec![
        PendingBatch { group: Some("g".into()), ..pending(5, 1) },
        PendingBatch { list_id: Some(7), ..pending(8, 1) },
        pending(9, 1),
    ];
    let busy = [(key(6, 1), Work::Upload)].into();
    assert_eq!(uploads(&plan(&snapshot, &busy, &rules(2, 10), from_ms(NOW))), ["9/1"]);
    assert_eq!(uploads(&planned(&snapshot, &rules(2, 10))), ["5/1", "8/1", "9/1"]);
}

#[test]
fn static_list_has_one_batch_at_a_time() {
    let listed = |job, part, list| PendingBatch { list_id: Some(list), ..pending(job, part) };
    let mut snapshot = Snapshot::default();
    snapshot.in_flight = vec![InFlightBatch { list_id: Some(8), ..in_flight(1, 1, BatchState::Queued) }];
    snapshot.candidates = vec![listed(2, 1, 7), listed(2, 2, 7), listed(3, 1, 7), listed(4, 1, 8), listed(5, 1, 9)];
    assert_eq!(uploads(&planned(&snapshot, &rules(2, 10))), ["2/1", "5/1"]);
    snapshot.busy_lists = vec![(9, from_ms(NOW + 1))];
    assert_eq!(uploads(&planned(&snapshot, &rules(2, 10))), ["2/1"], "another integration fills list 9");
}

#[test]
fn a_full_queue_is_probed_after_ends_and_periodically() {
    // Observed slot limit, ours in flight, whether a probe is due, uploads.
    for (slots, ours, probe, expected) in [
        (3, 3, false, 0),
        (3, 2, false, 1),
        (3, 1, false, 2),
        (3, 3, true, 1),
        (3, 1, true, 2),
        (0, 0, false, 0),
        (0, 0, true, 1),
        // The probe is still under way.
        (0, 1, true, 0),
        (3, 4, true, 0),
        (3, 9, true, 0),
        (12, 10, true, 0),
        (10, 9, false, 1),
    ] {
        let mut snapshot = Snapshot::default();
        snapshot.in_flight = (100..100 + ours).map(|job| in_flight(job, 1, BatchState::Queued)).collect();
        snapshot.candidates = (1..=20).map(|job| pending(job, 1)).collect();
        let probe_at = from_ms(if probe { NOW } else { NOW + 7_000 });
        snapshot.instance = InstanceState {
            observed_slot_limit: Some(slots),
            slot_probe_at: Some(probe_at),
            ..InstanceState::default()
        };
        let plan = planned(&snapshot, &rules(2, 10));
        assert_eq!(uploads(&plan).len(), expected, "{slots} {ours} {probe}");
        if !probe {
            assert!(plan.next_wake.is_some_and(|wake| wake <= probe_at), "it plans again when a probe is due");
        }
    }
}

#[test]
fn pause_stops_the_steps_of_its_kind_only() {
    let mut snapshot = Snapshot::default();
    let old = from_ms(NOW - 60_000);
    snapshot.in_flight = vec![
        InFlightBatch { accepted_at: Some(old), ..in_flight(1, 1, BatchState::Queued) },
        in_flight(2, 1, BatchState::Uploading),
        in_flight(3, 1, BatchState::Collecting),
    ];
    snapshot.candidates = vec![pending(4, 1)];
    let (recover, poll, collect) = (Step::Recover(key(2, 1)), Step::Poll(key(1, 1)), Step::Collect(key(3, 1)));
    for (kind, until, steps) in [
        (PauseKind::Operator, None, vec![recover, collect, poll]),
        (PauseKind::Credentials, None, vec![recover]),
        (PauseKind::Quota, Some(NOW + 9), vec![recover]),
        (PauseKind::Quota, Some(NOW), vec![Step::Resume, recover, collect, poll, Step::Upload(key(4, 1))]),
    ] {
        let until = until.map(from_ms);
        snapshot.instance.pause = Some(Pause { kind, reason: "r".into(), at: from_ms(NOW - 1), until });
        let plan = planned(&snapshot, &rules(2, 10));
        assert_eq!(plan.steps, steps, "{kind:?} {until:?}");
        if until == Some(from_ms(NOW + 9)) {
            assert_eq!(plan.next_wake, until);
        }
    }
}

#[test]
fn backoff_stops_uploads() {
    let mut snapshot = Snapshot { candidates: vec![pending(1, 1)], ..Snapshot::default() };
    snapshot.instance.backoff_until = Some(from_ms(NOW + 50));
    let plan = planned(&snapshot, &rules(2, 10));
    assert_eq!((uploads(&plan).len(), plan.next_wake), (0, Some(from_ms(NOW + 50))));
}

#[test]
fn single_upload_tests_whether_the_service_works_again() {
    let mut snapshot = Snapshot { candidates: (1..=20).map(|job| pending(job, 1)).collect(), ..Snapshot::default() };
    snapshot.in_flight = vec![in_flight(100, 1, BatchState::Queued)];
    snapshot.instance =
        InstanceState { service_failures: 3, backoff_until: Some(from_ms(NOW)), ..InstanceState::default() };
    assert_eq!(uploads(&planned(&snapshot, &rules(2, 10))), ["1/1"]);
    for (work, expected) in [(Work::Upload, 0), (Work::Poll, 1)] {
        let busy = [(key(100, 1), work)].into();
        assert_eq!(uploads(&plan(&snapshot, &busy, &rules(2, 10), from_ms(NOW))).len(), expected, "{work:?}");
    }
}

#[test]
fn while_uploads_fail_each_attempt_takes_another_batch() {
    // Job 1 is urgent, 2 and 3 are of a group, 4 and 5 go to one list. The last success was upload 10.
    let grouped = |job| PendingBatch { group: Some("g".into()), ..pending(job, 1) };
    let listed = |job| PendingBatch { list_id: Some(7), ..pending(job, 1) };
    let urgent = PendingBatch { priority: 9, ..pending(1, 1) };
    let mut snapshot =
        Snapshot { candidates: vec![urgent, grouped(2), grouped(3), listed(4), listed(5)], ..Snapshot::default() };
    snapshot.instance = InstanceState { service_failures: 1, last_success: 10, ..InstanceState::default() };
    let mut order = Vec::new();
    for upload in 11..20 {
        let tried = uploads(&planned(&snapshot, &rules(2, 10)));
        let [next] = &tried[..] else { panic!("more than one upload: {tried:?}") };
        let failed = snapshot.candidates.iter_mut().find(|candidate| candidate.key.to_string() == *next).unwrap();
        failed.last_upload = Some(upload);
        order.push(next.clone());
    }
    // Job 3 waits for 2, whatever happens.
    assert_eq!(order, ["1/1", "2/1", "4/1", "5/1", "1/1", "2/1", "4/1", "5/1", "1/1"]);
    // A new batch comes first; uploads from before the last success do not count.
    snapshot.candidates.push(pending(6, 1));
    snapshot.candidates.push(PendingBatch { last_upload: Some(9), priority: 1, ..pending(7, 1) });
    assert_eq!(uploads(&planned(&snapshot, &rules(2, 10))), ["7/1"]);
    // After a success all are uploaded, in fair order.
    snapshot.instance = InstanceState { last_success: 20, ..InstanceState::default() };
    assert_eq!(uploads(&planned(&snapshot, &rules(2, 10))), ["1/1", "7/1", "2/1", "4/1", "6/1"]);
}

#[test]
fn wait_beyond_the_maximum_is_over() {
    let mut snapshot = Snapshot { candidates: vec![pending(1, 1)], ..Snapshot::default() };
    for (backoff, probe, expected) in
        [(300_000, 30_000, 0), (300_001, 0, 1), (0, 300_000, 0), (0, 300_001, 1), (3_600_000, 3_600_000, 1)]
    {
        snapshot.instance.backoff_until = Some(from_ms(NOW + backoff));
        (snapshot.instance.observed_slot_limit, snapshot.instance.slot_probe_at) =
            (Some(0), Some(from_ms(NOW + probe)));
        assert_eq!(uploads(&planned(&snapshot, &rules(2, 10))).len(), expected, "{backoff} {probe}");
        // A planned upload may also be sent. Otherwise the same upload would be planned again and again.
        assert_eq!(may_still_upload(&snapshot, &rules(2, 10), from_ms(NOW)), expected == 1, "{backoff} {probe}");
    }
}

#[test]
fn planned_upload_is_not_sent_when_the_instance_pauses() {
    let mut open = Snapshot::default();
    open.in_flight = vec![in_flight(1, 1, BatchState::Queued)];
    let may_upload = |instance| {
        let snapshot = Snapshot { instance, ..open.clone() };
        may_still_upload(&snapshot, &rules(2, 10), from_ms(NOW))
    };
    let later = Some(from_ms(NOW + 1));
    assert!(may_upload(InstanceState::default()));
    assert!(!may_upload(InstanceState {
        observed_slot_limit: Some(1),
        slot_probe_at: later,
        ..InstanceState::default()
    }));
    assert!(may_upload(InstanceState {
        observed_slot_limit: Some(2),
        slot_probe_at: later,
        ..InstanceState::default()
    }));
    assert!(!may_upload(InstanceState { backoff_until: later, ..InstanceState::default() }));
    let pause = Pause { kind: PauseKind::Operator, reason: "r".into(), at: from_ms(NOW), until: None };
    assert!(!may_upload(InstanceState { pause: Some(pause), ..InstanceState::default() }));
}

#[test]
fn reports_are_fetched_once_after_the_clock_is_set_back() {
    let mut snapshot = Snapshot::default();
    // The import ended at a time that is still to come.
    let ended = Some(from_ms(NOW + 3_600_000));
    for (not_before, steps) in [(3_660_000, vec![Step::Collect(key(1, 1))]), (60_000, vec![])] {
        let not_before = Some(from_ms(NOW + not_before));
        snapshot.in_flight =
            vec![InFlightBatch { not_before, polled_at: ended, ..in_flight(1, 1, BatchState::Collecting) }];
        assert_eq!(planned(&snapshot, &rules(2, 10)).steps, steps, "{not_before:?}");
    }
}

#[test]
fn batch_with_a_worker_gets_no_step() {
    let mut snapshot = Snapshot::default();
    let old = Some(from_ms(NOW - 60_000));
    snapshot.in_flight = vec![
        InFlightBatch { accepted_at: old, ..in_flight(1, 1, BatchState::Queued) },
        in_flight(2, 1, BatchState::Uploading),
        in_flight(3, 1, BatchState::Collecting),
    ];
    let busy = [(key(1, 1), Work::Poll), (key(2, 1), Work::Upload), (key(3, 1), Work::Poll)].into();
    assert_eq!(plan(&snapshot, &busy, &rules(2, 10), from_ms(NOW)).steps, []);
}

#[test]
fn only_the_two_oldest_imports_are_polled_soon() {
    let mut snapshot = Snapshot::default();
    snapshot.in_flight = (1..=10)
        .map(|job| InFlightBatch {
            accepted_at: Some(from_ms(NOW - 20_000 + job)),
            ..in_flight(job, 1, BatchState::Queued)
        })
        .collect();
    let steps = planned(&snapshot, &rules(2, 10)).steps;
    assert_eq!(steps, [Step::Poll(key(1, 1)), Step::Poll(key(2, 1))]);
}

#[test]
fn quota_pause_does_not_end_before_the_clock_is_steady() {
    let pause =
        |until| Some(Pause { kind: PauseKind::Quota, reason: "607".into(), at: from_ms(1), until: Some(until) });
    // When the pause ends, when the clock is steady, and when to plan again; none where the pause is over.
    for (until, steady_at, next) in [
        (NOW, None, None),
        (NOW, Some(NOW + 7), Some(NOW + 7)),
        (NOW + 5, Some(NOW + 7), Some(NOW + 7)),
        (NOW + 9, Some(NOW + 7), Some(NOW + 9)),
        (NOW + 9, None, Some(NOW + 9)),
    ] {
        let mut snapshot = Snapshot { candidates: vec![pending(1, 1)], ..Snapshot::default() };
        snapshot.instance.pause = pause(from_ms(until));
        snapshot.clock_steady_at = steady_at.map(from_ms);
        let plan = planned(&snapshot, &rules(2, 10));
        assert_eq!(
            (plan.steps.contains(&Step::Resume), plan.next_wake),
            (next.is_none(), next.map(from_ms)),
            "{until}"
        );
        assert_eq!(uploads(&plan).len(), usize::from(next.is_none()));
    }
}

#[test]
fn jobs_are_tried_alone_while_uploads_fail() {
    let mut snapshot = Snapshot::default();
    assert_eq!(max_packed_jobs(&snapshot), u32::MAX);
    snapshot.instance.service_failures = 1;
    assert_eq!(max_packed_jobs(&snapshot), 1);
}

#[test]
fn a_new_job_matters_only_while_it_could_start() {
    let may_start = |snapshot: &Snapshot, slots| planned(snapshot, &rules(2, slots)).may_start_new_job;
    let mut snapshot = Snapshot::default();
    assert!(may_start(&snapshot, 2));
    snapshot.candidates = vec![pending(1, 1)];
    assert!(may_start(&snapshot, 2), "one slot is left");
    snapshot.candidates.push(pending(2, 1));
    assert!(!may_start(&snapshot, 2), "the end of an import makes another plan");
    // In this state the plan has no end of the backoff to wait for.
    let in_backoff = |candidates| {
        let mut snapshot = Snapshot { candidates, ..Snapshot::default() };
        snapshot.instance.backoff_until = Some(from_ms(NOW + 1_000));
        planned(&snapshot, &rules(2, 2))
    };
    assert!(in_backoff(vec![]).may_start_new_job);
    let waiting = in_backoff(vec![pending(1, 1)]);
    assert_eq!((waiting.may_start_new_job, waiting.next_wake), (false, Some(from_ms(NOW + 1_000))));
    snapshot.instance.pause =
        Some(Pause { kind: PauseKind::Operator, reason: "asked for".into(), at: from_ms(1), until: None });
    assert!(!may_start(&snapshot, 9));
}
