//! Who looks, and who is at work? The lane of `src/schedule`, its memory, and what a kill makes of it.

use std::collections::HashMap;

use jiff::Timestamp;

use marqueue::clock::{after, from_ms};
use marqueue::domain::instance::PauseKind;
use marqueue::domain::{BatchKey, BatchState, Event, FailureScope};
use marqueue::marketo::{Decision, EarlierCallTimes, SlidingWindow};
use marqueue::scheduler::{Plan, Step, Work, next_day, plan};
use marqueue::simulator::Call;
use rand::RngExt;

use super::{Daemon, Lie, Next, Stray, World};
use crate::invariants::{Broken, Held, Promise};
use crate::worker::{Report, Stage, Task, Worker};

impl World {
    pub(super) fn start(&mut self) {
        if self.daemon.is_some() {
            return;
        }
        self.note(|| "the daemon starts".into());
        self.observe();
        let window = self.config.limits.window;
        let may_take = self.config.request_timeout;
        let earlier = match self.lie {
            Lie::ForgetsCalls => EarlierCallTimes::default(),
            _ => self.shelf.earlier_calls(window, may_take, self.uptime()),
        };
        self.shelf.instance = self.shelf.instance.without_pause(Some(PauseKind::Credentials));
        let ended = earlier.ended_ago.into_iter().map(|age| self.instant().checked_sub(age).unwrap_or(self.epoch));
        let unseen = earlier.may_last.into_iter().map(|left| self.instant() + left);
        let limits = &self.config.limits;
        let gate = SlidingWindow::new(limits.calls, window, limits.concurrent_calls, ended, unseen);
        self.daemon = Some(Daemon {
            busy: HashMap::new(),
            workers: Vec::new(),
            gate,
            watched: HashMap::new(),
            token: None,
            awake: true,
            next_look: None,
        });
    }

    pub(super) fn kill(&mut self) {
        let Some(daemon) = self.daemon.take() else { return };
        self.note(|| "the daemon is killed".into());
        self.count.kills += 1;
        self.judge.anew();
        for worker in daemon.workers {
            match worker.stage {
                Stage::Sent { .. } => {
                    if let Some(key) = worker.key.filter(|_| worker.task == Task::Upload && self.rng.random_bool(0.5)) {
                        self.strays.push(Stray { key, token: worker.token });
                        self.blind_restart = true;
                    }
                }
                Stage::Inside { admitted, .. } => {
                    if let Some(key) = worker.key.filter(|_| admitted && worker.task == Task::Upload) {
                        let _ = self.create(key);
                    }
                    self.marketo.leave(Call::Other, admitted);
                }
                _ => {}
            }
        }
        while !self.strays.is_empty() && self.rng.random_bool(0.7) {
            self.stray_arrives();
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.awake = true;
        }
    }

    pub(super) fn due(&self) -> bool {
        self.daemon.as_ref().is_some_and(|d| d.awake || d.next_look.is_some_and(|look| look <= self.now()))
    }

    /// `schedule::lane`: plans, and has the steps begun.
    pub(super) fn look(&mut self) -> Held {
        let now = self.now();
        self.observe();
        self.shorten_pause(now);
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        daemon.awake = false;
        let mut busy = daemon.busy.clone();
        let mut snapshot = self.seen(now);
        // Between the two looks, at who is at work and at the rows, workers go on.
        if !self.calm && self.rng.random_bool(0.2) {
            self.advance()?;
            match (self.lie, &self.daemon) {
                (Lie::LooksAtRowsFirst, Some(daemon)) => busy.clone_from(&daemon.busy),
                _ => snapshot = self.seen(now),
            }
        }
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        match self.lie {
            Lie::ForgetsUploads => {
                busy.retain(|_, work| *work != Work::Upload);
                snapshot.in_flight.retain(|flight| flight.state != BatchState::Uploading);
                snapshot.candidates.retain(|candidate| !daemon.busy.contains_key(&candidate.key));
            }
            Lie::ForgetsGhosts => snapshot.unconfirmed_until.clear(),
            // Ghosts of lost answers are gone within ten pauses between polls.
            Lie::ForgetsAbandoned => {
                let soon = after(now, self.config.polling.max * 10);
                snapshot.unconfirmed_until.retain(|&until| until <= soon);
            }
            Lie::ForgetsGroups => {
                snapshot.in_flight.iter_mut().for_each(|flight| flight.group = None);
                snapshot.candidates.iter_mut().for_each(|candidate| candidate.group = None);
            }
            Lie::ForgetsLists => {
                snapshot.in_flight.iter_mut().for_each(|flight| flight.list_id = None);
                snapshot.candidates.iter_mut().for_each(|candidate| candidate.list_id = None);
            }
            Lie::ForgetsPolls => snapshot.in_flight.iter_mut().for_each(|flight| {
                flight.not_before = None;
                flight.accepted_at = Some(from_ms(0));
                flight.polled_at = None;
            }),
            Lie::CallsWhilePaused => snapshot.instance.pause = None,
            _ => {}
        }
        if self.lie == Lie::TriesTheSame {
            snapshot.candidates.iter_mut().for_each(|candidate| candidate.last_upload = None);
        }
        let mut made = plan(&snapshot, &busy, &self.rules, now);
        let again = plan(&snapshot, &busy, &self.rules, now);
        if self.lie == Lie::Sleeps && made.steps.is_empty() {
            made = Plan::default();
        }
        daemon.next_look = made.next_wake;
        if self.lie == Lie::None || self.lie == Lie::Sleeps {
            let again = if self.lie == Lie::Sleeps { &made } else { &again };
            self.judge.planned(&self.shelf, [&made, again], &busy, now)?;
        }
        if matches!(self.lie, Lie::None | Lie::TriesTheSame) {
            self.judge.turns(&snapshot, &made, &busy)?;
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

    /// `Desk::snapshot`: a pause for the quota that began before the clock was set back ends with the day that it shows now.
    fn shorten_pause(&mut self, now: Timestamp) {
        let day_ends = next_day(now, self.config.limits.daily_reset);
        if self.shelf.clock_steady_at(&self.reading()).is_none()
            && let Some(pause) = &mut self.shelf.instance.pause
            && pause.kind == PauseKind::Quota
            && pause.until.is_some_and(|until| until > day_ends)
        {
            (pause.at, pause.until) = (now, Some(day_ends));
        }
    }

    /// A worker that the gate does not hold, if there is one.
    pub(super) fn runnable(&mut self) -> Option<usize> {
        let instant = self.instant();
        let daemon = self.daemon.as_mut()?;
        let open = daemon.gate.decide(instant) == Decision::Go;
        let ready: Vec<usize> =
            (0..daemon.workers.len()).filter(|&n| open || !matches!(daemon.workers[n].stage, Stage::Gate)).collect();
        (!ready.is_empty()).then(|| ready[self.rng.random_range(0..ready.len())])
    }

    /// Some workers come some way.
    pub(super) fn advance(&mut self) -> Held {
        for _ in 0..self.rng.random_range(1..12) {
            match self.runnable() {
                Some(worker) => self.advance_one(worker)?,
                None => break,
            }
        }
        Ok(())
    }

    pub(super) fn advance_one(&mut self, number: usize) -> Held {
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
                daemon.awake = true;
                self.judge.nothing_came()?;
            }
        }
        Ok(())
    }

    pub(super) fn record(&mut self, key: BatchKey, event: Event) -> Held {
        let now = self.now();
        self.note(|| format!("{key} {event:?}"));
        if let Err(illegal) = self.shelf.record(key, &event, now) {
            return Err(Broken { promise: Promise::Move, text: format!("{key}: {illegal}") });
        }
        if self.lie == Lie::BurnsAttempts && matches!(event, Event::Requeued { .. }) {
            self.shelf.burn(key);
        }
        self.wake();
        let counts = matches!(event.failure_scope(), Some(FailureScope::Batch))
            || matches!(event, Event::AttemptsExhausted { .. });
        if counts && self.weather.fault == 0.0 && !self.refused.contains(&key.job) {
            let cost = self.costs.entry(key).or_default();
            *cost += 1;
            let (cost, most) = (u64::from(*cost), self.count.outages + self.count.kills);
            if cost > most {
                let text = format!("{key} has lost {cost} attempts in {most} outages and kills");
                return Err(Broken { promise: Promise::Outage, text });
            }
        }
        self.judge.recorded(key, &event, &self.shelf.batch(key).progress, &self.config, self.at, now)
    }
}
