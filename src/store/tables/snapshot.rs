//! Snapshot: what the scheduler needs to plan the next steps of an instance, read in one transaction.
//!
//! The statements only leave out batches that can't be chosen. The choice is made by [`crate::scheduler`].

use jiff::Timestamp;

use crate::domain::BatchKey;
use crate::domain::instance::InstanceState;
use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::models::{Batch, Job};
use crate::store::tables::candidates::{PendingBatch, SnapshotQuery};
use crate::store::tables::ended_imports::EndedImport;
use crate::store::tables::occupied_slots::InFlightBatch;

/// An instance, its batches in flight, and the pending batches that may be next.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The instance's state.
    pub instance: InstanceState,
    /// Batches that are `uploading`, `queued`, `importing`, `collecting` or `held`.
    pub in_flight: Vec<InFlightBatch>,
    /// Pending batches that may be uploaded now, by priority and age.
    pub candidates: Vec<PendingBatch>,
    /// Batches of other instances that occupy slots of the same Marketo subscription.
    pub in_flight_elsewhere: u32,
    /// For each unconfirmed or abandoned import, until when it occupies a slot; with those of such other instances.
    /// Unconfirmed imports of complete batches are left out: they came first in Marketo's queue, so they have ended
    /// too.
    pub unconfirmed_until: Vec<Timestamp>,
    /// Static lists that are busy with another integration's import (1019), and when each is tried again.
    pub busy_lists: Vec<(i64, Timestamp)>,
    /// When the next batch may be uploaded that is deferred, or whose job has an earliest time.
    pub next_due: Option<Timestamp>,
    /// Whether a batch is pending, due or deferred, that waits neither for its group nor for its job's earliest time.
    pub has_untried_batch: bool,
    /// Imports that ended last, within a week.
    pub ended_imports: Vec<EndedImport>,
    /// When the clock will be steady again; none where it is.
    pub clock_steady_at: Option<Timestamp>,
}

impl Snapshot {
    /// Returns when the pause ends by itself; none without a pause, or where an operator has to end it. A clock that
    /// was set ends no pause before it is steady, since Marketo's quota follows Marketo's clock.
    pub fn pause_ends_at(&self) -> Option<Timestamp> {
        let until = self.instance.pause.as_ref()?.until?;
        Some(self.clock_steady_at.map_or(until, |steady_at| until.max(steady_at)))
    }
}

/// What decides whether a planned upload may begin.
#[derive(Debug)]
pub struct UploadCheck {
    /// The instance and its occupied slots. Nothing else of the snapshot was read.
    pub slots: Snapshot,
    /// The job.
    pub job: Job,
    /// Its batch that is to be uploaded.
    pub batch: Batch,
}

impl ReadTx<'_> {
    /// Returns what decides whether the upload of a batch of the instance `name` may begin.
    pub(crate) async fn upload_check(
        &mut self,
        name: &str,
        key: BatchKey,
        now: Timestamp,
    ) -> Result<UploadCheck, StoreError> {
        let slots = Snapshot {
            instance: self.instance(name).await?,
            in_flight: self.in_flight(name).await?,
            unconfirmed_until: self.unconfirmed_until(name, now).await?,
            ..Snapshot::default()
        };
        let (job, batch) = self.batch(key).await?;
        Ok(UploadCheck { slots, job, batch })
    }

    /// Returns the snapshot of an instance.
    pub(crate) async fn snapshot(&mut self, query: SnapshotQuery<'_>) -> Result<Snapshot, StoreError> {
        let name = query.instance;
        let instance = self.instance(name).await?;
        let candidates = self.candidates(&query, &instance).await?;
        // Each candidate meets the conditions of `has_untried_batch`, so the query runs only where there is none.
        let has_untried_batch = !candidates.is_empty() || self.has_untried_batch(&query).await?;
        Ok(Snapshot {
            in_flight: self.in_flight(name).await?,
            in_flight_elsewhere: 0,
            candidates,
            unconfirmed_until: self.unconfirmed_until(name, query.now).await?,
            busy_lists: self.busy_lists(&query).await?,
            next_due: self.next_due(&query).await?,
            has_untried_batch,
            ended_imports: self.ended_imports(&query).await?,
            clock_steady_at: None,
            instance,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Snapshot, StoreError};
    use crate::clock::from_ms;
    use crate::domain::instance::{Pause, PauseKind};
    use crate::domain::{BatchKey, BatchState, Counts, DeferReason, Event, FailureScope, JobId, RemoteStatus, Target};
    use crate::store::handle::Store;
    use crate::store::new_job::NewJob;
    use crate::store::tables::candidates::MAX_CANDIDATES;
    use crate::store::test_util::{add, leads, store};

    const SECOND: Duration = Duration::from_secs(1);

    async fn keys(store: &Store, now: i64) -> Vec<String> {
        let snapshot = store.snapshot("default", from_ms(now), 2, SECOND).await.unwrap();
        snapshot.candidates.iter().map(|candidate| candidate.key.to_string()).collect()
    }

    fn grouped(group: &str) -> NewJob {
        NewJob { group: Some(group.into()), ..leads() }
    }

    fn listed(list: i64) -> NewJob {
        NewJob { target: Target::Leads { lookup_field: None, list_id: Some(list), partition: None }, ..leads() }
    }

    #[tokio::test]
    async fn candidates_are_first_parts_by_priority_and_age() {
        let store = store().await;
        add(&store, leads(), 3).await;
        add(&store, NewJob { priority: 5, ..leads() }, 1).await;
        add(&store, leads(), 1).await;
        add(&store, NewJob { instance: "other".into(), ..leads() }, 1).await;
        assert_eq!(keys(&store, 2_000).await, ["2/1", "1/1", "1/2", "3/1"]);
    }

    #[tokio::test]
    async fn an_untried_batch_is_a_candidate_while_uploads_fail() {
        let store = store().await;
        // More than a snapshot holds, all of high priority and tried; some parts of the last one were not tried.
        for _ in 0..=MAX_CANDIDATES / 2 {
            add(&store, NewJob { priority: 5, ..leads() }, 3).await;
        }
        let normal = add(&store, leads(), 1).await;
        let scope = FailureScope::Instance { backoff_until: from_ms(9), tried_alone_for: Duration::ZERO };
        let refused = Event::Refused { reason: "611".into(), not_before: from_ms(9), scope };
        for job in 1..=i64::from(MAX_CANDIDATES / 2) {
            for part in 1..=2 {
                let key = BatchKey { job: JobId(job), part };
                store.record_event(key, Event::UploadBegan, None, from_ms(5)).await.unwrap();
                store.record_event(key, refused.clone(), None, from_ms(6)).await.unwrap();
            }
        }
        let all = keys(&store, 2_000).await;
        assert_eq!(all.len(), MAX_CANDIDATES as usize);
        // Two parts of a job are read at a time: of each job the untried one, and one that was tried.
        let first = i64::from(MAX_CANDIDATES / 2);
        let mut expected: Vec<_> = (1..=first).map(|job| format!("{job}/3")).collect();
        expected.extend([
            format!("{}/1", first + 1),
            format!("{}/2", first + 1),
            format!("{normal}/1"),
            "1/1".to_owned(),
        ]);
        assert_eq!(all[..expected.len()], expected);
    }

    #[tokio::test]
    async fn jobs_that_wait_for_their_group_are_no_candidates() {
        let store = store().await;
        let waiting = async || store.snapshot("default", from_ms(1), 2, SECOND).await.unwrap().has_untried_batch;
        assert!(!waiting().await);
        let key = BatchKey { job: add(&store, grouped("a"), 1).await, part: 1 };
        add(&store, grouped("a"), 1).await;
        add(&store, NewJob { instance: "other".into(), ..leads() }, 1).await;
        assert!(waiting().await);
        store.record_event(key, Event::UploadBegan, None, from_ms(1)).await.unwrap();
        assert!(!waiting().await, "the other job of its group waits for it");
        let listed = add(&store, listed(7), 2).await;
        store.record_event(BatchKey { job: listed, part: 1 }, Event::UploadBegan, None, from_ms(1)).await.unwrap();
        assert!(waiting().await, "the other part for its list would be next");
    }

    #[tokio::test]
    async fn a_job_is_no_candidate_before_its_earliest_time() {
        let store = store().await;
        let from = |at: i64| NewJob { not_before: Some(from_ms(at)), ..leads() };
        add(&store, NewJob { priority: 9, ..from(9_000_000) }, 2).await;
        add(&store, from(5_000), 1).await;
        let seen = async |now| store.snapshot("default", from_ms(now), 2, SECOND).await.unwrap();
        let snapshot = seen(4_999).await;
        assert_eq!((snapshot.candidates.len(), snapshot.next_due), (0, Some(from_ms(5_000))));
        assert!(!snapshot.has_untried_batch, "none of them could be tried");

        // Other jobs go on, and at its time it is one of them.
        add(&store, leads(), 1).await;
        assert_eq!(keys(&store, 4_999).await, ["3/1"]);
        assert_eq!(keys(&store, 5_000).await, ["2/1", "3/1"]);
        assert_eq!(seen(5_000).await.next_due, Some(from_ms(9_000_000)));
        assert_eq!(keys(&store, 9_000_000).await, ["1/1", "1/2", "2/1", "3/1"]);
        assert_eq!(seen(9_000_000).await.next_due, None);
        let job = store.job(JobId(2)).await.unwrap();
        assert_eq!(job.not_before, Some(from_ms(5_000)));

        // One that has ended is not waited for.
        store.cancel(JobId(1), from_ms(6_000)).await.unwrap();
        assert_eq!(seen(6_000).await.next_due, None);
    }

    #[tokio::test]
    async fn a_group_stays_in_order_behind_an_earliest_time() {
        let store = store().await;
        add(&store, NewJob { not_before: Some(from_ms(5_000)), ..grouped("a") }, 1).await;
        add(&store, grouped("a"), 1).await;
        add(&store, grouped("b"), 1).await;
        assert_eq!(keys(&store, 4_999).await, ["3/1"]);
        assert_eq!(keys(&store, 5_000).await, ["1/1", "3/1"]);
    }

    #[tokio::test]
    async fn of_a_group_only_its_oldest_job_may_be_next() {
        let store = store().await;
        add(&store, grouped("a"), 1).await;
        add(&store, NewJob { priority: 9, ..grouped("a") }, 1).await;
        add(&store, grouped("b"), 1).await;
        assert_eq!(keys(&store, 2_000).await, ["1/1", "3/1"]);
        let heads = store.group_heads("default", ["a", "b", "c"].map(Into::into).into()).await.unwrap();
        assert_eq!((heads.len(), heads["a"], heads["b"]), (2, JobId(1), JobId(3)));
        store.cancel(JobId(1), from_ms(2_000)).await.unwrap();
        assert_eq!(keys(&store, 2_000).await, ["2/1", "3/1"]);
    }

    #[tokio::test]
    async fn jobs_for_a_busy_static_list_are_no_candidates() {
        let store = store().await;
        for list in [7, 7, 8] {
            add(&store, listed(list), 1).await;
        }
        assert_eq!(keys(&store, 2_000).await, ["1/1", "2/1", "3/1"]);
        let key = BatchKey { job: JobId(1), part: 1 };
        store.record_event(key, Event::UploadBegan, None, from_ms(2_000)).await.unwrap();
        assert_eq!(keys(&store, 2_000).await, ["3/1"]);
        let in_flight = store.snapshot("default", from_ms(2_000), 2, SECOND).await.unwrap().in_flight;
        assert_eq!(in_flight.len(), 1);
        assert_eq!((in_flight[0].key, in_flight[0].state, in_flight[0].list_id), (key, BatchState::Uploading, Some(7)));
    }

    #[tokio::test]
    async fn a_delayed_batch_is_omitted_and_its_time_returned() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 1).await, part: 1 };
        store.record_event(key, Event::UploadBegan, None, from_ms(1)).await.unwrap();
        let requeued = Event::Requeued {
            defer_reason: DeferReason::ListBusy,
            reason: "1019".into(),
            not_before: Some(from_ms(500)),
        };
        store.record_event(key, requeued, None, from_ms(2)).await.unwrap();
        let snapshot = store.snapshot("default", from_ms(499), 2, SECOND).await.unwrap();
        assert_eq!((snapshot.candidates.len(), snapshot.next_due), (0, Some(from_ms(500))));
        let snapshot = store.snapshot("default", from_ms(500), 2, SECOND).await.unwrap();
        assert_eq!((snapshot.candidates.len(), snapshot.next_due), (1, None));
        // No delay is longer than a second here: the clock was set back, and how much of the delay is over is unknown.
        let snapshot = store.snapshot("default", from_ms(-501), 2, SECOND).await.unwrap();
        assert_eq!((snapshot.candidates.len(), snapshot.next_due, snapshot.busy_lists), (1, None, vec![]));
    }

    #[tokio::test]
    async fn the_check_before_an_upload_has_the_slots_of_the_snapshot() {
        let store = store().await;
        for _ in 0..3 {
            add(&store, leads(), 1).await;
        }
        let key = |job| BatchKey { job: JobId(job), part: 1 };
        let (not_before, unconfirmed_until) = (from_ms(3), from_ms(800));
        let scope = FailureScope::Batch;
        for (job, outcome) in [
            (1, Event::Accepted { marketo_batch_id: "7".into(), status: RemoteStatus::Importing }),
            (2, Event::AnswerLost { reason: "cut".into(), not_before, unconfirmed_until, scope }),
        ] {
            store.record_event(key(job), Event::UploadBegan, None, from_ms(1)).await.unwrap();
            store.record_event(key(job), outcome, None, from_ms(2)).await.unwrap();
        }
        let pause = Pause { kind: PauseKind::Operator, reason: "night".into(), at: from_ms(3), until: None };
        store.pause("default", pause.clone()).await.unwrap();
        let snapshot = store.snapshot("default", from_ms(10), 2, SECOND).await.unwrap();
        let check = store.upload_check("default", key(3), from_ms(10)).await.unwrap();
        let of = |snapshot: &Snapshot| {
            let in_flight: Vec<_> = snapshot.in_flight.iter().map(|flight| (flight.key, flight.state)).collect();
            (in_flight, snapshot.unconfirmed_until.clone(), snapshot.instance.clone())
        };
        assert_eq!(of(&check.slots), of(&snapshot));
        assert_eq!(of(&snapshot).0, [(key(1), BatchState::Importing)]);
        assert_eq!((snapshot.unconfirmed_until.len(), snapshot.instance.pause), (1, Some(pause)));
        assert_eq!((check.job.id, check.batch.part, check.batch.state), (JobId(3), 1, BatchState::Pending));
        assert!(matches!(store.upload_check("default", key(9), from_ms(10)).await, Err(StoreError::NoJob(JobId(9)))));
    }

    #[tokio::test]
    async fn a_lost_answer_counts_as_an_import_until_its_time() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 1).await, part: 1 };
        store.record_event(key, Event::UploadBegan, None, from_ms(1)).await.unwrap();
        let (not_before, unconfirmed_until, scope) = (from_ms(3), from_ms(800), FailureScope::Batch);
        let lost = Event::AnswerLost { reason: "cut".into(), not_before, unconfirmed_until, scope };
        store.record_event(key, lost, None, from_ms(2)).await.unwrap();
        let unconfirmed =
            async |now| store.snapshot("default", from_ms(now), 2, SECOND).await.unwrap().unconfirmed_until;
        assert_eq!(unconfirmed(10).await, [from_ms(800)]);
        assert_eq!(unconfirmed(800).await, []);
        store.record_event(key, Event::UploadBegan, None, from_ms(11)).await.unwrap();
        let held = Event::Held { reason: "cut".into(), unconfirmed_until: from_ms(900), scope: FailureScope::Batch };
        store.record_event(key, held, None, from_ms(12)).await.unwrap();
        assert_eq!(unconfirmed(12).await, [from_ms(900), from_ms(900)]);
        store.cancel(key.job, from_ms(13)).await.unwrap();
        assert_eq!(unconfirmed(14).await.len(), 2, "a cancel ends no import");
        assert_eq!(unconfirmed(900).await, []);
        store.retry(key.job, from_ms(14)).await.unwrap();
        let accepted = Event::Accepted { marketo_batch_id: "1".into(), status: RemoteStatus::Queued };
        let ended = Event::ImportEnded { counts: Counts::default(), message: "done".into() };
        for event in [Event::UploadBegan, accepted, ended] {
            assert_eq!(unconfirmed(15).await.len(), 2);
            store.record_event(key, event, None, from_ms(15)).await.unwrap();
        }
        assert_eq!(unconfirmed(15).await, []);
    }

    #[tokio::test]
    async fn a_busy_list_holds_its_batches_until_one_is_tried() {
        let store = store().await;
        let listed = |list| {
            let target = Target::Leads { lookup_field: None, list_id: Some(list), partition: None };
            NewJob { target, ..leads() }
        };
        let key = BatchKey { job: add(&store, listed(7), 1).await, part: 1 };
        add(&store, listed(7), 1).await;
        let other = add(&store, listed(8), 1).await;
        store.record_event(key, Event::UploadBegan, None, from_ms(1)).await.unwrap();
        let requeued = Event::Requeued {
            defer_reason: DeferReason::ListBusy,
            reason: "1019".into(),
            not_before: Some(from_ms(500)),
        };
        store.record_event(key, requeued, None, from_ms(2)).await.unwrap();
        let snapshot = store.snapshot("default", from_ms(3), 2, SECOND).await.unwrap();
        assert_eq!((snapshot.busy_lists, snapshot.next_due), (vec![(7, from_ms(500))], Some(from_ms(500))));
        assert_eq!(snapshot.candidates.iter().map(|waiting| waiting.key.job).collect::<Vec<_>>(), [other]);
        let snapshot = store.snapshot("default", from_ms(500), 2, SECOND).await.unwrap();
        assert_eq!((snapshot.busy_lists, snapshot.candidates.len()), (vec![], 3));
    }
}
