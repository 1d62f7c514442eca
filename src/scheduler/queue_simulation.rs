//! Queue simulation: uploads the pending batches of an instance in the order of the plan, and lets their imports end
//! after the time that they probably take. Pure.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::after;
use crate::domain::batch_rules::FIRST_PART;
use crate::domain::shared_import::MAX_PACKED_JOBS;
use crate::domain::{BatchKey, BatchState, JobId};
use crate::scheduler::group_order::GroupOrder;
use crate::scheduler::import_duration::ImportDuration;
use crate::scheduler::plan::SchedulingRules;
use crate::scheduler::poll_interval::in_order;
use crate::store::{InFlightBatch, QueueOutlook, QueuedBatch, Snapshot};

/// An import that takes longer than expected probably takes a further part of the time that it has taken, one in so
/// many.
const OVERRUN_DIVISOR: u32 = 4;
const MIN_OVERRUN: Duration = Duration::from_secs(1);

/// When a batch is uploaded, and when its import ends; none where its end is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ImportForecast {
    pub(super) upload: Timestamp,
    pub(super) end: Option<Timestamp>,
}

/// How many imports may be in flight, and how many Marketo runs at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotLimits {
    in_flight: usize,
    importing: usize,
    upload_bytes: u64,
}

impl SlotLimits {
    /// Returns the limits, less the slots whose end is not foreseen: overdue and unconfirmed imports, and those of
    /// other instances of the same subscription.
    pub(super) fn of(snapshot: &Snapshot, rules: &SchedulingRules, now: Timestamp) -> SlotLimits {
        let max_in_flight = rules.max_in_flight as usize;
        let overdue = snapshot.in_flight.iter().filter(|flight| flight.is_overdue).count();
        let unconfirmed = snapshot.unconfirmed_until.iter().filter(|&&until| until > now).count();
        let unforeseen = overdue + unconfirmed + snapshot.in_flight_elsewhere as usize;
        // One upload tries from time to time whether there is a slot more, so there is always one in the end.
        let observed = snapshot.instance.observed_slot_limit.map_or(usize::MAX, |slots| (slots as usize).max(1));
        SlotLimits {
            in_flight: max_in_flight.saturating_sub(unforeseen).min(observed),
            importing: rules.max_importing() as usize,
            upload_bytes: rules.upload_bytes,
        }
    }
}

/// The state of the queue at one moment of the simulation.
pub(super) struct QueueSimulation<'a> {
    outlook: &'a QueueOutlook,
    duration: ImportDuration,
    limits: SlotLimits,
    /// When each import that Marketo runs at once has ended; [`Timestamp::MAX`] where that is unknown.
    free_at: Vec<Timestamp>,
    running: Vec<Running>,
    waiting: Vec<Waiting<'a>>,
    groups: GroupOrder<'a>,
    imports: HashMap<BatchKey, ImportForecast>,
}

/// A batch in flight.
#[derive(Clone, Copy)]
struct Running {
    key: BatchKey,
    group: Option<usize>,
    list_id: Option<i64>,
    /// [`Timestamp::MAX`] where it is unknown.
    end: Timestamp,
}

/// A batch that is to be uploaded.
#[derive(Clone, Copy)]
struct Waiting<'a> {
    batch: &'a QueuedBatch,
    group: Option<usize>,
    not_before: Option<Timestamp>,
}

/// The place of a waiting batch.
#[derive(Clone, Copy)]
struct Place {
    index: usize,
    /// Its priority, the number of its job's batches in flight, and its job: the smallest is next.
    order: (Reverse<i64>, usize, JobId),
}

impl<'a> QueueSimulation<'a> {
    pub(super) fn new(outlook: &'a QueueOutlook, duration: ImportDuration, limits: SlotLimits) -> QueueSimulation<'a> {
        let groups = GroupOrder::of(outlook);
        let waiting = |batch: &'a QueuedBatch| {
            let busy = outlook.snapshot.busy_lists.iter().find(|&&(list, _)| batch.list_id == Some(list));
            let not_before = batch.not_before.max(busy.map(|&(_, until)| until));
            Waiting { batch, group: groups.index_of(batch.group.as_deref()), not_before }
        };
        QueueSimulation {
            outlook,
            duration,
            limits,
            free_at: vec![Timestamp::MIN; limits.importing],
            running: Vec::new(),
            waiting: outlook.queued.iter().map(waiting).collect(),
            groups,
            imports: HashMap::new(),
        }
    }

    /// Lets the batches in flight at `now` end. The ends are not noticed before `queries`.
    pub(super) fn add_in_flight(&mut self, now: Timestamp, queries: Timestamp) {
        let snapshot = &self.outlook.snapshot;
        let in_state = |state| snapshot.in_flight.iter().filter(move |flight| flight.state == state);
        let on_marketo = in_order(&snapshot.in_flight).map(|(flight, _)| flight).filter(|flight| !flight.is_overdue);
        for flight in on_marketo.chain(in_state(BatchState::Uploading)) {
            let accepted = flight.accepted_at.unwrap_or(now);
            let began = flight.importing_at.unwrap_or(accepted);
            let mut end = self.import(began, flight.rows);
            if end <= now {
                let overrun = Duration::try_from(now.duration_since(began)).unwrap_or_default() / OVERRUN_DIVISOR;
                end = after(now, overrun.max(MIN_OVERRUN));
                self.occupy_until(end);
            }
            self.add_running(flight, end.max(queries));
        }
        for flight in in_state(BatchState::Collecting) {
            self.add_running(flight, queries);
        }
    }

    fn add_running(&mut self, flight: &InFlightBatch, end: Timestamp) {
        let group = self.groups.index_of(flight.group.as_deref());
        self.running.push(Running { key: flight.key, group, list_id: flight.list_id, end });
        let began = flight.accepted_at.unwrap_or(end);
        self.imports.insert(flight.key, ImportForecast { upload: began, end: known(end) });
    }

    /// Uploads the queued batches, the first at `from` at the earliest, as far as that is foreseen.
    pub(super) fn upload_queued(&mut self, from: Timestamp) {
        let mut now = from;
        loop {
            self.end_until(now);
            while self.running.len() < self.limits.in_flight {
                let Some(index) = self.next(now) else { break };
                let Waiting { batch, group, .. } = self.waiting.remove(index);
                let packed = self.take_packed(batch, now);
                let end = self.import(now, batch.rows + packed.iter().map(|batch| batch.rows).sum::<u64>());
                self.running.push(Running { key: batch.key, group, list_id: batch.list_id, end });
                for batch in packed.into_iter().chain([batch]) {
                    self.imports.insert(batch.key, ImportForecast { upload: now, end: known(end) });
                }
            }
            let ends = self.running.iter().map(|running| running.end);
            let delays = self.waiting.iter().filter_map(|waiting| waiting.not_before);
            let next = ends.chain(delays).filter(|&at| at > now && at < Timestamp::MAX).min();
            match next.filter(|_| !self.waiting.is_empty()) {
                Some(next) => now = next,
                None => return,
            }
        }
    }

    /// Removes from the waiting batches those that share the import of `batch`, and returns them.
    fn take_packed(&mut self, batch: &QueuedBatch, now: Timestamp) -> Vec<&'a QueuedBatch> {
        let Some(shape) = batch.pack_shape else { return Vec::new() };
        let mut bytes = batch.bytes;
        let mut packed = Vec::new();
        self.waiting.retain(|waiting| {
            let other = waiting.batch;
            let is_due = waiting.not_before.is_none_or(|not_before| not_before <= now);
            let shares = other.pack_shape == Some(shape)
                && is_due
                && packed.len() + 1 < MAX_PACKED_JOBS as usize
                && bytes.saturating_add(other.bytes) <= self.limits.upload_bytes;
            if shares {
                bytes += other.bytes;
                packed.push(other);
            }
            !shares
        });
        packed
    }

    pub(super) fn into_imports(self) -> HashMap<BatchKey, ImportForecast> {
        self.imports
    }

    /// Runs an import on Marketo that begins at `at` or, where others run, after them. Returns its end.
    fn import(&mut self, at: Timestamp, rows: u64) -> Timestamp {
        self.free_at.sort();
        let began = self.free_at.first().map_or(at, |&free_at| free_at.max(at));
        let end = self.duration.estimate(rows).map_or(Timestamp::MAX, |duration| after(began, duration));
        self.occupy_until(end);
        end
    }

    /// Occupies the place on Marketo that is free first.
    fn occupy_until(&mut self, end: Timestamp) {
        self.free_at.sort();
        if let Some(free_at) = self.free_at.first_mut() {
            *free_at = end;
        }
    }

    /// Frees the slots of imports that have ended by `now`.
    fn end_until(&mut self, now: Timestamp) {
        let groups = &mut self.groups;
        self.running.retain(|running| {
            let has_ended = running.end <= now;
            if has_ended && let Some(group) = running.group {
                groups.end_batch(group, running.key.job);
            }
            !has_ended
        });
    }

    /// Returns the place of the next batch, in the order of the plan: by priority, then of the job with the fewest
    /// batches in flight, then of the oldest job. A group and a static list have one import at a time.
    fn next(&self, now: Timestamp) -> Option<usize> {
        let mut best: Option<Place> = None;
        for (index, waiting) in self.waiting.iter().enumerate() {
            let Waiting { batch, .. } = waiting;
            // The batches are in the order of priority and age, so none that follows comes before such a one.
            if best.is_some_and(|best| batch.priority < best.order.0.0 || best.order.1 == 0) {
                break;
            }
            if !self.may_begin(waiting, now) || self.waits_for_own_job(index) {
                continue;
            }
            let in_flight = self.running.iter().filter(|running| running.key.job == batch.key.job).count();
            let place = Place { index, order: (Reverse(batch.priority), in_flight, batch.key.job) };
            best = Some(best.filter(|best| best.order <= place.order).unwrap_or(place));
        }
        best.map(|best| best.index)
    }

    /// Returns whether the waiting batch at `index` waits for another batch of its job.
    fn waits_for_own_job(&self, index: usize) -> bool {
        let BatchKey { job, part } = self.waiting[index].batch.key;
        let rules = self.waiting[index].batch.batch_rules;
        let waits_for_canary = rules.canary.is_some() && part != FIRST_PART;
        if !rules.in_order && !waits_for_canary {
            return false;
        }
        // The queue has the batches of a job in their order, and those before this one that are not in it are in
        // flight.
        let before = self.waiting[..index].iter().map(|waiting| waiting.batch.key);
        let running = self.running.iter().map(|running| running.key);
        let held = self.outlook.snapshot.in_flight.iter().filter(|flight| flight.state == BatchState::Held);
        let mut others = before.chain(running).chain(held.map(|flight| flight.key)).filter(|other| other.job == job);
        others.any(|other| rules.in_order || other.part == FIRST_PART)
    }

    fn may_begin(&self, waiting: &Waiting<'_>, now: Timestamp) -> bool {
        let is_due = waiting.not_before.is_none_or(|not_before| not_before <= now);
        let is_first = waiting.group.is_none_or(|group| {
            self.groups.head(group) == Some(waiting.batch.key.job)
                && self.running.iter().all(|running| running.group != Some(group))
        });
        let list_is_free = || {
            waiting.batch.list_id.is_none_or(|list| self.running.iter().all(|running| running.list_id != Some(list)))
        };
        is_due && is_first && list_is_free()
    }
}

fn known(end: Timestamp) -> Option<Timestamp> {
    (end < Timestamp::MAX).then_some(end)
}
