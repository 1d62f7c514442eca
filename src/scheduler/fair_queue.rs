//! Fair queue: the order of pending batches, with one batch at a time for a group and for a static list.

use std::collections::{BTreeMap, HashMap};

use crate::domain::packing::ImportShape;
use crate::domain::{BatchKey, BatchState, JobId};
use crate::scheduler::step::Work;
use crate::store::{PendingBatch, Snapshot};

/// The pending batches, and the batches in flight by job, group and list.
pub(super) struct FairQueue<'a> {
    pub in_flight: u32,
    /// Uploads that have a worker. They are in flight too.
    pub uploads: u32,
    by_job: HashMap<JobId, u32>,
    waiting: Vec<&'a PendingBatch>,
    /// The oldest unended job of each group in the snapshot.
    heads: BTreeMap<&'a str, JobId>,
    groups: Vec<&'a str>,
    lists: Vec<i64>,
    /// The shapes of imports whose uploads are to begin: they take other pending batches of the same shape with them.
    shapes: Vec<ImportShape>,
    /// There is an upload whose group and list are unknown, because its row is not in the snapshot.
    has_unknown_upload: bool,
    /// Set while uploads fail: batches that were tried since this upload of the instance come after all others, the one
    /// tried longest ago first.
    rotate_after: Option<u64>,
}

impl<'a> FairQueue<'a> {
    /// Builds the queue of a snapshot. `busy` are the batches that have a worker.
    pub fn of(snapshot: &'a Snapshot, busy: &HashMap<BatchKey, Work>) -> FairQueue<'a> {
        let mut queue = FairQueue {
            in_flight: 0,
            uploads: 0,
            by_job: HashMap::new(),
            waiting: Vec::new(),
            heads: BTreeMap::new(),
            groups: Vec::new(),
            lists: snapshot.busy_lists.iter().map(|&(list, _)| list).collect(),
            shapes: Vec::new(),
            has_unknown_upload: false,
            rotate_after: (snapshot.instance.service_failures > 0).then_some(snapshot.instance.last_success),
        };
        let groups = snapshot.in_flight.iter().map(|flight| (flight.key.job, flight.group.as_deref()));
        let waiting = snapshot.candidates.iter().map(|waiting| (waiting.key.job, waiting.group.as_deref()));
        for (job, group) in groups.chain(waiting) {
            if let Some(group) = group {
                let head = queue.heads.entry(group).or_insert(job);
                *head = job.min(*head);
            }
        }
        for flight in &snapshot.in_flight {
            // An import that has ended occupies no slot, and its list and its group do not wait for its reports.
            if flight.state.occupies_slot() {
                queue.count(flight.key.job, flight.group.as_deref(), flight.list_id);
            } else if flight.state == BatchState::Held {
                // The group's order requires that the held batch is settled first: whether Marketo has it is unknown.
                queue.groups.extend(flight.group.as_deref());
            }
        }
        let mut uploads: HashMap<BatchKey, Work> =
            busy.iter().filter(|&(_, work)| *work == Work::Upload).map(|(&key, &work)| (key, work)).collect();
        queue.uploads = u32::try_from(uploads.len()).unwrap_or(u32::MAX);
        for flight in &snapshot.in_flight {
            uploads.remove(&flight.key);
        }
        for candidate in &snapshot.candidates {
            if uploads.remove(&candidate.key).is_some() {
                queue.shapes.extend(candidate.pack_shape);
                queue.count(candidate.key.job, candidate.group.as_deref(), candidate.list_id);
            } else if !busy.contains_key(&candidate.key) {
                // A batch that was retried just now may still have its old worker.
                queue.waiting.push(candidate);
            }
        }
        // Uploads whose rows are not in the snapshot occupy slots too. They wait at the rate limiter, and in the
        // meantime their batch was cancelled or an older job of their group was retried.
        for key in uploads.into_keys() {
            queue.count(key.job, None, None);
            queue.has_unknown_upload = true;
        }
        queue
    }

    fn count(&mut self, job: JobId, group: Option<&'a str>, list: Option<i64>) {
        self.in_flight += 1;
        *self.by_job.entry(job).or_default() += 1;
        self.groups.extend(group);
        self.lists.extend(list);
    }

    /// Returns the next batch: by priority, then of the job with the fewest batches in flight, then of the oldest job;
    /// the parts of a job in order. While uploads fail, batches that were not tried yet come first. A group and a
    /// static list have one batch at a time, and a group's jobs come in the order of their ids.
    pub fn next(&self) -> Option<&'a PendingBatch> {
        self.waiting
            .iter()
            .copied()
            .filter(|candidate| !self.has_unknown_upload || (candidate.group.is_none() && candidate.list_id.is_none()))
            .filter(|candidate| match candidate.group.as_deref() {
                None => true,
                Some(group) => !self.groups.contains(&group) && self.heads.get(group) == Some(&candidate.key.job),
            })
            .filter(|candidate| candidate.list_id.is_none_or(|list| !self.lists.contains(&list)))
            .filter(|candidate| candidate.pack_shape.is_none_or(|shape| !self.shapes.contains(&shape)))
            // `min_by_key` returns the first of equals, and the parts of a job are in order.
            .min_by_key(|candidate| {
                let job = candidate.key.job;
                let tried = candidate.last_upload.filter(|&last| self.rotate_after.is_some_and(|after| last > after));
                (tried, std::cmp::Reverse(candidate.priority), self.by_job.get(&job).copied().unwrap_or(0), job)
            })
    }

    /// Moves a batch from the pending ones to those in flight.
    pub fn take(&mut self, candidate: &'a PendingBatch) {
        self.waiting.retain(|waiting| waiting.key != candidate.key);
        self.shapes.extend(candidate.pack_shape);
        self.count(candidate.key.job, candidate.group.as_deref(), candidate.list_id);
    }
}
