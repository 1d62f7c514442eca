//! What happens? One world: a clock, a Marketo, other integrations, clients, a person, a daemon that can be killed, all
//! moved by one seed.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use marqueue::clock::{after, from_ms};
use marqueue::config::{self, Config, UnknownOutcome};
use marqueue::job::{BatchKey, BatchState, Event, JobId, RemoteStatus, Wait};
use marqueue::marketo::wire::ApiError;
use marqueue::marketo::{Ask, CreateFault, Look, Window, asks};
use marqueue::schedule::outcome::{
    Unanswered, Whole, after_status, after_upload, answer_lost, backoff, fetch_failed, poll_failed, whole,
};
use marqueue::schedule::{Plan, Rules, Step, Work, day_of, next_day, plan};
use marqueue::simulator::rules::{self, Marketo, Part, Place};
use marqueue::simulator::{Call, Refusal, Settings};
use marqueue::store::{Pause, PauseKind};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::judge::{Broken, Held, Judge, Promise};
use super::shelf::Shelf;
use super::worker::{Answer, Fate, Report, Stage, Task, Worker};

/// A mistake that a world can be told to make, to see that the judge notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    None,
    /// Uploads under way are not counted.
    ForgetsUploads,
    /// Imports that a lost answer left behind are not counted.
    ForgetsGhosts,
    /// A poll that fails puts its batch back in the queue.
    SendsAgainAfterAPoll,
    /// An upload that was refused is sent again at once, and nothing is written down.
    SendsWithoutAReason,
    /// Groups are not looked at.
    ForgetsGroups,
    /// Lists are not looked at.
    ForgetsLists,
    /// What is put back has used up an attempt.
    BurnsAttempts,
    /// That a poll was made is not written down.
    ForgetsPolls,
    /// A pause is not looked at.
    CallsWhilePaused,
    /// A restart opens the gate.
    ForgetsCalls,
    /// What may not go yet is never looked at again.
    Sleeps,
    /// An upload that fails is taken for done.
    TakesNoForYes,
    /// What failed once is given up.
    GivesUp,
}

/// The daemon: all that a kill takes away.
struct Daemon {
    busy: HashMap<BatchKey, Work>,
    workers: Vec<Worker>,
    gate: Window,
    token: Option<String>,
    awake: bool,
    next_look: Option<Timestamp>,
}

/// An upload that was on its way when the daemon died.
struct Stray {
    key: BatchKey,
    token: String,
}

/// How likely a fault is, and which; all nothing when faults have ceased.
#[derive(Clone, Copy)]
struct Weather {
    fault: f64,
    unreachable: bool,
    locked_out: bool,
}

pub struct World {
    rng: Xoshiro256PlusPlus,
    lie: Lie,
    config: config::Instance,
    rules: Rules,
    weather: Weather,
    /// True time since the world's beginning, which Marketo follows.
    at: Duration,
    /// What our clock shows beside it, in milliseconds.
    skew: i64,
    began: Timestamp,
    epoch: Instant,
    marketo: Marketo,
    foreign: usize,
    shelf: Shelf,
    daemon: Option<Daemon>,
    strays: Vec<Stray>,
    /// Jobs whose header Marketo does not take.
    wrong: Vec<JobId>,
    /// A restart could not know of all calls: the clock was set on, or a call was still on its way.
    blind_restart: bool,
    judge: Judge,
    pub log: Vec<String>,
    pub keep_log: bool,
    pub uploads: u64,
}

/// Where a promise is broken, the world stops.
type Done<T> = Result<T, Broken>;

/// What a worker's stage came to.
enum Next {
    Goes(Worker),
    /// The gate is shut.
    Waits(Worker),
    Ended,
}

impl World {
    pub fn new(seed: u64, lie: Lie) -> World {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let text = "[instances.default]\nbase_url = \"http://127.0.0.1:9\"\nclient_id = \"a\"\nclient_secret = \"b\"\n";
        let config = Config::read(Some(("world".as_ref(), text)), []).expect("the configuration is right");
        let mut config = config.instances["default"].clone();
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
        let settings = Settings {
            max_body: if rng.random_bool(0.2) { 3_500 } else { 10_000_000 },
            daily_calls: if rng.random_bool(0.1) { rng.random_range(20..=80) } else { 50_000 },
            no_file_is_404: rng.random_bool(0.5),
            counts_while_importing: rng.random_bool(0.5),
            ..Settings::default()
        };
        let began: Timestamp = "2026-03-10T00:00:00Z".parse().expect("a time");
        let began = after(began, Duration::from_secs(rng.random_range(0..86_400)));
        let reset = Duration::try_from(next_day(began).duration_since(began)).unwrap_or_default();
        let fault = [0.0, 0.03, 0.1, 0.3][rng.random_range(0..4)];
        let mut world = World {
            rules: Rules::of(&config),
            weather: Weather { fault, unreachable: false, locked_out: false },
            at: Duration::ZERO,
            skew: 0,
            began,
            epoch: Instant::now() + Duration::from_secs(3600),
            marketo: Marketo::new(settings, reset),
            foreign: 0,
            shelf: Shelf::default(),
            daemon: None,
            strays: Vec::new(),
            wrong: Vec::new(),
            blind_restart: false,
            judge: Judge::default(),
            log: Vec::new(),
            keep_log: false,
            uploads: 0,
            rng,
            lie,
            config,
        };
        world.start();
        world
    }

    fn now(&self) -> Timestamp {
        let true_ms = self.began.as_millisecond() + i64::try_from(self.at.as_millis()).unwrap_or(i64::MAX);
        from_ms(true_ms + self.skew)
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

    /// A step of the world: something happens, and whoever is awake looks.
    pub fn step(&mut self) -> Held {
        match self.rng.random_range(0..100) {
            0..50 => self.advance()?,
            50..68 => self.time_passes(),
            68..78 => self.job_arrives(),
            78..82 => self.person()?,
            82..85 => {
                self.foreign = [0, 0, 3, 7, 9, 10][self.rng.random_range(0..6)];
                let foreign = self.foreign;
                self.note(|| format!("{foreign} imports of others"));
                self.marketo.set_foreign_imports(self.at, foreign);
            }
            85..88 => {
                self.kill();
                if self.rng.random_bool(0.3) {
                    self.time_passes();
                }
                self.start();
            }
            88..90 => self.clock_jumps(),
            90..94 => self.weather_changes(),
            94..96 => {
                self.note(|| "tokens are revoked".into());
                self.marketo.revoke_tokens();
            }
            _ => self.stray_arrives()?,
        }
        let due = self.daemon.as_ref().is_some_and(|d| d.awake || d.next_look.is_some_and(|look| look <= self.now()));
        if due && self.rng.random_bool(0.8) {
            self.look()?;
        }
        self.judge()
    }

    fn judge(&mut self) -> Held {
        let now = self.now();
        self.judge.look(&self.shelf, self.marketo.unended(self.at), &self.rules, now)
    }

    /// Faults cease, a person settles what is left to persons, and all has to end.
    pub fn settle(&mut self) -> Held {
        self.note(|| "faults cease".into());
        self.weather = Weather { fault: 0.0, unreachable: false, locked_out: false };
        self.marketo.set_foreign_imports(self.at, 0);
        while !self.strays.is_empty() {
            self.stray_arrives()?;
        }
        let stuck = |pause: &Pause| pause.until.is_none();
        // What a lost answer may have left behind holds its slot until its time, and by a clock that was set back that
        // is later.
        let ghosts = self.shelf.snapshot(self.now(), 1).ghosts.into_iter().max();
        let ghosts = ghosts
            .map_or(Duration::ZERO, |until| Duration::try_from(until.duration_since(self.now())).unwrap_or_default());
        let deadline = self.at + ghosts + Duration::from_secs(3 * 3600);
        let mut quota = Duration::ZERO;
        for _ in 0..100_000 {
            if self.shelf.instance.pause.as_ref().is_some_and(stuck) {
                self.shelf.instance = self.shelf.instance.resumed(None);
                self.wake();
            }
            let held: Vec<_> =
                self.shelf.batches().filter(|(.., b)| b.progress.state == BatchState::Held).map(|b| b.0).collect();
            for key in held {
                self.record(key, Event::Retried)?;
            }
            while let Some(runnable) = self.runnable() {
                self.advance_one(runnable)?;
                if self.due() {
                    self.look()?;
                }
            }
            if self.due() {
                self.look()?;
                continue;
            }
            self.judge()?;
            if self.shelf.jobs.values().all(|job| job.state.has_ended()) && self.nobody_is_busy() {
                self.judge.at_the_end(&self.shelf)?;
                return self.calls_within_limits();
            }
            let before = self.at;
            self.to_the_next_moment();
            if self.shelf.instance.pause.is_some() {
                quota += self.at - before;
            }
            if self.at > deadline + quota {
                break;
            }
        }
        let text = format!("{:?} after the faults ceased, and not all has ended", self.at);
        self.judge.at_the_end(&self.shelf)?;
        Err(Broken { promise: Promise::End, text })
    }

    fn nobody_is_busy(&self) -> bool {
        self.daemon.as_ref().is_none_or(|daemon| daemon.workers.is_empty())
    }

    fn calls_within_limits(&self) -> Held {
        let ledger = self.marketo.ledger(self.at);
        let (in_window, at_once) = (ledger.most_calls_in_window, ledger.most_concurrent_calls);
        let limits = &self.config.limits;
        let over = in_window > limits.calls as usize || at_once > limits.concurrent_calls as usize;
        if over && !self.blind_restart {
            let text = format!(
                "{in_window} calls in a window, {at_once} at once; {} and {}",
                limits.calls, limits.concurrent_calls
            );
            return Err(Broken { promise: Promise::Calls, text });
        }
        Ok(())
    }

    // Time.

    fn time_passes(&mut self) {
        let passed = match self.rng.random_range(0..10) {
            0..4 => Duration::from_millis(self.rng.random_range(1..2_000)),
            4..8 => return self.to_the_next_moment(),
            _ => Duration::from_secs(self.rng.random_range(2..90)),
        };
        self.pass(passed);
    }

    fn pass(&mut self, passed: Duration) {
        self.at += passed;
        self.judge.time_passed();
    }

    /// To when the daemon would wake of itself.
    fn to_the_next_moment(&mut self) {
        const NAP: Duration = Duration::from_secs(30);
        let (now, instant) = (self.now(), self.instant());
        let Some(daemon) = &mut self.daemon else { return self.pass(NAP) };
        let look =
            daemon.next_look.map_or(NAP, |look| Duration::try_from(look.duration_since(now)).unwrap_or_default());
        let gate = match daemon.gate.look(instant) {
            Look::At(at) if daemon.workers.iter().any(|w| matches!(w.stage, Stage::Gate(_))) => at - instant,
            _ => NAP,
        };
        let passed = look.min(gate).min(NAP).max(Duration::from_millis(1));
        // The clock shows whole milliseconds.
        self.pass(Duration::from_millis(u64::try_from(passed.as_millis()).unwrap_or(1).max(1)));
    }

    fn clock_jumps(&mut self) {
        let far = self.rng.random_range(1_000..6 * 3_600_000);
        let by = if self.rng.random_bool(0.5) { far } else { -far };
        self.skew += by;
        // The last daemon's calls look older than they are, should one start now.
        self.blind_restart |= by > 0;
        self.note(|| format!("the clock jumps by {by} ms"));
        self.wake();
    }

    // The daemon.

    fn start(&mut self) {
        if self.daemon.is_some() {
            return;
        }
        let now = self.now();
        self.note(|| "the daemon starts".into());
        let window = self.config.limits.window;
        let ages = if self.lie == Lie::ForgetsCalls { Vec::new() } else { self.shelf.close_calls(window, now) };
        self.shelf.instance = self.shelf.instance.resumed(Some(PauseKind::Credentials));
        let ended = ages.into_iter().map(|age| self.instant().checked_sub(age).unwrap_or(self.epoch));
        let limits = &self.config.limits;
        let gate = Window::new(limits.calls, window, limits.concurrent_calls, ended);
        self.daemon =
            Some(Daemon { busy: HashMap::new(), workers: Vec::new(), gate, token: None, awake: true, next_look: None });
    }

    fn kill(&mut self) {
        let Some(daemon) = self.daemon.take() else { return };
        self.note(|| "the daemon is killed".into());
        self.judge.anew();
        for worker in daemon.workers {
            match worker.stage {
                Stage::Sent { token, .. } => {
                    if let Some(key) = worker.key.filter(|_| worker.task == Task::Upload && self.rng.random_bool(0.5)) {
                        self.strays.push(Stray { key, token });
                        self.blind_restart = true;
                    }
                }
                Stage::Inside { admitted, .. } => {
                    if let Some(key) = worker.key.filter(|_| admitted && worker.task == Task::Upload) {
                        let _ = self.create(key, None);
                    }
                    self.marketo.leave(Call::Other, admitted);
                }
                _ => {}
            }
        }
        while !self.strays.is_empty() && self.rng.random_bool(0.7) {
            let _ = self.stray_arrives();
        }
    }

    fn wake(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.awake = true;
        }
    }

    fn due(&self) -> bool {
        self.daemon.as_ref().is_some_and(|d| d.awake || d.next_look.is_some_and(|look| look <= self.now()))
    }

    /// `schedule::lane`: plans, and has the steps begun.
    fn look(&mut self) -> Held {
        let now = self.now();
        let mut snapshot = self.shelf.snapshot(now, self.rules.in_flight);
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let mut busy = daemon.busy.clone();
        match self.lie {
            Lie::ForgetsUploads => {
                busy.retain(|_, work| *work != Work::Upload);
                snapshot.flights.retain(|flight| flight.state != BatchState::Uploading);
                snapshot.candidates.retain(|candidate| !daemon.busy.contains_key(&candidate.key));
            }
            Lie::ForgetsGhosts => snapshot.ghosts.clear(),
            Lie::ForgetsGroups => {
                snapshot.flights.iter_mut().for_each(|flight| flight.group = None);
                snapshot.candidates.iter_mut().for_each(|candidate| candidate.group = None);
            }
            Lie::ForgetsLists => {
                snapshot.flights.iter_mut().for_each(|flight| flight.list_id = None);
                snapshot.candidates.iter_mut().for_each(|candidate| candidate.list_id = None);
            }
            Lie::ForgetsPolls => snapshot.flights.iter_mut().for_each(|flight| {
                flight.not_before = None;
                flight.accepted_at = Some(from_ms(0));
                flight.polled_at = None;
            }),
            Lie::CallsWhilePaused => snapshot.instance.pause = None,
            _ => {}
        }
        let mut made = plan(&snapshot, &busy, &self.rules, now);
        let again = plan(&snapshot, &busy, &self.rules, now);
        if self.lie == Lie::Sleeps && made.steps.is_empty() {
            made = Plan::default();
        }
        daemon.awake = false;
        daemon.next_look = made.next_look;
        if self.lie == Lie::None || self.lie == Lie::Sleeps {
            let again = if self.lie == Lie::Sleeps { &made } else { &again };
            self.judge.planned(&self.shelf, [&made, again], &busy, now)?;
        }
        if self.keep_log && !made.steps.is_empty() {
            self.note(|| format!("plan {:?}", made.steps));
        }
        for step in made.steps {
            let worker = match step {
                Step::Upload(key) => Worker::new(Some(key), Task::Upload),
                Step::Recover(key) => Worker::new(Some(key), Task::Recover),
                Step::Poll(key) => Worker::new(Some(key), Task::Poll),
                Step::Collect(key) => Worker::new(Some(key), Task::Collect(Report::Failures)),
                Step::Resume => Worker::new(None, Task::Resume),
            };
            let Some(daemon) = &mut self.daemon else { return Ok(()) };
            worker.key.map(|key| daemon.busy.insert(key, worker.work()));
            daemon.workers.push(worker);
        }
        Ok(())
    }

    /// A worker that the gate does not hold, if there is one.
    fn runnable(&mut self) -> Option<usize> {
        let instant = self.instant();
        let daemon = self.daemon.as_mut()?;
        let open = daemon.gate.look(instant) == Look::Go;
        let ready: Vec<usize> =
            (0..daemon.workers.len()).filter(|&n| open || !matches!(daemon.workers[n].stage, Stage::Gate(_))).collect();
        (!ready.is_empty()).then(|| ready[self.rng.random_range(0..ready.len())])
    }

    /// Some workers come some way.
    fn advance(&mut self) -> Held {
        for _ in 0..self.rng.random_range(1..12) {
            match self.runnable() {
                Some(worker) => self.advance_one(worker)?,
                None => break,
            }
        }
        Ok(())
    }

    fn advance_one(&mut self, number: usize) -> Held {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let worker = daemon.workers.swap_remove(number);
        let key = worker.key;
        let next = self.stage(worker)?;
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        match next {
            Next::Goes(worker) | Next::Waits(worker) => daemon.workers.push(worker),
            Next::Ended => {
                key.map(|key| daemon.busy.remove(&key));
                daemon.awake = true;
                self.judge.nothing_came()?;
            }
        }
        Ok(())
    }

    fn record(&mut self, key: BatchKey, event: Event) -> Held {
        let now = self.now();
        self.note(|| format!("{key} {event:?}"));
        if let Err(illegal) = self.shelf.record(key, &event, now) {
            return Err(Broken { promise: Promise::Move, text: format!("{key}: {illegal}") });
        }
        if self.lie == Lie::BurnsAttempts && matches!(event, Event::PutBack { .. }) {
            self.shelf.burn(key);
        }
        self.wake();
        self.judge.recorded(key, &event, &self.shelf.batch(key).progress, &self.config, now)
    }

    // The workers.

    fn stage(&mut self, mut worker: Worker) -> Done<Next> {
        let (now, instant) = (self.now(), self.instant());
        match worker.stage.clone() {
            Stage::Token => self.begin(worker),
            Stage::Gate(token) => {
                let Some(daemon) = &mut self.daemon else { return Ok(Next::Ended) };
                if daemon.gate.look(instant) != Look::Go {
                    return Ok(Next::Waits(worker));
                }
                daemon.gate.begin();
                self.leave(worker, token)
            }
            Stage::Sent { token, call } => {
                worker.stage = self.arrive(&worker, &token, call);
                Ok(Next::Goes(worker))
            }
            Stage::Inside { call, admitted, fate } => {
                let answer = self.serve(&worker, fate);
                self.marketo.leave(Call::Other, admitted);
                worker.stage = Stage::Back { call, answer };
                Ok(Next::Goes(worker))
            }
            Stage::Back { call, answer } => {
                if let Some(daemon) = &mut self.daemon {
                    daemon.gate.end(instant);
                }
                self.shelf.call_ended(call, now);
                self.answered(worker, answer)
            }
        }
    }

    /// The worker looks at its batch, and gets a token.
    fn begin(&mut self, mut worker: Worker) -> Done<Next> {
        let now = self.now();
        if worker.task == Task::Resume {
            self.note(|| "the pause is over".into());
            self.shelf.instance = self.shelf.instance.resumed(Some(PauseKind::Quota));
            self.wake();
            return Ok(Next::Ended);
        }
        let Some(key) = worker.key else { return Ok(Next::Ended) };
        let progress = self.shelf.batch(key).progress.clone();
        let state = progress.state;
        let mut first = worker.renewed;
        match worker.task {
            Task::Recover => {
                let event = answer_lost("the daemon ended".into(), progress.attempts, &self.config, now);
                self.record(key, event)?;
                return Ok(Next::Ended);
            }
            Task::Poll if !matches!(state, BatchState::Queued | BatchState::Importing) => return Ok(Next::Ended),
            Task::Collect(_) if state != BatchState::Collecting => return Ok(Next::Ended),
            Task::Collect(report) => {
                let counts = progress.counts;
                let counted = match report {
                    Report::Failures => counts.failed,
                    Report::Warnings => counts.warned,
                };
                if counted == Some(0) {
                    return self.next_report(worker, report);
                }
                first = false;
            }
            _ => {}
        }
        let _ = first;
        if self.weather.unreachable {
            return self.unreachable(worker, key);
        }
        let has = self.daemon.as_ref().and_then(|daemon| daemon.token.clone());
        let token = match has {
            Some(token) => token,
            None => {
                let secret = if self.weather.locked_out { "wrong" } else { "secret" };
                match self.marketo.issue_token(self.at, "simulator", secret) {
                    Ok(token) => token.access_token,
                    Err(error) => {
                        self.pause(PauseKind::Credentials, error.error_description, None);
                        return self.not_now(worker, key);
                    }
                }
            }
        };
        if let Some(daemon) = &mut self.daemon {
            daemon.token = Some(token.clone());
        }
        worker.stage = Stage::Gate(token);
        Ok(Next::Goes(worker))
    }

    /// `Admitted::NotNow`.
    fn not_now(&mut self, worker: Worker, key: BatchKey) -> Done<Next> {
        if worker.begun {
            let event =
                Event::PutBack { wait: Wait::Instance, reason: "the instance is paused".into(), not_before: None };
            self.record(key, event)?;
        }
        Ok(Next::Ended)
    }

    /// `Admitted::Unreachable`.
    fn unreachable(&mut self, worker: Worker, key: BatchKey) -> Done<Next> {
        let now = self.now();
        let reason = String::from("no route");
        match worker.task {
            Task::Upload => {
                let failures = self.shelf.instance.service_failures;
                let until = after(now, backoff(&self.config, failures.saturating_add(1)));
                if worker.begun {
                    self.record(key, Event::PutBack { wait: Wait::Service, reason, not_before: Some(until) })?;
                } else {
                    self.shelf.instance = self.shelf.instance.service_failed(until, now);
                    self.judge.time_passed();
                    self.wake();
                }
                Ok(Next::Ended)
            }
            Task::Poll => self.poll_failed(key, Ask::ServiceDown, &reason),
            Task::Collect(report) => self.fetch_failed(worker, key, report, Some(Ask::ServiceDown), &reason),
            Task::Recover | Task::Resume => Ok(Next::Ended),
        }
    }

    /// The gate is open: the call is written down and leaves, unless something has changed meanwhile.
    fn leave(&mut self, mut worker: Worker, token: String) -> Done<Next> {
        let (now, instant) = (self.now(), self.instant());
        let Some(key) = worker.key else { return Ok(Next::Ended) };
        let stopped = self.shelf.instance.pause.as_ref().is_some_and(|pause| pause.kind != PauseKind::Person);
        if stopped && self.lie != Lie::CallsWhilePaused {
            self.end_permit(instant);
            return self.not_now(worker, key);
        }
        let limits = self.config.limits.clone();
        let Some(call) = self.shelf.call_began(limits.window, day_of(now), limits.daily_calls, now) else {
            self.end_permit(instant);
            self.pause(PauseKind::Quota, "daily_calls".into(), Some(next_day(now)));
            return self.not_now(worker, key);
        };
        if worker.task == Task::Upload && !worker.begun {
            let paused = self.shelf.instance.pause.is_some() && self.lie != Lie::CallsWhilePaused;
            if paused || self.shelf.state(key) != BatchState::Pending {
                self.end_permit(instant);
                self.shelf.call_ended(call, now);
                return Ok(Next::Ended);
            }
            self.record(key, Event::UploadBegan)?;
            worker.begun = true;
        }
        let min = self.config.polling.min;
        self.judge.calls(self.shelf.instance.pause.as_ref().map(|pause| pause.kind))?;
        match worker.task {
            Task::Upload => {
                self.uploads += 1;
                self.judge.sends(key)?;
            }
            Task::Poll => self.judge.asks(key, "status", min, now)?,
            Task::Collect(Report::Failures) => self.judge.asks(key, "failures", self.config.backoff_min, now)?,
            Task::Collect(Report::Warnings) => self.judge.asks(key, "warnings", self.config.backoff_min, now)?,
            Task::Recover | Task::Resume => {}
        }
        worker.stage = Stage::Sent { token, call };
        Ok(Next::Goes(worker))
    }

    fn end_permit(&mut self, instant: Instant) {
        if let Some(daemon) = &mut self.daemon {
            daemon.gate.end(instant);
        }
    }

    /// The call comes to Marketo, or does not.
    fn arrive(&mut self, worker: &Worker, token: &str, call: usize) -> Stage {
        let upload = worker.task == Task::Upload;
        let faulty = self.rng.random_bool(self.weather.fault);
        let lost = |reason: &str| match upload {
            true => Answer::NotCreated(CreateFault::AnswerLost { reason: reason.into(), request_id: None }),
            false => Answer::NoAnswer { ask: Ask::OutcomeUnknown, reason: reason.into() },
        };
        let never = |reason: &str| match upload {
            true => Answer::NotCreated(CreateFault::NeverSent(reason.into())),
            false => Answer::NoAnswer { ask: Ask::OutcomeUnknown, reason: reason.into() },
        };
        if self.weather.unreachable {
            return Stage::Back { call, answer: never("no route") };
        }
        let fault = if faulty { self.rng.random_range(0..10) } else { 99 };
        match fault {
            0 => return Stage::Back { call, answer: never("the connection was refused") },
            1 => {
                self.note(|| "a request is lost".into());
                self.marketo.note_lost_request();
                return Stage::Back { call, answer: lost("the request was lost") };
            }
            _ => {}
        }
        let kind = match worker.task {
            Task::Upload => Call::Create,
            Task::Poll => Call::Status,
            _ => Call::Failures,
        };
        let entered = self.marketo.enter(self.at, kind, Some(token));
        let admitted = entered.is_ok();
        let fate = match (entered, fault) {
            (Err(refusal), _) => {
                let (ask, reason) = reading(&refusal);
                Fate::Refused(ask, reason)
            }
            (Ok(()), 2 | 3) => Fate::AnswerLost,
            (Ok(()), 4) if matches!(worker.task, Task::Collect(_)) => Fate::Late,
            (Ok(()), 4..10) => {
                let codes =
                    ["606", "615", "607", "601", "603", "611", "608", "610", "1003", "1016", "1019", "503", "502"];
                let code = codes[self.rng.random_range(0..codes.len())];
                let error = ApiError { code: Some(code.into()), message: "by chance".into() };
                Fate::Refused(asks(200, Some(&[error])), format!("{code}: by chance"))
            }
            (Ok(()), _) => Fate::Served,
        };
        Stage::Inside { call, admitted, fate }
    }

    /// Marketo does what is asked, or says why not.
    fn serve(&mut self, worker: &Worker, fate: Fate) -> Answer {
        let Some(key) = worker.key else { return Answer::Report { there: false } };
        let lost = matches!(fate, Fate::AnswerLost);
        if let Fate::Refused(ask, reason) = fate {
            // Said of an upload, these codes may mean either.
            let unknown = ask == Ask::OutcomeUnknown;
            if worker.task == Task::Upload && unknown && self.rng.random_bool(0.5) {
                let _ = self.create(key, None);
            }
            return match worker.task {
                Task::Upload if unknown => Answer::NotCreated(CreateFault::AnswerLost { reason, request_id: None }),
                Task::Upload => Answer::NotCreated(CreateFault::Refused { ask, reason, request_id: None }),
                _ => Answer::NoAnswer { ask, reason },
            };
        }
        let id = self.shelf.batch(key).progress.marketo_batch_id.clone().unwrap_or_default();
        let answer = match worker.task {
            Task::Upload => match self.create(key, None) {
                Ok((id, status)) => Answer::Created { id, status },
                Err((ask, reason)) => Answer::NotCreated(CreateFault::Refused { ask, reason, request_id: None }),
            },
            Task::Poll => match self.marketo.status(self.at, &Place::Leads, &id) {
                Ok(import) => {
                    let status = import.remote_status().unwrap_or(RemoteStatus::Queued);
                    Answer::Status { status, counts: import.counts(), message: import.message }
                }
                Err(refusal) => no_answer(&refusal),
            },
            Task::Collect(report) => {
                let report = match report {
                    Report::Failures => rules::Report::Failures,
                    Report::Warnings => rules::Report::Warnings,
                };
                match self.marketo.report(self.at, &Place::Leads, &id, report) {
                    Ok(bytes) => Answer::Report { there: !bytes.is_empty() && !matches!(fate, Fate::Late) },
                    Err(Refusal::Http(404)) => Answer::Report { there: false },
                    Err(refusal) => no_answer(&refusal),
                }
            }
            Task::Recover | Task::Resume => Answer::Report { there: false },
        };
        match (lost, worker.task) {
            (false, _) => answer,
            (true, Task::Upload) => {
                Answer::NotCreated(CreateFault::AnswerLost { reason: "the answer was lost".into(), request_id: None })
            }
            (true, _) => Answer::NoAnswer { ask: Ask::OutcomeUnknown, reason: "the answer was lost".into() },
        }
    }

    /// Marketo is given a batch.
    fn create(&mut self, key: BatchKey, refused: Option<Refusal>) -> Result<(u64, RemoteStatus), (Ask, String)> {
        let (batch, list) = (self.shelf.batch(key), self.shelf.jobs[&key.job].list);
        let (rows, lasts) = (batch.from..batch.to, 1 + (key.job.0 * 7 + i64::from(key.part) * 13) % 40);
        let mut file = String::from(if self.wrong.contains(&key.job) { "name,x\n" } else { "email,x\n" });
        let mut fails = false;
        for row in rows.clone() {
            let cell = match (key.job.0 + i64::from(row)) % 23 {
                0 => "!fail:No".into(),
                1 => "!warn:Hm".into(),
                2 if key.job.0 % 9 == 0 => {
                    fails = true;
                    "!batch-failed:Out of order".into()
                }
                _ => format!("!lasts:{lasts}s"),
            };
            file += &format!("{row}@a.b,{cell}\n");
        }
        let mut query = BTreeMap::from([("format".to_owned(), "csv".to_owned())]);
        list.map(|list| query.insert("listId".into(), list.to_string()));
        let upload = rules::Upload {
            place: Place::Leads,
            path: String::new(),
            query,
            body_bytes: 1_000 * u64::from(batch.rows()),
            form: Ok(vec![Part {
                name: Some("file".into()),
                filename: Some(key.to_string()),
                content_type: Some("text/csv".into()),
                bytes: Bytes::from(file),
            }]),
            turned_away: refused,
            answer_lost: false,
        };
        match self.marketo.create(self.at, upload) {
            Ok(import) => {
                let id: u64 = import.id().and_then(|id| id.parse().ok()).unwrap_or_default();
                self.note(|| format!("Marketo makes {id} of {key}"));
                self.judge.made(id, key, rows, fails);
                Ok((id, import.remote_status().unwrap_or(RemoteStatus::Queued)))
            }
            Err(refusal) => Err(reading(&refusal)),
        }
    }

    fn stray_arrives(&mut self) -> Held {
        if self.strays.is_empty() {
            return Ok(());
        }
        let number = self.rng.random_range(0..self.strays.len());
        let Stray { key, token } = self.strays.swap_remove(number);
        self.note(|| format!("a dead daemon's upload of {key} arrives"));
        let entered = self.marketo.enter(self.at, Call::Create, Some(&token));
        if entered.is_ok() {
            let _ = self.create(key, None);
        }
        self.marketo.leave(Call::Create, entered.is_ok());
        Ok(())
    }

    /// What the workers make of an answer: upload, poll and collect.
    fn answered(&mut self, mut worker: Worker, answer: Answer) -> Done<Next> {
        let now = self.now();
        let Some(key) = worker.key else { return Ok(Next::Ended) };
        self.note(|| format!("{key} {:?} hears {answer:?}", worker.task));
        let refusal = match &answer {
            Answer::NotCreated(CreateFault::Refused { ask, reason, .. }) | Answer::NoAnswer { ask, reason } => {
                self.judge.said(key, *ask);
                Some((*ask, reason.clone()))
            }
            _ => None,
        };
        let mut whole_matter = false;
        if let Some((ask, reason)) = refusal {
            if ask == Ask::NewToken {
                self.daemon.as_mut().map(|daemon| daemon.token.take());
            }
            if ask == Ask::NewToken && !worker.renewed {
                worker.renewed = true;
                self.judge.token_refused(key);
                self.judge.may_repeat(key);
                worker.stage = Stage::Token;
                return Ok(Next::Goes(worker));
            }
            whole_matter = self.heed(ask, reason, key);
        }
        match (worker.task, answer) {
            (Task::Upload, Answer::Created { id, status }) => {
                self.record(key, Event::Accepted { marketo_batch_id: id.to_string(), status })?;
            }
            (Task::Upload, Answer::NotCreated(CreateFault::Refused { ask: Ask::TooLarge, .. })) => {
                if self.shelf.batch(key).rows() > 1 {
                    self.record(key, Event::Halved { reason: "413".into() })?;
                    self.shelf.halve(key);
                } else {
                    self.record(key, Event::Rejected { reason: "413, and one row".into() })?;
                }
            }
            (Task::Upload, Answer::NotCreated(fault)) => return self.not_created(worker, key, fault),
            (Task::Poll, Answer::Status { status, counts, message }) => {
                if status == RemoteStatus::Failed {
                    self.judge.said_failed(key);
                }
                self.record(key, after_status(status, counts, message))?;
            }
            (Task::Poll, Answer::NoAnswer { ask, reason }) if !whole_matter => {
                return self.poll_failed(key, ask, &reason);
            }
            (Task::Collect(report), Answer::Report { there: true }) => return self.next_report(worker, report),
            (Task::Collect(report), Answer::Report { there: false }) => {
                let counts = self.shelf.batch(key).progress.counts;
                let counted = if report == Report::Failures { counts.failed } else { counts.warned };
                return match counted {
                    None => self.next_report(worker, report),
                    Some(_) => self.fetch_failed(worker, key, report, None, "no such file"),
                };
            }
            (Task::Collect(report), Answer::NoAnswer { ask, reason }) if !whole_matter => {
                return self.fetch_failed(worker, key, report, Some(ask), &reason);
            }
            _ => {}
        }
        let _ = now;
        Ok(Next::Ended)
    }

    /// `Desk::heed`: whether a refusal is the instance's matter.
    fn heed(&mut self, ask: Ask, reason: String, key: BatchKey) -> bool {
        let (now, instant) = (self.now(), self.instant());
        match whole(ask, now) {
            None => return false,
            Some(Whole::WindowIsFull) => {
                self.judge.may_repeat(key);
                self.daemon.as_mut().into_iter().for_each(|daemon| daemon.gate.window_is_full(instant));
            }
            Some(Whole::TooManyAtOnce) => {
                self.judge.may_repeat(key);
                self.daemon.as_mut().into_iter().for_each(|daemon| daemon.gate.too_many_at_once(instant));
            }
            Some(Whole::Pause { kind, until }) => self.pause(kind, reason, until),
        }
        true
    }

    fn pause(&mut self, kind: PauseKind, reason: String, until: Option<Timestamp>) {
        self.note(|| format!("a pause: {kind:?} {reason} until {until:?}"));
        let pause = Pause { kind, reason, at: self.now(), until };
        self.shelf.instance = self.shelf.instance.paused(pause);
        self.wake();
    }

    fn not_created(&mut self, mut worker: Worker, key: BatchKey, fault: CreateFault) -> Done<Next> {
        let now = self.now();
        let attempts = self.shelf.batch(key).progress.attempts;
        let service_failures = self.shelf.instance.service_failures;
        match self.lie {
            Lie::SendsWithoutAReason if matches!(fault, CreateFault::AnswerLost { .. }) => {
                worker.stage = Stage::Token;
                return Ok(Next::Goes(worker));
            }
            Lie::TakesNoForYes if matches!(fault, CreateFault::Refused { .. }) => {
                let status = RemoteStatus::Queued;
                self.record(key, Event::Accepted { marketo_batch_id: "77".into(), status })?;
                return Ok(Next::Ended);
            }
            Lie::GivesUp if matches!(fault, CreateFault::Refused { .. }) => {
                self.record(key, Event::Rejected { reason: "no".into() })?;
                return Ok(Next::Ended);
            }
            _ => {}
        }
        let event = after_upload(fault, attempts, service_failures, &self.config, now);
        self.record(key, event)?;
        Ok(Next::Ended)
    }

    fn poll_failed(&mut self, key: BatchKey, ask: Ask, reason: &str) -> Done<Next> {
        let now = self.now();
        let progress = self.shelf.batch(key).progress.clone();
        if self.lie == Lie::SendsAgainAfterAPoll {
            self.shelf.forget(key);
            self.wake();
            return Ok(Next::Ended);
        }
        match poll_failed(ask, reason, progress.accepted_at, progress.ask_failures, &self.config, now) {
            Unanswered::GiveUp(reason) => self.record(key, Event::Lost { counts: progress.counts, reason })?,
            Unanswered::AskAgain(not_before) => self.ask_again(key, not_before),
        }
        Ok(Next::Ended)
    }

    fn fetch_failed(
        &mut self,
        worker: Worker,
        key: BatchKey,
        report: Report,
        ask: Option<Ask>,
        reason: &str,
    ) -> Done<Next> {
        let failures = self.shelf.batch(key).progress.ask_failures;
        match fetch_failed(ask, reason, failures, &self.config, self.now()) {
            Unanswered::GiveUp(_) => self.next_report(worker, report),
            Unanswered::AskAgain(not_before) => {
                self.ask_again(key, not_before);
                Ok(Next::Ended)
            }
        }
    }

    fn ask_again(&mut self, key: BatchKey, not_before: Timestamp) {
        let now = self.now();
        self.note(|| format!("{key} is asked after again at {not_before}"));
        self.shelf.ask_failed(key, not_before, now);
        self.judge.time_passed();
        self.wake();
    }

    /// One file is fetched, or there is none.
    fn next_report(&mut self, mut worker: Worker, done: Report) -> Done<Next> {
        let Some(key) = worker.key else { return Ok(Next::Ended) };
        match done {
            Report::Failures => {
                (worker.task, worker.stage, worker.renewed) = (Task::Collect(Report::Warnings), Stage::Token, false);
                Ok(Next::Goes(worker))
            }
            Report::Warnings => {
                self.record(key, Event::Collected)?;
                Ok(Next::Ended)
            }
        }
    }

    // People and the weather.

    fn job_arrives(&mut self) {
        if self.shelf.jobs.len() >= 12 {
            return;
        }
        let rng = &mut self.rng;
        let group = rng.random_bool(0.3).then(|| ["g", "h"][rng.random_range(0..2)].to_owned());
        let list = rng.random_bool(0.2).then(|| rng.random_range(7..9));
        let rows: Vec<u32> = (0..rng.random_range(1..=6)).map(|_| rng.random_range(1..=6)).collect();
        let (priority, wrong) = (rng.random_range(-1..=2), rng.random_bool(0.05));
        let id = self.shelf.add(priority, group.clone(), list, &rows);
        if wrong {
            self.wrong.push(id);
        }
        self.note(|| {
            format!("job {id} arrives: {rows:?} group {group:?} list {list:?} priority {priority} wrong {wrong}")
        });
        self.wake();
    }

    fn person(&mut self) -> Held {
        let jobs = self.shelf.jobs.len();
        let order = self.rng.random_range(0..6);
        match order {
            0 | 1 | 2 if jobs > 0 => {
                let id = JobId(1 + self.rng.random_range(0..jobs) as i64);
                let event = if order == 0 { Event::Cancelled } else { Event::Retried };
                for key in self.shelf.ordered(id, &event) {
                    self.record(key, event.clone())?;
                }
            }
            3 => self.pause(PauseKind::Person, "asked for".into(), None),
            _ => {
                self.note(|| "a person resumes".into());
                self.judge.anew();
                self.shelf.instance = self.shelf.instance.resumed(None);
                self.wake();
            }
        }
        Ok(())
    }

    fn weather_changes(&mut self) {
        if self.weather.fault == 0.0 {
            return;
        }
        self.weather.unreachable = self.rng.random_bool(0.2);
        self.weather.locked_out = self.rng.random_bool(0.1);
        let (unreachable, locked_out) = (self.weather.unreachable, self.weather.locked_out);
        self.note(|| format!("unreachable {unreachable}, locked out {locked_out}"));
    }
}

/// What the client makes of a refusal.
fn reading(refusal: &Refusal) -> (Ask, String) {
    let ask = match refusal {
        Refusal::Http(status) => asks(*status, None),
        Refusal::Error { message, .. } => {
            let error = ApiError { code: Some(refusal.name()), message: message.clone() };
            asks(200, Some(&[error]))
        }
    };
    (ask, format!("{}: {}", refusal.name(), refusal.message()))
}

fn no_answer(refusal: &Refusal) -> Answer {
    let (ask, reason) = reading(refusal);
    Answer::NoAnswer { ask, reason }
}
