//! Actors: what clients, an operator, other integrations and the clock do.

use std::time::Duration;

use marqueue::clock::after;
use marqueue::domain::batch_rules::BatchRules;
use marqueue::domain::instance::PauseKind;
use marqueue::domain::{BatchState, Event, IMPORT_LIFETIME, JobId};
use marqueue::marketo::Decision;
use rand::RngExt;

use super::outage::Outage;
use super::{MAX_TRAVEL_TIME, Simulation};
use crate::invariants::CheckResult;
use crate::worker::Stage;

impl Simulation {
    pub(super) fn time_passes(&mut self) {
        let passed = match self.rng.random_range(0..10) {
            0..4 => Duration::from_millis(self.rng.random_range(1..2_000)),
            4..8 => return self.pass_to_next_wakeup(),
            // Long enough for an import to be overdue.
            8 if self.stuck > 0 => Duration::from_secs(self.rng.random_range(30..200)),
            _ => Duration::from_secs(self.rng.random_range(2..90)),
        };
        self.pass(passed);
    }

    pub(super) fn pass(&mut self, passed: Duration) {
        while passed > MAX_TRAVEL_TIME && !self.orphaned.is_empty() {
            self.orphaned_upload_arrives();
        }
        self.at += passed;
    }

    /// Advances to the time at which the daemon would wake by itself.
    pub(super) fn pass_to_next_wakeup(&mut self) {
        const MAX_SLEEP: Duration = Duration::from_secs(30);
        let (now, instant) = (self.now(), self.instant());
        let Some(daemon) = &mut self.daemon else { return self.pass(MAX_SLEEP) };
        let tick =
            daemon.next_tick.map_or(MAX_SLEEP, |tick| Duration::try_from(tick.duration_since(now)).unwrap_or_default());
        let rate_limiter = match daemon.rate_limiter.decide(instant) {
            Decision::At(at) if daemon.workers.iter().any(|w| matches!(w.stage, Stage::RateLimited)) => at - instant,
            _ => MAX_SLEEP,
        };
        let passed = tick.min(rate_limiter).min(MAX_SLEEP).max(Duration::from_millis(1));
        // The clock shows whole milliseconds.
        self.pass(Duration::from_millis(u64::try_from(passed.as_millis()).unwrap_or(1).max(1)));
    }

    pub(super) fn clock_jumps(&mut self) {
        let far = self.rng.random_range(1_000..6 * 3_600_000);
        let by = if self.rng.random_bool(0.5) { far } else { -far };
        self.skew += by;
        self.jumped_at = if by.abs() >= 60_000 { Some(self.at) } else { self.jumped_at };
        self.stats.jumps += 1;
        // The last daemon's calls look older than they are, should one start now.
        self.blind_restart |= by > 0;
        self.note(|| format!("the clock jumps by {by} ms"));
        self.checker.allow_repeats();
        self.wake();
    }

    pub(super) fn job_arrives(&mut self) {
        let shape = self.choose_shape();
        let most = if shape.is_some() { 6 } else { 4 };
        if self.store.jobs.len() >= most {
            return;
        }
        let rng = &mut self.rng;
        let group = rng.random_bool(0.3).then(|| ["g", "h"][rng.random_range(0..2)].to_owned());
        let list = rng.random_bool(0.2).then(|| rng.random_range(7..9));
        let batches = [1, 1, 2, rng.random_range(3..=6)][rng.random_range(0..4)];
        let (group, list, batches) = match &shape {
            Some(shape) => (None, shape.list, 1),
            None => (group, list, batches),
        };
        let rows: Vec<u32> = (0..batches).map(|_| rng.random_range(1..=4)).collect();
        let (priority, wrong, fails) = (rng.random_range(-1..=2), rng.random_bool(0.05), rng.random_bool(0.06));
        let rules = BatchRules {
            in_order: rng.random_bool(0.15),
            canary: rng.random_bool(0.15).then_some(1),
            max_failed_percent: rng.random_bool(0.2).then(|| rng.random_range(0..50)),
        };
        let rules = if batches > 1 { rules } else { BatchRules::default() };
        let shape = shape.map(|shape| shape.number);
        let wrong = if shape.is_some() { shape == self.wrong_shape } else { wrong };
        let ahead = rng.random_bool(0.15).then(|| Duration::from_secs(rng.random_range(0..120)));
        let id = self.store.add(priority, group.clone(), list, &rows);
        let not_before = ahead.map(|ahead| after(self.now(), ahead));
        self.store.jobs.get_mut(&id).expect("it was added").not_before = not_before;
        self.store.jobs.get_mut(&id).expect("it was added").rules = rules;
        self.stats.rules += u64::from(rules != BatchRules::default());
        if let Some(shape) = shape {
            self.set_shape(id, shape);
        }
        if wrong {
            self.wrong.push(id);
        }
        if fails {
            self.failing.push(id);
        }
        self.note(|| {
            format!(
                "job {id} add_file: {rows:?} group {group:?} list {list:?} priority {priority} shape {shape:?} wrong {wrong} \
                 fails {fails} not before {not_before:?} {rules:?}"
            )
        });
        self.wake_for_new_job();
    }

    pub(super) fn operator_acts(&mut self) -> CheckResult {
        let jobs = self.store.jobs.len();
        if self.rng.random_bool(0.5) {
            self.abandon()?;
        }
        let order = self.rng.random_range(0..7);
        match order {
            0..=2 if jobs > 0 => {
                let id = JobId(1 + self.rng.random_range(0..jobs) as i64);
                if order == 0 {
                    self.cancel(id)?;
                } else {
                    self.retry(id)?;
                }
            }
            3 => {
                let held = self.store.batches().find(|(.., batch)| batch.progress.state == BatchState::Held);
                let held = held.map(|(key, ..)| self.store.lead(key));
                if let Some((key, id)) =
                    held.and_then(|key| Some((key, self.checker.unknown(&self.store.sharing(key))?)))
                {
                    self.record(key, Event::Settled { marketo_batch_id: id.to_string() })?;
                }
            }
            4 => self.pause(PauseKind::Operator, "asked for".into(), None),
            _ => self.resume(),
        }
        Ok(())
    }

    fn cancel(&mut self, id: JobId) -> CheckResult {
        for key in self.store.ordered(id, &Event::Cancelled) {
            self.record(key, Event::Cancelled)?;
        }
        Ok(())
    }

    pub(super) fn retry(&mut self, id: JobId) -> CheckResult {
        self.store.end_stop(id);
        for key in self.store.ordered(id, &Event::Retried) {
            self.record(key, Event::Retried)?;
        }
        Ok(())
    }

    /// Gives up an import that is overdue: `store::orders`.
    fn abandon(&mut self) -> CheckResult {
        let overdue = self.store.overdue();
        let Some(&key) = overdue.first() else { return Ok(()) };
        self.observe();
        let now = self.now();
        let accepted = self.store.batch(key).progress.accepted_at.unwrap_or(now);
        let counts_until = after(accepted, IMPORT_LIFETIME).max(after(now, Duration::from_secs(24 * 3600)));
        self.stats.abandoned += 1;
        self.record(key, Event::Abandoned { counts_until })?;
        // What Marketo does not have yet is cancelled too.
        self.cancel(key.job)
    }

    pub(super) fn resume(&mut self) {
        self.note(|| "an operator resumes".into());
        self.checker.allow_repeats();
        self.store.instance = self.store.instance.without_pause(None);
        self.wake();
    }

    pub(super) fn change_faults(&mut self) {
        self.faults.outage =
            self.rng.random_bool(0.4).then(|| Outage::ALL[self.rng.random_range(0..Outage::ALL.len())]);
        if let Some(outage) = self.faults.outage {
            self.stats.outages += 1;
            self.note(|| format!("an outage: {outage:?}"));
        }
        if self.faults.fault == 0.0 {
            return;
        }
        self.faults.unreachable = self.rng.random_bool(0.2);
        self.faults.locked_out = self.rng.random_bool(0.1);
        let (unreachable, locked_out) = (self.faults.unreachable, self.faults.locked_out);
        self.note(|| format!("unreachable {unreachable}, locked out {locked_out}"));
    }
}
