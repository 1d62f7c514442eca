//! Driver of a run: a clock, a Marketo, other integrations, clients, an operator and a daemon that can be killed, all
//! driven by one seed.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use marqueue::clock::{ClockReading, Uptime, after, from_ms};
use marqueue::config;
use marqueue::config::{Config, UnknownOutcome};
use marqueue::domain::instance::Pause;
use marqueue::domain::{BatchKey, BatchState, JobId};
use marqueue::marketo::SlidingWindow;
use marqueue::scheduler::{SchedulingRules, Work, next_day};
use marqueue::simulator::Settings;
use marqueue::simulator::model::MarketoModel;
use marqueue::store::Snapshot;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::checker::Checker;
use super::invariants::{CheckResult, Invariant, Violation};
use super::model_store::{ModelStore, PackedRows};
use super::worker::Worker;

mod actors;
mod answers;
mod calls;
mod instance_scheduler;
mod marketo;
mod mutations;
mod outage;
mod packing;
mod scripted;
mod stats;

pub use mutations::Mutation;
pub use outage::Outage;
pub use stats::Stats;

/// The daemon's memory, which a kill takes away.
struct Daemon {
    busy: HashMap<BatchKey, Work>,
    workers: Vec<Worker>,
    rate_limiter: SlidingWindow,
    token: Option<String>,
    /// `scheduler::watch`: when each import was last answered for, in true time.
    watched: HashMap<BatchKey, Duration>,
    is_due_now: bool,
    may_start_new_job: bool,
    next_tick: Option<Timestamp>,
}

/// An upload that was under way when the daemon was killed.
struct OrphanedUpload {
    packed: Vec<PackedRows>,
    token: String,
}

/// The longest time that an upload is under way.
const MAX_TRAVEL_TIME: Duration = Duration::from_secs(5);

/// How likely a fault is, and which faults there are; none when faults have ceased.
#[derive(Clone, Copy)]
struct FaultSettings {
    fault: f64,
    unreachable: bool,
    locked_out: bool,
    outage: Option<Outage>,
}

pub struct Simulation {
    rng: Xoshiro256PlusPlus,
    mutation: Mutation,
    pub config: config::Instance,
    rules: SchedulingRules,
    faults: FaultSettings,
    /// True time since the beginning of the run, which Marketo follows.
    at: Duration,
    /// What our clock shows beside it, in milliseconds.
    skew: i64,
    /// When it was last set by a minute or more, in true time.
    jumped_at: Option<Duration>,
    began: Timestamp,
    epoch: Instant,
    marketo: MarketoModel,
    other_imports: usize,
    store: ModelStore,
    daemon: Option<Daemon>,
    orphaned: Vec<OrphanedUpload>,
    /// One batch in so many is an import that never ends; 0: none is.
    stuck: i64,
    /// Jobs whose header Marketo does not take.
    wrong: Vec<JobId>,
    /// Jobs with a row that makes the whole import fail.
    failing: Vec<JobId>,
    /// The shape of jobs whose header Marketo does not take.
    wrong_shape: Option<u8>,
    /// The most rows of an upload of several jobs: `limits.upload_bytes`.
    max_packed_rows: u32,
    /// Jobs that Marketo always answers 611.
    refused: Vec<JobId>,
    /// Attempts that counted against a batch in a run whose only faults are outages and kills.
    costs: HashMap<BatchKey, u32>,
    /// A restart could not know of all calls: the clock was set on, or a call was still on its way.
    blind_restart: bool,
    checker: Checker,
    /// Faults have ceased.
    faults_ceased: bool,
    pub log: Vec<String>,
    pub keep_log: bool,
    /// What happened, to see that the runs cover it.
    pub stats: Stats,
}

/// Where an invariant is violated, the run stops.
type Done<T> = Result<T, Violation>;

/// The result of a worker's stage.
enum Next {
    Goes(Worker),
    /// The rate limiter does not admit it yet.
    Waits(Worker),
    Ended,
}

impl Simulation {
    pub fn new(seed: u64, mutation: Mutation) -> Simulation {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut config = Simulation::defaults();
        let limits = &mut config.limits;
        limits.importing = rng.random_range(1..=2);
        limits.queued = [10, 10, rng.random_range(limits.importing..=10)][rng.random_range(0..3)];
        limits.calls = rng.random_range(8..=50);
        limits.concurrent_calls = rng.random_range(1..=5);
        limits.daily_calls = if rng.random_bool(0.1) { rng.random_range(20..=80) } else { 0 };
        config.polling.min = Duration::from_secs(rng.random_range(1..=5));
        config.polling.max = config.polling.min * rng.random_range(1..=6);
        config.max_attempts = rng.random_range(1..=8);
        config.backoff_max = Duration::from_secs(rng.random_range(10..=300));
        if rng.random_bool(0.4) {
            config.unknown_outcome = UnknownOutcome::Hold;
        }
        let stuck = if rng.random_bool(0.25) { rng.random_range(1..=3) } else { 0 };
        config.max_import_time = Duration::from_secs(rng.random_range(5..=if stuck > 0 { 60 } else { 600 }));
        let settings = Settings {
            max_body: if rng.random_bool(0.2) { 2_500 } else { 10_000_000 },
            daily_calls: if rng.random_bool(0.1) { rng.random_range(20..=80) } else { 50_000 },
            no_file_is_404: rng.random_bool(0.5),
            counts_while_importing: rng.random_bool(0.5),
            ..Settings::default()
        };
        let began: Timestamp = "2026-03-10T00:00:00Z".parse().expect("a time");
        let began = after(began, Duration::from_secs(rng.random_range(0..86_400)));
        let reset =
            Duration::try_from(next_day(began, config.limits.daily_reset).duration_since(began)).unwrap_or_default();
        let fault = [0.0, 0.03, 0.1, 0.3][rng.random_range(0..4)];
        let mut simulation = Simulation {
            rules: SchedulingRules::from_instance(&config),
            faults: FaultSettings { fault, unreachable: false, locked_out: false, outage: None },
            at: Duration::ZERO,
            skew: 0,
            jumped_at: None,
            began,
            epoch: Instant::now() + Duration::from_secs(3600),
            marketo: MarketoModel::new(settings, reset),
            other_imports: 0,
            store: ModelStore::default(),
            daemon: None,
            orphaned: Vec::new(),
            stuck,
            wrong: Vec::new(),
            failing: Vec::new(),
            wrong_shape: None,
            max_packed_rows: 1_000,
            refused: Vec::new(),
            costs: HashMap::new(),
            blind_restart: false,
            checker: Checker::default(),
            faults_ceased: false,
            log: Vec::new(),
            keep_log: false,
            stats: Stats::default(),
            rng,
            mutation,
            config,
        };
        if simulation.rng.random_bool(0.1) {
            simulation.wrong_shape = Some(1);
        }
        if simulation.rng.random_bool(0.2) {
            simulation.max_packed_rows = simulation.rng.random_range(2..=6);
        }
        simulation.store.reaches_lead_only = mutation == Mutation::RecordsForLeadOnly;
        simulation.store.keeps_no_lead = mutation == Mutation::KeepsNoLead;
        simulation.store.forgets_rules = mutation == Mutation::ForgetsRules;
        simulation.store.counts_members = mutation == Mutation::CountsMembers;
        simulation.start();
        simulation
    }

    fn defaults() -> config::Instance {
        let text = "[instances.default]\nbase_url = \"http://127.0.0.1:9\"\nclient_id = \"a\"\nclient_secret = \"b\"\n";
        let config = Config::read(Some(("simulation".as_ref(), text)), []).expect("the configuration is right");
        config.instances["default"].clone()
    }

    fn now(&self) -> Timestamp {
        let true_ms = self.began.as_millisecond() + i64::try_from(self.at.as_millis()).unwrap_or(i64::MAX);
        from_ms(true_ms + self.skew)
    }

    /// What no setting of the clock moves, as a time.
    pub(super) fn uptime(&self) -> Timestamp {
        after(from_ms(0), self.at)
    }

    fn reading(&self) -> ClockReading {
        ClockReading { wall: self.now(), up: Uptime { boot: "one".into(), ms: self.uptime().as_millisecond() } }
    }

    /// `WorkerContext::observe`.
    pub(super) fn observe(&mut self) {
        let reading = self.reading();
        self.store.observe_clock(&reading, self.mutation != Mutation::KeepsEndsOverJump);
    }

    fn instant(&self) -> Instant {
        self.epoch + self.at
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.keep_log {
            let line = format!("{:>10.3} {} {}", self.at.as_secs_f64(), self.now(), text());
            self.log.push(line);
        }
    }

    /// A step of the run: something happens, and the scheduler ticks if it is due.
    pub fn step(&mut self) -> CheckResult {
        match self.rng.random_range(0..100) {
            0..50 => self.advance()?,
            50..68 => self.time_passes(),
            68..78 => self.job_arrives(),
            78..82 => self.operator_acts()?,
            82..85 => {
                self.other_imports = [0, 0, 3, 7, 9, 10][self.rng.random_range(0..6)];
                let other_imports = self.other_imports;
                self.note(|| format!("{other_imports} imports of others"));
                self.marketo.set_other_imports(self.at, other_imports);
            }
            85..88 => {
                self.kill();
                if self.rng.random_bool(0.3) {
                    self.time_passes();
                }
                self.start();
            }
            88..90 => self.clock_jumps(),
            90..94 => self.change_faults(),
            94..96 => {
                self.note(|| "tokens are revoked".into());
                self.marketo.revoke_tokens();
            }
            _ => self.orphaned_upload_arrives(),
        }
        let due =
            self.daemon.as_ref().is_some_and(|d| d.is_due_now || d.next_tick.is_some_and(|tick| tick <= self.now()));
        if due && self.rng.random_bool(0.8) {
            self.tick()?;
        }
        self.checker()
    }

    /// Returns the snapshot of a plan that is made now.
    fn snapshot(&self, now: Timestamp) -> Snapshot {
        let clock_steady_at = self.store.clock_steady_at(&self.reading());
        Snapshot { clock_steady_at, ..self.store.snapshot(now, self.rules.max_in_flight, self.rules.longest_pause()) }
    }

    fn checker(&mut self) -> CheckResult {
        self.checker.tick(&self.store, self.marketo.unended(self.at), &self.rules, self.at)
    }

    /// Faults cease, the operator settles what waits for an operator, and every job has to end.
    pub fn drain(&mut self) -> CheckResult {
        self.note(|| "faults cease".into());
        self.faults_ceased = true;
        self.stats.amid_faults = self.stats.uploads;
        self.faults = FaultSettings { fault: 0.0, unreachable: false, locked_out: false, outage: None };
        self.marketo.set_other_imports(self.at, 0);
        self.marketo.end_stuck(self.at);
        while !self.orphaned.is_empty() {
            self.orphaned_upload_arrives();
        }
        let stuck = |pause: &Pause| pause.until.is_none();
        self.observe();
        // What a lost answer may have left behind holds its slot until its time.
        let unconfirmed = self.snapshot(self.now()).unconfirmed_until.into_iter().max();
        let unconfirmed = unconfirmed
            .map_or(Duration::ZERO, |until| Duration::try_from(until.duration_since(self.now())).unwrap_or_default());
        // The clock may have been set back since a job got its earliest time.
        let earliest = self.store.jobs.values().filter_map(|job| job.not_before).max();
        let earliest =
            earliest.map_or(Duration::ZERO, |at| Duration::try_from(at.duration_since(self.now())).unwrap_or_default());
        let deadline = self.at + unconfirmed + earliest + Duration::from_secs(3 * 3600);
        let mut quota = Duration::ZERO;
        for _ in 0..100_000 {
            if self.store.instance.pause.as_ref().is_some_and(stuck) {
                self.resume();
            }
            let held = self.store.batches().filter(|(.., batch)| batch.progress.state == BatchState::Held);
            let held: BTreeSet<JobId> = held.map(|(key, ..)| key.job).collect();
            for id in held {
                self.retry(id)?;
            }
            if self.run_until_idle()? {
                continue;
            }
            if self.store.jobs.values().all(|job| job.state.is_terminal()) && self.nobody_is_busy() {
                self.stats.stopped = self.store.jobs.values().filter(|job| job.stopped.is_some()).count() as u64;
                self.checker.at_the_end(&self.store)?;
                return self.calls_within_limits();
            }
            let before = self.at;
            self.pass_to_next_wakeup();
            if self.store.instance.pause.is_some() {
                quota += self.at - before;
            }
            if self.at > deadline + quota {
                break;
            }
        }
        let text = format!("{:?} after the faults ceased, and not all has ended", self.at);
        self.checker.at_the_end(&self.store)?;
        Err(Violation { invariant: Invariant::End, text })
    }

    /// Lets all go on that can at this time; false where all wait for a later time.
    fn run_until_idle(&mut self) -> Done<bool> {
        while let Some(runnable) = self.runnable() {
            self.advance_one(runnable)?;
        }
        if self.due() {
            self.tick()?;
            return Ok(true);
        }
        self.checker()?;
        Ok(false)
    }

    fn nobody_is_busy(&self) -> bool {
        self.daemon.as_ref().is_none_or(|daemon| daemon.workers.is_empty())
    }

    fn calls_within_limits(&self) -> CheckResult {
        let ledger = self.marketo.call_log(self.at);
        let (in_window, at_once) = (ledger.max_calls_in_window, ledger.max_concurrent_calls);
        let limits = &self.config.limits;
        let over = in_window > limits.calls as usize || at_once > limits.concurrent_calls as usize;
        if over && !self.blind_restart {
            let text = format!(
                "{in_window} calls in a window, {at_once} at once; {} and {}",
                limits.calls, limits.concurrent_calls
            );
            return Err(Violation { invariant: Invariant::Calls, text });
        }
        Ok(())
    }
}
