//! Status rows: what the status of one instance is derived from, read in one transaction.
//!
//! An instance without a pending batch needs few of them, and a daemon may have hundreds of such instances.

use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::tables::call_ledger::QuotaDay;
use crate::store::tables::candidates::SnapshotQuery;
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

/// What status rows are read for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatusQuery<'a> {
    pub queue: SnapshotQuery<'a>,
    /// The instances with the same Marketo subscription, this one included.
    pub sharing: &'a [String],
    pub day: QuotaDay,
}

impl ReadTx<'_> {
    /// Returns the status rows of an instance.
    pub(crate) async fn status_rows(&mut self, query: StatusQuery<'_>) -> Result<StatusRows, StoreError> {
        let StatusQuery { queue, sharing, day } = query;
        let name = queue.instance;
        let depth = self.queue_depth(name, queue.now).await?;
        let mut outlook = QueueOutlook {
            snapshot: Snapshot {
                instance: self.instance(name).await?,
                in_flight: self.in_flight(name).await?,
                unconfirmed_until: self.unconfirmed_until(name, queue.now).await?,
                ..Snapshot::default()
            },
            ..QueueOutlook::default()
        };
        if depth.pending_batches > 0 {
            self.read_queued(&mut outlook, &queue, STATUS_QUEUED).await?;
            if outlook.queued.iter().any(|batch| batch.list_id.is_some()) {
                outlook.snapshot.busy_lists = self.busy_lists(&queue).await?;
            }
            // Only the next poll of a job that waits and has an import on Marketo depends on them.
            if depth.running_jobs > 0 && outlook.queued.iter().any(|batch| is_in_flight(batch, &outlook.snapshot)) {
                outlook.snapshot.ended_imports = self.ended_imports(&queue).await?;
            }
        }
        Ok(StatusRows {
            outlook,
            depth,
            calls_today: self.calls_today(name, sharing, day).await?,
            exhausted: self.find_exhausted_jobs(name, None).await?,
        })
    }
}

fn is_in_flight(batch: &QueuedBatch, snapshot: &Snapshot) -> bool {
    snapshot.in_flight.iter().any(|flight| flight.key.job == batch.key.job)
}
