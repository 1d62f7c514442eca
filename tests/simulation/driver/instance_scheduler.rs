//! The instance scheduler of `src/scheduler`: its ticks, its busy set, and what a kill makes of it.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use marqueue::clock::{after, from_ms};
use marqueue::domain::instance::PauseKind;
use marqueue::domain::shared_import::EventReach;
use marqueue::domain::{BatchKey, BatchState, Event, FailureScope, ReportKind};
use marqueue::marketo::{CallLimits, Decision, EarlierCallTimes, SlidingWindow};
use marqueue::scheduler::{Plan, Step, Work, next_day, plan};
use marqueue::simulator::{Admission, Call};
use rand::RngExt;

use super::{Daemon, Mutation, Next, OrphanedUpload, Simulation};
use crate::checker::Recorded;
use crate::invariants::{CheckResult, Invariant, Violation};
use crate::worker::{Stage, Task, Worker};

impl Simulation {
    pub(super) fn start(&mut self) {
        if self.daemon.is_some() {
            return;
        }
        self.note(|| "the daemon starts".into());
        self.observe();
        let window = self.config.limits.window;
        let may_take = self.config.request_timeout;
        let earlier = match self.mutation {
            Mutation::ForgetsCalls => EarlierCallTimes::default(),
            _ => self.store.earlier_calls(window, may_take, self.uptime()),
        };
        self.store.instance = self.store.instance.without_pause(Some(PauseKind::Credentials));
        let ended = earlier.ended_ago.into_iter().map(|age| self.instant().checked_sub(age).unwrap_or(self.epoch));
        let unseen = earlier.may_last.into_iter().map(|left| self.instant() + left);
        let rate_limiter = SlidingWindow::new(CallLimits::from(&self.config.limits), ended, unseen);
        self.daemon = Some(Daemon {
            busy: HashMap::new(),
            workers: Vec::new(),
            rate_limiter,
            watched: HashMap::new(),
            token: None,
            is_due_now: true,
            may_start_new_job: true,
            next_tick: None,
        });
    }

    pub(super) fn kill(&mut self) {
        let Some(daemon) = self.daemon.take() else { return };
        self.note(|| "the daemon is killed".into());
        self.stats.kills += 1;
        self.checker.allow_repeats();
        for worker in daemon.workers {
            match worker.stage {
                Stage::Sent { .. } if worker.task == Task::Upload && self.rng.random_bool(0.5) => {
                    self.orphaned.push(OrphanedUpload { packed: worker.packed, token: worker.token });
                    self.blind_restart = true;
                }
                Stage::Inside { admission, .. } => {
                    if admission == Admission::Admitted && worker.task == Task::Upload {
                        let _ = self.create(&worker.packed);
                    }
                    self.marketo.end_call(Call::Other, admission);
                }
                _ => {}
            }
        }
        while !self.orphaned.is_empty() && self.rng.random_bool(0.7) {
            self.orphaned_upload_arrives();
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.is_due_now = true;
        }
    }

    /// A new job makes a tick only where the last plan could have uploaded it.
    pub(super) fn wake_for_new_job(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.is_due_now |= daemon.may_start_new_job;
        }
    }

    pub(super) fn due(&self) -> bool {
        self.daemon.as_ref().is_some_and(|d| d.is_due_now || d.next_tick.is_some_and(|tick| tick <= self.now()))
    }

    /// `InstanceScheduler::tick`: plans, and begins the steps.
    pub(super) fn tick(&mut self) -> CheckResult {
        let now = self.now();
        self.observe();
        self.shorten_pause(now);
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        daemon.is_due_now = false;
        let mut busy = daemon.busy.clone();
        let mut snapshot = self.snapshot(now);
        // Between reading the busy set and reading the rows, workers go on.
        if !self.faults_ceased && self.rng.random_bool(0.2) {
            self.advance()?;
            match (self.mutation, &self.daemon) {
                (Mutation::ReadsRowsFirst, Some(daemon)) => busy.clone_from(&daemon.busy),
                _ => snapshot = self.snapshot(now),
            }
        }
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        match self.mutation {
            Mutation::ForgetsUploads => {
                busy.retain(|_, work| *work != Work::Upload);
                snapshot.in_flight.retain(|flight| flight.state != BatchState::Uploading);
                snapshot.candidates.retain(|candidate| !daemon.busy.contains_key(&candidate.key));
            }
            Mutation::ForgetsUnconfirmed => snapshot.unconfirmed_until.clear(),
            // Unconfirmed imports of lost answers are gone within ten pauses between polls.
            Mutation::ForgetsAbandoned => {
                let soon = after(now, self.config.polling.max * 10);
                snapshot.unconfirmed_until.retain(|&until| until <= soon);
            }
            Mutation::ForgetsGroups => {
                snapshot.in_flight.iter_mut().for_each(|flight| flight.group = None);
                snapshot.candidates.iter_mut().for_each(|candidate| candidate.group = None);
            }
            Mutation::ForgetsLists => {
                snapshot.in_flight.iter_mut().for_each(|flight| flight.list_id = None);
                snapshot.candidates.iter_mut().for_each(|candidate| candidate.list_id = None);
            }
            Mutation::ForgetsPolls => snapshot.in_flight.iter_mut().for_each(|flight| {
                flight.not_before = None;
                flight.accepted_at = Some(from_ms(0));
                flight.polled_at = None;
            }),
            Mutation::CallsWhilePaused => snapshot.instance.pause = None,
            _ => {}
        }
        if self.mutation == Mutation::ForgetsNotBefore {
            let ever = after(now, Duration::from_secs(3600));
            snapshot.candidates =
                self.store.snapshot(ever, self.rules.max_in_flight, self.rules.longest_pause()).candidates;
        }
        if self.mutation == Mutation::RetriesInSameOrder {
            snapshot.candidates.iter_mut().for_each(|candidate| candidate.last_upload = None);
        }
        let mut made = plan(&snapshot, &busy, &self.rules, now);
        let again = plan(&snapshot, &busy, &self.rules, now);
        if self.mutation == Mutation::NeverWakes && made.steps.is_empty() {
            made = Plan::default();
        }
        daemon.next_tick = made.next_wake;
        daemon.may_start_new_job = made.may_start_new_job;
        if matches!(
            self.mutation,
            Mutation::None | Mutation::NeverWakes | Mutation::ForgetsNotBefore | Mutation::ForgetsRules
        ) {
            let again = if self.mutation == Mutation::NeverWakes { &made } else { &again };
            self.checker.planned(&self.store, [&made, again], &busy, now)?;
        }
        if matches!(self.mutation, Mutation::None | Mutation::RetriesInSameOrder) {
            self.checker.turns(&snapshot, &made, &busy)?;
        }
        if self.keep_log && !made.steps.is_empty() {
            self.note(|| format!("plan {:?}", made.steps));
        }
        for step in made.steps {
            let worker = match step {
                Step::Upload(key) => Worker::new(Some(key), Task::Upload),
                Step::Recover(key) => Worker::new(Some(key), Task::Recover),
                Step::Poll(key) => Worker::new(Some(key), Task::Poll),
                Step::Collect(key) => Worker::new(Some(key), Task::Collect(ReportKind::Failures)),
                Step::Resume => Worker::new(None, Task::Resume),
            };
            let Some(daemon) = &mut self.daemon else { return Ok(()) };
            worker.key.map(|key| daemon.busy.insert(key, worker.work()));
            daemon.workers.push(worker);
        }
        Ok(())
    }

    /// `WorkerContext::snapshot`: a pause for the quota that began before the clock was set back ends with the day that
    /// it shows now.
    fn shorten_pause(&mut self, now: Timestamp) {
        let day_ends = next_day(now, self.config.limits.daily_reset);
        if self.store.clock_steady_at(&self.reading()).is_none()
            && let Some(pause) = &mut self.store.instance.pause
            && pause.kind == PauseKind::Quota
            && pause.until.is_some_and(|until| until > day_ends)
        {
            (pause.at, pause.until) = (now, Some(day_ends));
        }
    }

    /// A worker that the rate limiter does not hold back, if there is one.
    pub(super) fn runnable(&mut self) -> Option<usize> {
        let instant = self.instant();
        let daemon = self.daemon.as_mut()?;
        let open = daemon.rate_limiter.decide(instant) == Decision::Go;
        let ready: Vec<usize> = (0..daemon.workers.len())
            .filter(|&n| open || !matches!(daemon.workers[n].stage, Stage::RateLimited))
            .collect();
        (!ready.is_empty()).then(|| ready[self.rng.random_range(0..ready.len())])
    }

    /// Lets some workers do some of their stages.
    pub(super) fn advance(&mut self) -> CheckResult {
        for _ in 0..self.rng.random_range(1..12) {
            match self.runnable() {
                Some(worker) => self.advance_one(worker)?,
                None => break,
            }
        }
        Ok(())
    }

    pub(super) fn advance_one(&mut self, number: usize) -> CheckResult {
        self.observe();
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let worker = daemon.workers.swap_remove(number);
        let key = worker.key;
        let next = self.stage(worker)?;
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        match next {
            Next::Goes(worker) | Next::Waits(worker) => daemon.workers.push(worker),
            Next::Ended => {
                key.map(|key| daemon.busy.remove(&key));
                daemon.is_due_now = true;
                self.checker.no_progress()?;
            }
        }
        Ok(())
    }

    pub(super) fn record(&mut self, key: BatchKey, event: Event) -> CheckResult {
        let now = self.now();
        self.note(|| format!("{key} {event:?}"));
        let sharing = self.store.sharing(key);
        if let Err(illegal) = self.store.record(key, &event, now) {
            return Err(Violation { invariant: Invariant::LegalTransition, text: format!("{key}: {illegal}") });
        }
        if self.mutation == Mutation::CountsRequeues && matches!(event, Event::Requeued { .. }) {
            self.store.keep_attempt(key);
        }
        // The end of a worker makes a tick. Its batch's events before that make none.
        if self.daemon.as_ref().is_some_and(|daemon| !daemon.busy.contains_key(&key)) {
            self.wake();
        }
        let keys = if event.reach() == EventReach::Import { &sharing[..] } else { &sharing[..1] };
        self.check_recorded(&event, keys, &sharing)
    }

    /// Tells the checker of an event that was recorded for `keys`, of the batches that shared the import.
    pub(super) fn check_recorded(&mut self, event: &Event, keys: &[BatchKey], sharing: &[BatchKey]) -> CheckResult {
        let counts = matches!(event.failure_scope(), Some(FailureScope::Batch))
            || matches!(event, Event::AttemptsExhausted { .. });
        for key in keys.iter().filter(|key| counts && self.faults.fault == 0.0 && !self.refused.contains(&key.job)) {
            let cost = self.costs.entry(*key).or_default();
            *cost += 1;
            let (cost, most) = (u64::from(*cost), self.stats.outages + self.stats.kills);
            if cost > most {
                let text = format!("{key} has lost {cost} attempts in {most} outages and kills");
                return Err(Violation { invariant: Invariant::Outage, text });
            }
        }
        let recorded = Recorded { event, keys, sharing, instance: &self.config, at: self.at, now: self.now() };
        self.checker.recorded(&self.store, &recorded)
    }
}
