//! Status rows: what the status of instances is derived from, read in one transaction.
//!
//! Each statement reads the rows of all instances: a daemon may have hundreds, and a status waits for its statements.

use std::time::Duration;

use jiff::Timestamp;

use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::tables::call_ledger::{InstanceQuota, QuotaDay};
use crate::store::tables::candidates::SnapshotQuery;
use crate::store::tables::instance_lists::names_parameter;
use crate::store::tables::instances::QueueDepth;
use crate::store::tables::outlook::{QueueOutlook, QueuedBatch};
use crate::store::tables::retention::RetentionCandidates;
use crate::store::tables::snapshot::Snapshot;

/// The largest number of pending batches of a status, among which the next one is searched. Each row that is read costs
/// more than most of what a status needs else.
const STATUS_QUEUED: u32 = 50;

/// What the status of an instance is derived from.
#[derive(Clone, Debug, Default)]
pub struct StatusRows {
    /// The instance, its batches in flight and its first pending batches.
    pub outlook: QueueOutlook,
    /// How many jobs and batches are pending or running.
    pub depth: QueueDepth,
    /// The calls that count for the instance's quota day.
    pub calls_today: u64,
    /// The jobs whose attempts were used up, of all clients.
    pub exhausted: RetentionCandidates,
}

/// What the status rows of an instance are read for.
#[derive(Clone, Copy, Debug)]
pub struct StatusQuery<'a> {
    /// The name of the instance.
    pub instance: &'a str,
    /// The longest delay of a batch; see [`crate::store::Store::snapshot`].
    pub longest: Duration,
    /// The instances with the same Marketo subscription, this one included.
    pub sharing: &'a [String],
    /// The quota's day.
    pub day: QuotaDay,
}

impl<'a> StatusQuery<'a> {
    fn snapshot(&self, now: Timestamp) -> SnapshotQuery<'a> {
        SnapshotQuery { instance: self.instance, now, parts: 0, longest: self.longest }
    }
}

impl ReadTx<'_> {
    /// Returns the status rows of each of these instances, in their order.
    pub(crate) async fn status_rows(
        &mut self,
        queries: &[StatusQuery<'_>],
        now: Timestamp,
    ) -> Result<Vec<StatusRows>, StoreError> {
        let names = names_parameter(queries.iter().map(|query| query.instance));
        let quotas: Vec<_> = queries
            .iter()
            .map(|&StatusQuery { instance, sharing, day, .. }| InstanceQuota { instance, sharing, day })
            .collect();
        let mut depths = self.queue_depths(&names, now).await?;
        let mut instances = self.instances(&names).await?;
        let mut in_flight = self.in_flight_of(&names).await?;
        let mut unconfirmed = self.unconfirmed_until_of(&names, now).await?;
        let mut calls = self.calls_today(&quotas).await?;
        let mut exhausted = self.exhausted_jobs_of(&names, None).await?;
        let with_queue = queries
            .iter()
            .filter(|query| depths.get(query.instance).is_some_and(|depth| depth.pending_batches > 0))
            .map(|query| query.snapshot(now));
        let mut queued = self.first_queued_of(&with_queue.collect::<Vec<_>>(), STATUS_QUEUED + 1).await?;
        let mut all = Vec::with_capacity(queries.len());
        for query in queries {
            let name = query.instance;
            let mut rows = StatusRows {
                outlook: QueueOutlook {
                    snapshot: Snapshot {
                        instance: instances.remove(name).unwrap_or_default(),
                        in_flight: in_flight.remove(name).unwrap_or_default(),
                        unconfirmed_until: unconfirmed.remove(name).unwrap_or_default(),
                        ..Snapshot::default()
                    },
                    ..QueueOutlook::default()
                },
                depth: depths.remove(name).unwrap_or_default(),
                calls_today: calls.remove(name).unwrap_or_default(),
                exhausted: exhausted.remove(name).unwrap_or_default(),
            };
            rows.outlook.set_queued(queued.remove(name).unwrap_or_default(), STATUS_QUEUED);
            self.complete_status(&mut rows, &query.snapshot(now)).await?;
            all.push(rows);
        }
        Ok(all)
    }

    /// Adds what few instances need.
    async fn complete_status(&mut self, rows: &mut StatusRows, query: &SnapshotQuery<'_>) -> Result<(), StoreError> {
        let outlook = &mut rows.outlook;
        if outlook.queued.iter().any(|batch| batch.list_id.is_some()) {
            outlook.snapshot.busy_lists = self.busy_lists(query).await?;
        }
        // Only the next poll of a job that waits and has an import on Marketo depends on them.
        if rows.depth.running_jobs > 0 && outlook.queued.iter().any(|batch| is_in_flight(batch, &outlook.snapshot)) {
            outlook.snapshot.ended_imports = self.ended_imports(query).await?;
        }
        Ok(())
    }
}

fn is_in_flight(batch: &QueuedBatch, snapshot: &Snapshot) -> bool {
    snapshot.in_flight.iter().any(|flight| flight.key.job == batch.key.job)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::domain::instance::{Pause, PauseKind};
    use crate::domain::{BatchKey, Event};
    use crate::store::NewJob;
    use crate::store::test_util::{accepted, add, leads, store};

    #[tokio::test]
    async fn instances_together_read_as_each_alone() {
        let store = store().await;
        let of = |instance: &str| NewJob { instance: instance.into(), ..leads() };
        for instance in ["eu", "us"] {
            let key = BatchKey { job: add(&store, of(instance), 2).await, part: 1 };
            store.record_event(key, Event::UploadBegan, None, from_ms(1_000)).await.unwrap();
            if instance == "eu" {
                store.record_event(key, accepted("7"), None, from_ms(1_100)).await.unwrap();
            }
            add(&store, NewJob { priority: 4, group: Some("a".into()), ..of(instance) }, 1).await;
        }
        for _ in 0..=STATUS_QUEUED {
            add(&store, of("us"), 1).await;
        }
        let (at, until) = (from_ms(2_000), Some(from_ms(90_000)));
        store.pause("us", Pause { kind: PauseKind::Quota, reason: "607".into(), at, until }).await.unwrap();
        let sharing = ["eu".to_owned()];
        let day = QuotaDay { by_clock: from_ms(0), is_clock_steady: true };
        let query = |instance| StatusQuery { instance, longest: Duration::from_secs(9), sharing: &sharing, day };
        let names = ["us", "none", "eu"];
        let together = store.status_rows(&names.map(query), from_ms(3_000)).await.unwrap();
        for (name, rows) in names.iter().zip(&together) {
            let alone = store.status_rows(&[query(name)], from_ms(3_000)).await.unwrap();
            assert_eq!(format!("{alone:?}"), format!("[{rows:?}]"));
            let outlook = store.outlook(name, from_ms(3_000), Duration::from_secs(9)).await.unwrap();
            assert_eq!(rows.outlook.queued, outlook.queued[..rows.outlook.queued.len()], "{name}");
        }
        let counts: Vec<_> = together
            .iter()
            .map(|StatusRows { outlook, .. }| {
                (outlook.snapshot.in_flight.len(), outlook.queued.len(), outlook.has_more)
            })
            .collect();
        assert_eq!(counts, [(1, 50, true), (0, 0, false), (1, 2, false)]);
    }
}
