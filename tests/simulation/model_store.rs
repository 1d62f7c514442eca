//! Model of the store: what it keeps and what it shows a plan. The statements of `src/store` in plain Rust.
//!
//! What an event makes of a batch and of the instance are the store's own functions; only what SQL selects is
//! repeated here, and each function names the statement that it stands for.

mod call_ledger;
mod packing;
mod rules;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;
use marqueue::clock::{ClockReading, ClockRecord, PATIENCE, after, from_ms};
use marqueue::domain::batch::{BatchProgress, QueryFailureKind};
use marqueue::domain::batch_rules::{BatchRules, StopCause};
use marqueue::domain::instance::InstanceState;
use marqueue::domain::{BatchKey, BatchState, DeferReason, Event, IllegalTransitionError, JobId, JobState, transition};
use marqueue::store::{EndedImport, InFlightBatch, PendingBatch, Snapshot};

pub use packing::{PackLimits, PackedRows, SharedImport, Sharing, SharingLimit};

/// As `ENDED_IMPORTS` and `CANDIDATES` of `store::snapshot`.
const ENDED_IMPORTS: usize = 20;
const CANDIDATES: usize = 200;

/// A row of the table `job`.
#[derive(Clone, Debug)]
pub struct Job {
    pub priority: i64,
    pub group: Option<String>,
    pub list: Option<i64>,
    /// The earliest time of its uploads.
    pub not_before: Option<Timestamp>,
    /// Jobs of one shape may share an import.
    pub shape: Option<u8>,
    /// The most rows of an import that it shares, after Marketo found one too large.
    pub pack_max_rows: Option<u32>,
    pub rules: BatchRules,
    /// Why no further batch of it is uploaded.
    pub stopped: Option<StopCause>,
    pub state: JobState,
    /// In the order of the file.
    pub batches: Vec<Batch>,
}

impl Job {
    /// Whether its earliest time is still to come.
    pub fn is_early(&self, now: Timestamp) -> bool {
        self.not_before.is_some_and(|at| at > now)
    }
}

/// A row of the table `batch`: the rows `from..to` of its job's file.
#[derive(Clone, Debug)]
pub struct Batch {
    pub part: u32,
    pub from: u32,
    pub to: u32,
    pub progress: BatchProgress,
    pub sharing: Sharing,
}

impl Batch {
    fn new(part: u32, rows: Range<u32>) -> Batch {
        Batch { part, from: rows.start, to: rows.end, progress: BatchProgress::initial(), sharing: Sharing::ALONE }
    }

    pub fn rows(&self) -> u32 {
        self.to - self.from
    }
}

/// The database of one instance.
#[derive(Clone, Debug, Default)]
pub struct ModelStore {
    pub jobs: BTreeMap<JobId, Job>,
    pub instance: InstanceState,
    pub shared_imports: BTreeMap<u32, SharedImport>,
    /// The last number of a shared import.
    shared_imports_made: u32,
    /// For a mutation: what follows from an upload of several batches is recorded for one of them only.
    pub reaches_lead_only: bool,
    /// For a mutation: once the batch that stands for a shared import has left, none does.
    pub keeps_no_lead: bool,
    /// For a mutation: no batch waits for another one of its job.
    pub forgets_rules: bool,
    /// For a mutation: batches count that do not stand for their import.
    pub counts_members: bool,
    /// The table `abandoned`: until when each import counts.
    abandoned: Vec<Timestamp>,
    /// The table `call`: when each ended.
    calls: Vec<(Timestamp, Option<Timestamp>)>,
    /// The table `api_call_day`: the calls of each day, and those that are doubtful.
    days: BTreeMap<Timestamp, (u64, u64)>,
    /// The table `clock`.
    clock: Option<ClockRecord>,
}

impl ModelStore {
    /// `store::accept`: a file that is wholly there. Returns the new job.
    pub fn add(&mut self, priority: i64, group: Option<String>, list: Option<i64>, rows: &[u32]) -> JobId {
        let id = JobId(1 + self.jobs.len() as i64);
        let mut from = 0;
        let batches = (1..).zip(rows).map(|(part, rows)| {
            let batch = Batch::new(part, from..from + rows);
            from = batch.to;
            batch
        });
        let batches = batches.collect();
        let job = Job {
            priority,
            group,
            list,
            not_before: None,
            shape: None,
            pack_max_rows: None,
            rules: BatchRules::default(),
            stopped: None,
            state: JobState::Pending,
            batches,
        };
        self.jobs.insert(id, job);
        id
    }

    pub fn batch(&self, key: BatchKey) -> &Batch {
        self.jobs[&key.job].batches.iter().find(|batch| batch.part == key.part).expect("a key of this store")
    }

    pub fn state(&self, key: BatchKey) -> BatchState {
        self.batch(key).progress.state
    }

    pub fn batches(&self) -> impl Iterator<Item = (BatchKey, &Job, &Batch)> {
        self.jobs.iter().flat_map(|(&id, job)| {
            job.batches.iter().map(move |batch| (BatchKey { job: id, part: batch.part }, job, batch))
        })
    }

    fn change(&mut self, key: BatchKey, change: impl FnOnce(&mut Batch)) {
        let batches = self.jobs.get_mut(&key.job).map(|job| &mut job.batches);
        let batch = batches.and_then(|batches| batches.iter_mut().find(|batch| batch.part == key.part));
        change(batch.expect("a key of this store"));
    }

    /// `StoreTx::split_batch`, after the event is recorded.
    pub fn halve(&mut self, key: BatchKey, now: Timestamp) -> Result<(), IllegalTransitionError> {
        let (from, to) = (self.batch(key).from, self.batch(key).to);
        let middle = from + (to - from) / 2;
        self.change(key, |batch| batch.to = middle);
        let job = self.jobs.get_mut(&key.job).expect("a key of this store");
        // Only a job of one batch shares imports.
        job.shape = None;
        let part = 1 + job.batches.iter().map(|batch| batch.part).max().unwrap_or(0);
        job.batches.push(Batch::new(part, middle..to));
        job.batches.sort_by_key(|batch| batch.from);
        // A job that is stopped uploads neither half.
        self.apply_batch_rules(BatchKey { job: key.job, part }, &Event::Split { reason: String::new() }, now)
    }

    /// `StoreTx::record_query_failure`.
    pub fn ask_failed(&mut self, key: BatchKey, kind: QueryFailureKind, not_before: Timestamp, now: Timestamp) {
        self.change(key, |batch| batch.progress = batch.progress.after_query_failure(kind, not_before, now));
    }

    /// For a mutation: a requeue that keeps the attempt.
    pub fn keep_attempt(&mut self, key: BatchKey) {
        self.change(key, |batch| batch.progress.attempts += 1);
    }

    /// For a mutation: the batch waits to be uploaded, whatever its state was.
    pub fn forget(&mut self, key: BatchKey) {
        self.change(key, |batch| {
            batch.progress.state = BatchState::Pending;
            batch.progress.marketo_batch_id = None;
            batch.progress.attempts -= 1;
            batch.sharing = Sharing::ALONE;
        });
    }

    /// `store::moves::order`: the batches that an operator's order changes.
    pub fn ordered(&self, id: JobId, event: &Event) -> Vec<BatchKey> {
        let batches = self.jobs[&id].batches.iter();
        let legal = batches.filter(|batch| transition(batch.progress.state, event).is_ok());
        legal.map(|batch| BatchKey { job: id, part: batch.part }).collect()
    }

    /// The batches whose imports an operator may give up.
    pub fn overdue(&self) -> Vec<BatchKey> {
        self.batches().filter(|(.., batch)| batch.progress.overdue_at.is_some()).map(|(key, ..)| key).collect()
    }

    /// `ReadTx::count_occupied_slots`.
    pub fn in_flight(&self) -> u32 {
        let held = self.batches().filter(|(_, _, batch)| batch.progress.state.occupies_slot() && self.counts(batch));
        u32::try_from(held.count()).unwrap_or(u32::MAX)
    }

    /// `leads_import = 1`: of the batches that share an import, one stands for it.
    fn counts(&self, batch: &Batch) -> bool {
        batch.sharing.leads || self.counts_members
    }

    /// `store::clock::follow`: moves the ends of unconfirmed imports by what the clock was set.
    pub fn observe_clock(&mut self, reading: &ClockReading, moves_ends: bool) {
        let Some(known) = &self.clock else {
            self.clock = Some(ClockRecord::begin_steady(reading));
            return;
        };
        let seen = known.observe(reading);
        self.clock = Some(seen.record);
        if seen.shift_ms == 0 || !moves_ends {
            return;
        }
        let moved = |until: &mut Timestamp| *until = from_ms(until.as_millisecond() + seen.shift_ms);
        let batches = self.jobs.values_mut().flat_map(|job| &mut job.batches);
        batches.filter_map(|batch| batch.progress.unconfirmed_until.as_mut()).for_each(moved);
        self.abandoned.iter_mut().for_each(moved);
    }

    /// `store::ObservedClock::steady_at`.
    pub fn clock_steady_at(&self, reading: &ClockReading) -> Option<Timestamp> {
        self.clock.as_ref().and_then(|clock| clock.steady_at(reading, PATIENCE))
    }

    /// `store::snapshot`.
    pub fn snapshot(&self, now: Timestamp, parts: u32, longest: Duration) -> Snapshot {
        Snapshot {
            instance: self.instance.clone(),
            in_flight: self.flights(),
            in_flight_elsewhere: 0,
            candidates: self.candidates(now, parts, longest),
            unconfirmed_until: self.unconfirmed(now),
            busy_lists: self.busy_lists(now, longest),
            next_due: self.next_due(now, longest),
            has_untried_batch: self.waiting(now),
            ended_imports: self.ended_imports(),
            clock_steady_at: None,
        }
    }

    fn flights(&self) -> Vec<InFlightBatch> {
        let flying = |state: BatchState| !state.is_terminal() && state != BatchState::Pending;
        self.batches()
            .filter(|(_, _, batch)| flying(batch.progress.state) && self.counts(batch))
            .map(|(key, job, batch)| InFlightBatch {
                key,
                state: batch.progress.state,
                group: job.group.clone(),
                list_id: job.list,
                rows: u64::from(batch.sharing.import_rows.unwrap_or(batch.rows())),
                rows_done: batch.progress.counts.processed.unwrap_or(0) + batch.progress.counts.failed.unwrap_or(0),
                not_before: batch.progress.not_before,
                accepted_at: batch.progress.accepted_at,
                importing_at: batch.progress.importing_at,
                polled_at: batch.progress.polled_at,
                is_overdue: batch.progress.overdue_at.is_some(),
            })
            .collect()
    }

    fn candidates(&self, now: Timestamp, parts: u32, longest: Duration) -> Vec<PendingBatch> {
        let busy = self.busy_lists(now, longest);
        let InstanceState { service_failures, last_success, .. } = self.instance;
        let turn = |last: Option<u64>| last.filter(|&last| service_failures > 0 && last > last_success);
        let unended = |job: &Job| matches!(job.state, JobState::Pending | JobState::Running);
        let mut found = Vec::new();
        for (&id, job) in self.jobs.iter().filter(|(_, job)| unended(job)) {
            let ahead = |(other, o): (&JobId, &Job)| *other < id && o.group == job.group && unended(o);
            if job.group.is_some() && self.jobs.iter().any(ahead) {
                continue;
            }
            if job.is_early(now) {
                continue;
            }
            let fills = |b: &Batch| b.progress.state.occupies_slot() && b.sharing.leads;
            let filling = |o: &Job| o.list == job.list && o.batches.iter().any(fills);
            if job.list.is_some() && self.jobs.values().any(filling) {
                continue;
            }
            if job.list.is_some_and(|list| busy.iter().any(|&(other, _)| other == list)) {
                continue;
            }
            let pending = job.batches.iter().filter(|batch| batch.progress.state == BatchState::Pending);
            let pending = pending.filter(|batch| self.forgets_rules || !job.waits_for_another(batch));
            let mut pending: Vec<&Batch> = pending.collect();
            pending.sort_by_key(|batch| turn(batch.progress.last_upload));
            let pending = pending.into_iter();
            for batch in pending.take(parts as usize) {
                if batch.progress.not_before.is_none_or(|at| !holds(at, now, longest)) {
                    let key = BatchKey { job: id, part: batch.part };
                    let last_upload = batch.progress.last_upload;
                    let (priority, group, pack_shape) = (job.priority, job.group.clone(), job.pack_shape(batch));
                    found.push(PendingBatch { key, priority, group, list_id: job.list, last_upload, pack_shape });
                }
            }
        }
        found.sort_by_key(|candidate| (turn(candidate.last_upload), std::cmp::Reverse(candidate.priority)));
        found.truncate(CANDIDATES);
        found
    }

    fn unconfirmed(&self, now: Timestamp) -> Vec<Timestamp> {
        self.batches()
            .filter_map(|(_, _, batch)| {
                Some((batch.progress.unconfirmed_until?, batch.progress.unconfirmed_imports as usize))
            })
            .filter(|&(until, _)| until > now)
            .flat_map(|(until, unconfirmed)| std::iter::repeat_n(until, unconfirmed))
            .chain(self.abandoned.iter().copied().filter(|&until| until > now))
            .collect()
    }

    fn busy_lists(&self, now: Timestamp, longest: Duration) -> Vec<(i64, Timestamp)> {
        let mut lists = BTreeMap::new();
        for (_, job, batch) in self.batches() {
            let BatchProgress { state, wait, not_before, .. } = batch.progress;
            let waits = state == BatchState::Pending && wait == Some(DeferReason::ListBusy);
            if let (Some(list), Some(until)) =
                (job.list, not_before.filter(|&until| waits && holds(until, now, longest)))
            {
                let latest = lists.entry(list).or_insert(until);
                *latest = until.max(*latest);
            }
        }
        lists.into_iter().collect()
    }

    fn next_due(&self, now: Timestamp, longest: Duration) -> Option<Timestamp> {
        let jobs = self.jobs.values().filter(|job| !job.state.is_terminal() && job.is_early(now));
        self.batches()
            .filter(|(_, _, batch)| batch.progress.state == BatchState::Pending)
            .filter_map(|(_, _, batch)| batch.progress.not_before.filter(|&at| holds(at, now, longest)))
            .chain(jobs.filter_map(|job| job.not_before))
            .min()
    }

    fn waiting(&self, now: Timestamp) -> bool {
        let unended = |job: &Job| matches!(job.state, JobState::Pending | JobState::Running);
        let behind = |id: JobId, job: &Job| {
            job.group.is_some() && self.jobs.iter().any(|(&other, o)| other < id && o.group == job.group && unended(o))
        };
        self.batches().any(|(key, job, batch)| {
            batch.progress.state == BatchState::Pending
                && !behind(key.job, job)
                && !job.is_early(now)
                && !job.waits_for_another(batch)
        })
    }

    fn ended_imports(&self) -> Vec<EndedImport> {
        let mut ended: Vec<_> = self
            .batches()
            .filter(|(_, _, batch)| batch.progress.state == BatchState::Complete && batch.sharing.leads)
            .filter_map(|(_, _, batch)| {
                let rows = u64::from(batch.sharing.import_rows.unwrap_or(batch.rows()));
                let (accepted_at, polled_at) = (batch.progress.accepted_at?, batch.progress.polled_at?);
                let import = EndedImport { rows, accepted_at, ended_at: polled_at };
                (polled_at >= accepted_at).then_some((batch.progress.ended_at, import))
            })
            .collect();
        ended.sort_by_key(|&(at, _)| std::cmp::Reverse(at));
        ended.into_iter().take(ENDED_IMPORTS).map(|(_, import)| import).collect()
    }
}

/// `not_before > now AND not_before <= now + longest`.
fn holds(not_before: Timestamp, now: Timestamp, longest: Duration) -> bool {
    now < not_before && not_before <= after(now, longest)
}
