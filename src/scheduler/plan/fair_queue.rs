//! Which batch is next? Fair order, one batch at a time for a group and for a static list.

use std::collections::{BTreeMap, HashMap};

use crate::domain::{BatchKey, BatchState, JobId};
use crate::scheduler::plan::Work;
use crate::store::{PendingBatch, Snapshot};

/// Who is in flight, by job, group and list; kept while uploads are chosen.
pub(super) struct FairQueue<'a> {
    pub in_flight: u32,
    /// Uploads that a worker is at; they are in flight too.
    pub uploads: u32,
    by_job: HashMap<JobId, u32>,
    waiting: Vec<&'a PendingBatch>,
    /// The oldest unended job of each group that is to be seen.
    heads: BTreeMap<&'a str, JobId>,
    groups: Vec<&'a str>,
    lists: Vec<i64>,
    /// An upload is at work of which neither group nor list can be seen.
    unseen: bool,
    /// Uploads fail one after another: of the batches tried since this upload of the instance, the one whose turn is
    /// longest ago is next, after all others.
    rotate_after: Option<u64>,
}

impl<'a> FairQueue<'a> {
    pub fn of(snapshot: &'a Snapshot, busy: &HashMap<BatchKey, Work>) -> FairQueue<'a> {
        let mut board = FairQueue {
            in_flight: 0,
            uploads: 0,
            by_job: HashMap::new(),
            waiting: Vec::new(),
            heads: BTreeMap::new(),
            groups: Vec::new(),
            lists: snapshot.busy_lists.iter().map(|&(list, _)| list).collect(),
            unseen: false,
            rotate_after: (snapshot.instance.service_failures > 0).then_some(snapshot.instance.last_success),
        };
        let groups = snapshot.in_flight.iter().map(|flight| (flight.key.job, flight.group.as_deref()));
        let waiting = snapshot.candidates.iter().map(|waiting| (waiting.key.job, waiting.group.as_deref()));
        for (job, group) in groups.chain(waiting) {
            if let Some(group) = group {
                let head = board.heads.entry(group).or_insert(job);
                *head = job.min(*head);
            }
        }
        for flight in &snapshot.in_flight {
            // An import that has ended holds no slot, and neither its list nor its group's next batch waits for files.
            if flight.state.occupies_slot() {
                board.count(flight.key.job, flight.group.as_deref(), flight.list_id);
            } else if flight.state == BatchState::Held {
                // Order can't be kept past a batch that may or may not be on Marketo.
                board.groups.extend(flight.group.as_deref());
            }
        }
        let mut uploads: HashMap<BatchKey, Work> =
            busy.iter().filter(|&(_, work)| *work == Work::Upload).map(|(&key, &work)| (key, work)).collect();
        board.uploads = u32::try_from(uploads.len()).unwrap_or(u32::MAX);
        for flight in &snapshot.in_flight {
            uploads.remove(&flight.key);
        }
        for candidate in &snapshot.candidates {
            if uploads.remove(&candidate.key).is_some() {
                board.count(candidate.key.job, candidate.group.as_deref(), candidate.list_id);
            } else if !busy.contains_key(&candidate.key) {
                // A worker may still be at one that was retried a moment ago.
                board.waiting.push(candidate);
            }
        }
        // Uploads at work whose rows are not in sight hold their slots too: they wait at the gate, and meanwhile their
        // batch was cancelled, or an older job of their group was put back in the queue.
        for key in uploads.into_keys() {
            board.count(key.job, None, None);
            board.unseen = true;
        }
        board
    }

    fn count(&mut self, job: JobId, group: Option<&'a str>, list: Option<i64>) {
        self.in_flight += 1;
        *self.by_job.entry(job).or_default() += 1;
        self.groups.extend(group);
        self.lists.extend(list);
    }

    /// Fair order: priority, then the job with the fewest batches in flight, then the oldest; of one job, its parts in
    /// order. While uploads fail one after another each try takes another batch before that. A group and a static list have one batch at a time, and a group's jobs come in the order of their ids.
    pub fn next(&self) -> Option<&'a PendingBatch> {
        self.waiting
            .iter()
            .copied()
            .filter(|candidate| !self.unseen || (candidate.group.is_none() && candidate.list_id.is_none()))
            .filter(|candidate| match candidate.group.as_deref() {
                None => true,
                Some(group) => !self.groups.contains(&group) && self.heads.get(group) == Some(&candidate.key.job),
            })
            .filter(|candidate| candidate.list_id.is_none_or(|list| !self.lists.contains(&list)))
            // `min_by_key` takes the first of equals, and the parts of a job come in order.
            .min_by_key(|candidate| {
                let job = candidate.key.job;
                let tried = candidate.last_upload.filter(|&last| self.rotate_after.is_some_and(|after| last > after));
                (tried, std::cmp::Reverse(candidate.priority), self.by_job.get(&job).copied().unwrap_or(0), job)
            })
    }

    pub fn take(&mut self, candidate: &'a PendingBatch) {
        self.waiting.retain(|waiting| waiting.key != candidate.key);
        self.count(candidate.key.job, candidate.group.as_deref(), candidate.list_id);
    }
}
