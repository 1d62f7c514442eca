//! Group order: which job of a group is imported next, in a simulation of the queue.

use std::collections::{BTreeMap, HashMap};

use crate::domain::{BatchState, JobId};
use crate::store::QueueOutlook;

/// The jobs of each group in the order in which they are imported.
pub(super) struct GroupOrder<'a> {
    indices: HashMap<&'a str, usize>,
    /// For each group its unended jobs, with the number of their batches.
    jobs: Vec<BTreeMap<JobId, usize>>,
}

impl<'a> GroupOrder<'a> {
    /// Returns the order of the groups that have queued batches.
    pub(super) fn of(outlook: &'a QueueOutlook) -> GroupOrder<'a> {
        let mut order = GroupOrder { indices: HashMap::new(), jobs: Vec::new() };
        for batch in &outlook.queued {
            let Some(name) = batch.group.as_deref() else { continue };
            let next = order.jobs.len();
            let index = *order.indices.entry(name).or_insert(next);
            if index == next {
                order.jobs.push(BTreeMap::new());
            }
            *order.jobs[index].entry(batch.key.job).or_default() += 1;
            // A head of which no batch is in sight has none that ends, so it stays the head.
            if let Some(head) = batch.group_head {
                order.jobs[index].entry(head).or_default();
            }
        }
        for flight in &outlook.snapshot.in_flight {
            if let Some(index) = order.index_of(flight.group.as_deref()) {
                // The group waits for the operator's decision about a held batch.
                let job = if flight.state == BatchState::Held { JobId(i64::MIN) } else { flight.key.job };
                *order.jobs[index].entry(job).or_default() += 1;
            }
        }
        order
    }

    /// Returns the number of a group.
    pub(super) fn index_of(&self, group: Option<&str>) -> Option<usize> {
        group.and_then(|name| self.indices.get(name)).copied()
    }

    /// Returns the job whose batches are next.
    pub(super) fn head(&self, group: usize) -> Option<JobId> {
        self.jobs[group].first_key_value().map(|(&job, _)| job)
    }

    /// Records that a batch of a job has ended.
    pub(super) fn end_batch(&mut self, group: usize, job: JobId) {
        if let Some(batches) = self.jobs[group].get_mut(&job) {
            *batches = batches.saturating_sub(1);
            if *batches == 0 {
                self.jobs[group].remove(&job);
            }
        }
    }
}
