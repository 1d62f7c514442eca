//! Status rows: what the status of one instance is derived from, read in one transaction.
//!
//! An instance without a pending batch needs few of them, and a daemon may have hundreds of such instances.

use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::tables::call_ledger::QuotaDay;
use crate::store::tables::candidates::SnapshotQuery;
use crate::store::tables::instances::QueueDepth;
use crate::store::tables::outlook::QueueOutlook;
use crate::store::tables::retention::RetentionCandidates;
use crate::store::tables::snapshot::Snapshot;

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
            outlook.snapshot.busy_lists = self.busy_lists(&queue).await?;
            outlook.snapshot.ended_imports = self.ended_imports(&queue).await?;
            self.read_queued(&mut outlook, &queue).await?;
        }
        Ok(StatusRows {
            outlook,
            depth,
            calls_today: self.calls_today(name, sharing, day).await?,
            exhausted: self.find_exhausted_jobs(name, None).await?,
        })
    }
}
