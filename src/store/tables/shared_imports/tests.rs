use std::time::Duration;

use super::*;
use crate::clock::from_ms;
use crate::domain::instance::{Pause, PauseKind};
use crate::domain::{DeferReason, FailureScope, RemoteStatus, ReportKind};
use crate::store::batch_changes::{ImportKey, ReportSizes};
use crate::store::handle::Store;
use crate::store::models::Batch;
use crate::store::new_job::NewJob;
use crate::store::shared_import::{DividedFile, PackLimits};
use crate::store::test_util::{accepted, add_packed, leads, store};

const SHAPE: u8 = 1;

async fn add(store: &Store, number: usize) -> Vec<BatchKey> {
    let mut keys = Vec::new();
    for _ in 0..number {
        keys.push(add_packed(store, leads(), SHAPE).await);
    }
    keys
}

async fn begin(store: &Store, key: BatchKey) -> Vec<BatchKey> {
    begin_within(store, key, u64::MAX).await
}

async fn begin_within(store: &Store, key: BatchKey, max_bytes: u64) -> Vec<BatchKey> {
    begin_limited(store, key, PackLimits { max_jobs: u32::MAX, max_bytes, latest_not_before: from_ms(100_000) }).await
}

async fn begin_limited(store: &Store, key: BatchKey, limits: PackLimits) -> Vec<BatchKey> {
    let packed = store.begin_upload(UploadBegin { key, limits, now: from_ms(2_000) }).await.unwrap();
    packed.into_iter().map(|rows| rows.key).collect()
}

async fn record(store: &Store, key: BatchKey, event: Event) {
    store.record_event(key, event, None, from_ms(3_000)).await.unwrap();
}

async fn batch(store: &Store, key: BatchKey) -> Batch {
    store.batch(key).await.unwrap().1
}

async fn states(store: &Store, keys: &[BatchKey]) -> Vec<BatchState> {
    let mut states = Vec::new();
    for &key in keys {
        states.push(batch(store, key).await.state);
    }
    states
}

/// Returns the batches in flight that the scheduler sees, and the occupied slots.
async fn in_flight(store: &Store) -> (Vec<BatchKey>, u32) {
    let snapshot = store.snapshot("default", from_ms(4_000), 10, Duration::from_secs(60)).await.unwrap();
    let slots = store.occupied_slots("default", from_ms(4_000)).await.unwrap();
    (snapshot.in_flight.iter().map(|flight| flight.key).collect(), slots.in_flight)
}

fn ended(processed: u64, failed: u64) -> Event {
    let counts = Counts { processed: Some(processed), failed: Some(failed), warned: Some(0) };
    Event::ImportEnded { counts, message: "12 records".into() }
}

fn divided(key: BatchKey, counts: Counts) -> DividedReports {
    let file = DividedFile::compress(ReportKind::Failures, b"email,reason\n1@example.com,no\n").unwrap();
    let sizes = ReportSizes { failures: Some(29), ..ReportSizes::default() };
    DividedReports { key, counts, unknown_rows: None, files: vec![file], sizes }
}

#[tokio::test]
async fn pending_jobs_of_one_shape_share_an_import_and_a_slot() {
    let store = store().await;
    let keys = add(&store, 3).await;
    let other_shape = add_packed(&store, leads(), 2).await;
    let first = add_packed(&store, NewJob { priority: 5, ..leads() }, SHAPE).await;
    let elsewhere = add_packed(&store, NewJob { instance: "eu".into(), ..leads() }, SHAPE).await;
    let later = add_packed(&store, NewJob { not_before: Some(from_ms(9_000)), ..leads() }, SHAPE).await;

    assert_eq!(begin(&store, keys[1]).await, [keys[1], first, keys[0], keys[2]], "by priority and age behind the lead");
    assert_eq!(in_flight(&store).await, (vec![keys[1]], 1));
    assert_eq!(states(&store, &[other_shape, elsewhere, later]).await, [BatchState::Pending; 3]);
    record(&store, keys[1], accepted("3404")).await;
    assert_eq!(in_flight(&store).await, (vec![keys[1]], 1));
    for &key in keys.iter().chain([&first]) {
        let batch = batch(&store, key).await;
        assert_eq!((batch.state, batch.shared_with, batch.import_rows), (BatchState::Queued, 3, 4));
        assert_eq!((batch.marketo_batch_id.as_deref(), batch.id_given_twice), (Some("3404"), false));
        assert_eq!(store.job(key.job).await.unwrap().state, crate::domain::JobState::Running);
    }
    assert_eq!(begin(&store, other_shape).await, [], "it goes alone");
    assert_eq!(in_flight(&store).await.1, 2);
}

#[tokio::test]
async fn an_import_has_at_most_as_many_bytes_as_allowed() {
    let store = store().await;
    let keys = add(&store, 5).await;
    // The header has 6 bytes and each row 14.
    assert_eq!(begin_within(&store, keys[0], 6 + 3 * 14).await, keys[..3]);
    assert_eq!(begin_within(&store, keys[3], 6 + 14).await, [], "one that is full alone goes alone");
    assert_eq!(states(&store, &keys[3..]).await, [BatchState::Uploading, BatchState::Pending]);
}

#[tokio::test]
async fn an_import_has_at_most_as_many_jobs_as_allowed() {
    let store = store().await;
    let keys = add(&store, 4).await;
    let limits = |max_jobs| PackLimits { max_jobs, max_bytes: u64::MAX, latest_not_before: from_ms(100_000) };
    assert_eq!(begin_limited(&store, keys[0], limits(1)).await, []);
    assert_eq!(begin_limited(&store, keys[1], limits(2)).await, keys[1..3]);
    assert_eq!(states(&store, &keys[3..]).await, [BatchState::Pending]);
}

#[tokio::test]
async fn each_job_gets_its_own_counts_and_files() {
    let store = store().await;
    let keys = add(&store, 2).await;
    begin(&store, keys[0]).await;
    record(&store, keys[0], accepted("1")).await;
    let importing = RemoteStatus::Importing;
    let polled = |processed| {
        let counts = Counts { processed: Some(processed), ..Counts::default() };
        Event::Polled { status: importing, counts, waited: Duration::ZERO }
    };
    record(&store, keys[0], polled(1)).await;
    assert_eq!(states(&store, &keys).await, [BatchState::Importing; 2]);
    record(&store, keys[0], polled(2)).await;
    assert_eq!(batch(&store, keys[0]).await.counts, Counts::default(), "they count rows of other jobs too");
    record(&store, keys[0], ended(1, 1)).await;
    let shared = store.shared_import(keys[0]).await.unwrap().unwrap();
    assert_eq!((shared.counts.failed, shared.packed.len(), shared.is_whole), (Some(1), 2, true));
    assert_eq!(batch(&store, keys[1]).await.message.as_deref(), Some("the import of 2 jobs has ended"));
    assert_eq!(in_flight(&store).await, (vec![keys[0]], 0));

    let counts = |processed, failed| Counts { processed, failed, warned: Some(0) };
    let reports = vec![divided(keys[0], counts(Some(0), Some(1))), divided(keys[1], Counts::default())];
    store.complete_shared_import(keys[0], reports, from_ms(5_000)).await.unwrap();
    let jobs = [store.job(keys[0].job).await.unwrap(), store.job(keys[1].job).await.unwrap()];
    assert!(jobs.iter().all(|job| job.state == crate::domain::JobState::Complete && job.batches[0].shared_with == 1));
    assert_eq!((jobs[0].rows.failed, jobs[0].rows.unaccounted), (Some(1), Some(0)));
    assert_eq!((jobs[1].rows.failed, jobs[1].rows.processed, jobs[1].rows.unaccounted), (None, None, None));
    let history = store.history(keys[1].job).await.unwrap();
    let events: Vec<_> = history.iter().map(|entry| entry.event.as_str()).collect();
    let expected =
        ["received", "upload-began", "accepted", "polled", "import-ended", "counts-differ", "collected", "ended"];
    assert_eq!(events, expected);
    assert_eq!(store.shared_import(keys[0]).await.unwrap(), None);
    // One import is in the statistics, with all its rows.
    let outlook = store.outlook("default", from_ms(6_000), Duration::from_secs(1)).await.unwrap();
    assert_eq!(outlook.snapshot.ended_imports.iter().map(|import| import.rows).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn an_unconfirmed_import_occupies_one_slot_for_all_its_jobs() {
    let store = store().await;
    let keys = add(&store, 3).await;
    begin(&store, keys[0]).await;
    let lost = Event::AnswerLost {
        reason: "cut".into(),
        not_before: from_ms(2_000),
        unconfirmed_until: from_ms(50_000),
        scope: FailureScope::Daemon,
    };
    record(&store, keys[0], lost).await;
    assert_eq!(states(&store, &keys).await, [BatchState::Pending; 3]);
    let slots = store.occupied_slots("default", from_ms(4_000)).await.unwrap();
    assert_eq!((slots.in_flight, slots.unconfirmed_until.len()), (0, 1));
    for &key in &keys {
        let batch = batch(&store, key).await;
        assert_eq!((batch.shared_with, batch.attempts, batch.may_be_imported), (0, 0, true));
    }
    assert_eq!(begin(&store, keys[2]).await, [keys[2], keys[0], keys[1]], "they may share the next one");
}

#[tokio::test]
async fn a_job_whose_attempt_counted_goes_alone() {
    let store = store().await;
    let keys = add(&store, 3).await;
    begin(&store, keys[0]).await;
    let scope = FailureScope::Batch;
    record(&store, keys[0], Event::Refused { reason: "611".into(), not_before: from_ms(2_000), scope }).await;
    assert_eq!(begin(&store, keys[0]).await, []);
    assert_eq!(states(&store, &keys).await, [BatchState::Uploading, BatchState::Pending, BatchState::Pending]);
}

#[tokio::test]
async fn jobs_of_a_refused_import_go_alone_or_in_smaller_imports() {
    let store = store().await;
    let keys = add(&store, 4).await;
    begin(&store, keys[0]).await;
    let split = || Event::Split { reason: "413".into() };
    let end = |event, limit| SharingEnd { event, limit, request_id: None };
    store.end_sharing(keys[0], end(split(), SharingLimit::MaxBytes(6 + 2 * 14)), from_ms(3_000)).await.unwrap();
    assert_eq!(states(&store, &keys).await, [BatchState::Pending; 4]);
    assert_eq!(begin(&store, keys[0]).await, keys[..2]);
    assert_eq!(begin(&store, keys[2]).await, keys[2..]);

    record(&store, keys[0], accepted("1")).await;
    let unpacked = Event::Unpacked { reason: "failed".into() };
    store.end_sharing(keys[0], end(unpacked, SharingLimit::Alone), from_ms(3_000)).await.unwrap();
    assert_eq!(states(&store, &keys[..2]).await, [BatchState::Pending; 2]);
    assert_eq!(batch(&store, keys[1]).await.attempts, 0);
    assert_eq!(begin(&store, keys[0]).await, []);
    assert_eq!(begin(&store, keys[1]).await, []);
    let job = store.job(keys[1].job).await.unwrap();
    assert_eq!((job.packing, job.batches[0].shared_with), (None, 0));
}

#[tokio::test]
async fn held_jobs_are_settled_together_and_cancelled_each() {
    let store = store().await;
    let keys = add(&store, 4).await;
    begin(&store, keys[0]).await;
    let held = Event::Held { reason: "502".into(), unconfirmed_until: from_ms(50_000), scope: FailureScope::Daemon };
    record(&store, keys[0], held).await;
    assert_eq!(states(&store, &keys).await, [BatchState::Held; 4]);
    assert_eq!(in_flight(&store).await, (vec![keys[0]], 0));
    // The one that stands for the import is sent again, and another is cancelled.
    store.retry(keys[0].job, from_ms(4_000)).await.unwrap();
    store.cancel(keys[1].job, from_ms(4_000)).await.unwrap();
    assert_eq!(in_flight(&store).await, (vec![keys[2]], 0));
    store.settle(keys[3], "77".into(), from_ms(5_000)).await.unwrap();
    use BatchState::{Cancelled, Pending, Queued};
    assert_eq!(states(&store, &keys).await, [Pending, Cancelled, Queued, Queued]);
    assert_eq!(in_flight(&store).await, (vec![keys[2]], 1));
    let shared = store.shared_import(keys[2]).await.unwrap().unwrap();
    assert_eq!(shared.packed.len(), 4, "the rows of those that left were sent too");
    record(&store, keys[2], ended(4, 0)).await;
    let reports = keys.iter().map(|&key| divided(key, Counts::default())).collect();
    store.complete_shared_import(keys[2], reports, from_ms(6_000)).await.unwrap();
    use BatchState::Complete;
    assert_eq!(states(&store, &keys).await, [Pending, Cancelled, Complete, Complete]);
    assert_eq!(batch(&store, keys[1]).await.failures_bytes, None);
}

#[tokio::test]
async fn earlier_imports_of_settled_jobs_stay_unconfirmed() {
    let store = store().await;
    let keys = add(&store, 2).await;
    let held = |until| {
        let unconfirmed_until = from_ms(until);
        Event::Held { reason: "502".into(), unconfirmed_until, scope: FailureScope::Daemon }
    };
    let alone = PackLimits { max_jobs: 1, max_bytes: u64::MAX, latest_not_before: from_ms(100_000) };
    begin_limited(&store, keys[1], alone).await;
    record(&store, keys[1], held(40_000)).await;
    store.retry(keys[1].job, from_ms(4_000)).await.unwrap();
    assert_eq!(begin(&store, keys[0]).await, keys);
    record(&store, keys[0], held(50_000)).await;
    let unconfirmed = async || store.occupied_slots("default", from_ms(4_000)).await.unwrap().unconfirmed_until;
    assert_eq!(unconfirmed().await, [from_ms(40_000), from_ms(50_000)]);
    // Whichever of its jobs the command names, the import that it found counts no longer, and the other one does.
    store.settle(keys[1], "77".into(), from_ms(5_000)).await.unwrap();
    assert_eq!(states(&store, &keys).await, [BatchState::Queued; 2]);
    assert_eq!((in_flight(&store).await, unconfirmed().await), ((vec![keys[0]], 1), vec![from_ms(40_000)]));
    record(&store, keys[0], ended(2, 0)).await;
    assert_eq!(unconfirmed().await, []);
}

#[tokio::test]
async fn an_import_is_abandoned_once_its_last_job_gives_it_up() {
    let store = store().await;
    let keys = add(&store, 2).await;
    begin(&store, keys[0]).await;
    record(&store, keys[0], accepted("1")).await;
    record(&store, keys[0], Event::Overdue { reason: "14 days".into() }).await;
    assert_eq!(states(&store, &keys).await, [BatchState::Held; 2]);
    assert_eq!(in_flight(&store).await, (vec![keys[0]], 1));
    let slots = async || store.occupied_slots("default", from_ms(4_000)).await.unwrap();
    store.abandon(keys[0].job, from_ms(4_000)).await.unwrap();
    assert_eq!((in_flight(&store).await, slots().await.unconfirmed_until.len()), ((vec![keys[1]], 1), 0));
    store.abandon(keys[1].job, from_ms(4_000)).await.unwrap();
    assert_eq!((in_flight(&store).await, slots().await.unconfirmed_until.len()), ((vec![], 0), 1));
}

#[tokio::test]
async fn a_batch_id_that_was_given_before_is_doubtful_for_all_jobs() {
    let store = store().await;
    let single = add_packed(&store, leads(), 2).await;
    begin(&store, single).await;
    record(&store, single, accepted("5")).await;
    let keys = add(&store, 2).await;
    begin(&store, keys[0]).await;
    record(&store, keys[0], accepted("5")).await;
    for key in [single, keys[0], keys[1]] {
        assert!(batch(&store, key).await.id_given_twice, "{key}");
    }
}

#[tokio::test]
async fn a_requeued_import_keeps_no_trace_of_the_others() {
    let store = store().await;
    let keys = add(&store, 2).await;
    begin(&store, keys[0]).await;
    let requeued = Event::Requeued { defer_reason: DeferReason::Calls, reason: "606".into(), not_before: None };
    record(&store, keys[0], requeued).await;
    store.cancel(keys[1].job, from_ms(4_000)).await.unwrap();
    assert_eq!(begin(&store, keys[0]).await, [], "the other one has left");
    assert_eq!(batch(&store, keys[0]).await.shared_with, 0);
    assert_eq!(in_flight(&store).await, (vec![keys[0]], 1));
}

#[tokio::test]
async fn a_late_answer_about_an_abandoned_import_ends_no_other() {
    let store = store().await;
    let first = add(&store, 1).await[0];
    begin(&store, first).await;
    record(&store, first, accepted("1")).await;
    record(&store, first, Event::Overdue { reason: "3 days".into() }).await;
    // A poll of import 1 is under way meanwhile.
    store.abandon(first.job, from_ms(3_000)).await.unwrap();
    store.retry(first.job, from_ms(3_000)).await.unwrap();
    let second = add(&store, 1).await[0];
    assert_eq!(begin(&store, second).await, [second, first]);
    record(&store, second, accepted("2")).await;

    let late = || ImportKey { batch: first, marketo_batch_id: "1".into() };
    let recorded = store.record_import_event(late(), ended(1, 0), None, from_ms(4_000)).await;
    assert!(matches!(recorded, Err(StoreError::NoBatch(_))), "{recorded:?}");
    let end =
        SharingEnd { event: Event::Unpacked { reason: "failed".into() }, limit: SharingLimit::Alone, request_id: None };
    let recorded = store.end_sharing_of(late(), end, from_ms(4_000)).await;
    assert!(matches!(recorded, Err(StoreError::NoBatch(_))), "{recorded:?}");
    assert_eq!(states(&store, &[first, second]).await, [BatchState::Queued; 2]);
    assert!(store.job(first.job).await.unwrap().packing.is_some(), "nothing is changed");
    let import = ImportKey { batch: first, marketo_batch_id: "2".into() };
    store.record_import_event(import, ended(2, 0), None, from_ms(5_000)).await.unwrap();
    assert_eq!(states(&store, &[first, second]).await, [BatchState::Collecting; 2]);
}

#[tokio::test]
async fn no_upload_begins_while_the_instance_is_paused() {
    let store = store().await;
    let keys = add(&store, 2).await;
    let pause = Pause { kind: PauseKind::Operator, reason: "asked for".into(), at: from_ms(1_000), until: None };
    store.pause("default", pause).await.unwrap();
    let limits = PackLimits { max_jobs: u32::MAX, max_bytes: u64::MAX, latest_not_before: from_ms(100_000) };
    let begun = store.begin_upload(UploadBegin { key: keys[0], limits, now: from_ms(2_000) }).await;
    assert!(matches!(begun, Err(StoreError::Refused(_))), "{begun:?}");
    assert_eq!(states(&store, &keys).await, [BatchState::Pending; 2]);
    store.resume("default", None).await.unwrap();
    assert_eq!(begin(&store, keys[0]).await, keys);
}
