//! Plan: the next steps of one instance, as a pure function of its rows and the time.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::after;
use crate::config;
use crate::domain::instance::PauseKind;
use crate::domain::{BatchKey, BatchState};
use crate::scheduler::fair_queue::FairQueue;
use crate::scheduler::import_duration::ACTIVE_IMPORTS;
use crate::scheduler::poll_interval;
use crate::scheduler::poll_interval::PollSchedule;
use crate::scheduler::step::{Step, Work};
use crate::store::Snapshot;

/// The steps to start, and when to plan again at the latest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps that are due.
    pub steps: Vec<Step>,
    /// When a further step is due at the earliest; none where only a change can make one due.
    pub next_wake: Option<Timestamp>,
    /// Whether a job that is accepted from now on could change the plan. While no slot is free, or the instance is
    /// paused, it cannot: what ends that state makes another plan.
    pub may_start_new_job: bool,
}

/// The part of an instance's configuration that plans depend on.
#[derive(Clone, Copy, Debug)]
pub struct SchedulingRules {
    /// The maximum number of batches in flight.
    pub max_in_flight: u32,
    /// The largest upload, in bytes.
    pub upload_bytes: u64,
    /// The bounds of the poll interval.
    pub polling: config::Polling,
    /// The longest backoff after a failure.
    pub backoff_max: Duration,
}

impl SchedulingRules {
    /// Returns the rules of an instance's configuration.
    pub fn from_instance(instance: &config::Instance) -> SchedulingRules {
        let limits = &instance.limits;
        SchedulingRules {
            max_in_flight: max_in_flight(limits.importing, limits.queued),
            upload_bytes: limits.upload_bytes,
            polling: instance.polling,
            backoff_max: instance.backoff_max,
        }
    }

    /// Returns the most imports that Marketo runs at once for this instance.
    pub fn max_importing(&self) -> u32 {
        (ACTIVE_IMPORTS as u32).min(self.max_in_flight)
    }

    /// Returns the longest wait of a batch or of the instance's uploads. (Quota pauses are longer and do not count
    /// here.)
    pub fn longest_pause(&self) -> Duration {
        self.backoff_max.max(self.polling.max)
    }
}

/// Marketo starts up to two of the queued imports at any moment. An `importing` limit below two is therefore met only
/// by having no more batches than that in flight.
fn max_in_flight(importing: u32, queued: u32) -> u32 {
    const MARKETO_CONCURRENCY: u32 = 2;
    if importing < MARKETO_CONCURRENCY { importing.min(queued) } else { queued }
}

/// Returns the plan at `now`. `busy` are the batches that have a worker.
pub fn plan(snapshot: &Snapshot, busy: &HashMap<BatchKey, Work>, rules: &SchedulingRules, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let pause = snapshot.instance.pause.as_ref();
    let until = snapshot.pause_ends_at();
    let over = until.is_some_and(|until| until <= now);
    if over {
        plan.steps.push(Step::Resume);
    }
    let pause = if over { snapshot.instance.suspended_pause.as_ref() } else { pause };
    plan.wake_at(if over { None } else { until });

    for flight in &snapshot.in_flight {
        if flight.state == BatchState::Uploading && !busy.contains_key(&flight.key) {
            plan.steps.push(Step::Recover(flight.key));
        }
    }
    // An operator's pause stops uploads only. A pause for credentials or quota stops queries too.
    if pause.is_none_or(|pause| pause.kind == PauseKind::Operator) {
        plan.plan_queries(snapshot, busy, rules, now);
    }
    if pause.is_none() {
        plan.may_start_new_job = plan.plan_uploads(snapshot, busy, rules, now);
    }
    plan
}

/// Returns whether a planned upload may still be sent. While it waited at the rate limiter, other uploads may have
/// found that Marketo's queue is full or that Marketo is unreachable. Of the snapshot, only the instance and its
/// occupied slots are needed.
pub fn may_still_upload(snapshot: &Snapshot, rules: &SchedulingRules, now: Timestamp) -> bool {
    let busy = HashMap::new();
    let instance = &snapshot.instance;
    instance.pause.is_none()
        && pending_until(instance.backoff_until, rules.longest_pause(), now).is_none()
        && FreeSlots::of(snapshot, &FairQueue::of(snapshot, &busy), rules, now).free > 0
}

/// Returns how many jobs may share the next import. While uploads fail, each job is tried alone: together they would
/// fail again because of one of them, and no success of another would show that it is the cause.
pub fn max_packed_jobs(snapshot: &Snapshot) -> u32 {
    if snapshot.instance.service_failures > 0 { 1 } else { u32::MAX }
}

impl Plan {
    fn wake_at(&mut self, when: Option<Timestamp>) {
        self.next_wake = match (self.next_wake, when) {
            (Some(next), Some(when)) => Some(next.min(when)),
            (next, when) => next.or(when),
        };
    }

    /// Adds the polls and report fetches that are due.
    fn plan_queries(
        &mut self,
        snapshot: &Snapshot,
        busy: &HashMap<BatchKey, Work>,
        rules: &SchedulingRules,
        now: Timestamp,
    ) {
        let schedule = PollSchedule::of(snapshot, &rules.polling, now);
        let polls = poll_interval::in_order(&snapshot.in_flight)
            .map(|(flight, older)| (Step::Poll(flight.key), flight.key, schedule.due(flight, older)));
        let collects =
            snapshot.in_flight.iter().filter(|flight| flight.state == BatchState::Collecting).map(|flight| {
                (
                    Step::Collect(flight.key),
                    flight.key,
                    pending_until(flight.not_before, rules.longest_pause(), now).unwrap_or(now),
                )
            });
        for (step, key, due) in collects.chain(polls) {
            if busy.contains_key(&key) {
                continue;
            }
            if due <= now {
                self.steps.push(step);
            } else {
                self.wake_at(Some(due));
            }
        }
    }

    /// Adds as many uploads as there are free slots, in fair order. Returns whether a further job could be uploaded, had
    /// there been one.
    fn plan_uploads(
        &mut self,
        snapshot: &Snapshot,
        busy: &HashMap<BatchKey, Work>,
        rules: &SchedulingRules,
        now: Timestamp,
    ) -> bool {
        self.wake_at(snapshot.next_due);
        if snapshot.candidates.is_empty() {
            return true;
        }
        let instance = &snapshot.instance;
        if let Some(backoff_until) = pending_until(instance.backoff_until, rules.longest_pause(), now) {
            self.wake_at(Some(backoff_until));
            return false;
        }
        let mut queue = FairQueue::of(snapshot, busy);
        let slots = FreeSlots::of(snapshot, &queue, rules, now);
        for _ in 0..slots.free {
            let Some(next) = queue.next() else { return true };
            self.steps.push(Step::Upload(next.key));
            queue.take(next);
        }
        // The remaining candidates wait for a slot, which a batch's end or the passing of time makes free.
        self.wake_at(slots.more_at);
        false
    }
}

/// Returns `until` where it is in the future. No wait is longer than `longest`: one that appears to be began before the
/// clock was set back, and is over.
fn pending_until(until: Option<Timestamp>, longest: Duration, now: Timestamp) -> Option<Timestamp> {
    until.filter(|&until| now < until && until <= after(now, longest))
}

/// How many uploads may begin, and when more may begin without a batch's end.
struct FreeSlots {
    free: u32,
    more_at: Option<Timestamp>,
}

impl FreeSlots {
    fn of(snapshot: &Snapshot, queue: &FairQueue<'_>, rules: &SchedulingRules, now: Timestamp) -> FreeSlots {
        let unconfirmed: Vec<Timestamp> =
            snapshot.unconfirmed_until.iter().copied().filter(|&until| until > now).collect();
        let unconfirmed_count = u32::try_from(unconfirmed.len()).unwrap_or(u32::MAX);
        let occupied = queue.in_flight + snapshot.in_flight_elsewhere + unconfirmed_count;
        let first_expiry = unconfirmed.into_iter().min();
        let mut free = rules.max_in_flight.saturating_sub(occupied);
        // After a failure of the service, a single upload tests whether it works again.
        if snapshot.instance.service_failures > 0 {
            free = free.min(1_u32.saturating_sub(queue.uploads));
        }
        // Marketo's queue was full with this many imports of ours (error 1016). Slots below that number are free, and
        // from time to time one upload probes for another.
        let Some(observed_limit) = snapshot.instance.observed_slot_limit else {
            return FreeSlots { free, more_at: first_expiry };
        };
        let probe_at = pending_until(snapshot.instance.slot_probe_at, rules.longest_pause(), now);
        let within = observed_limit.saturating_sub(queue.in_flight);
        if within > 0 || probe_at.is_some() {
            return FreeSlots { free: free.min(within), more_at: first_expiry.into_iter().chain(probe_at).min() };
        }
        // A probe counts as in flight from its start, so there is only one at a time.
        let beyond = observed_limit.saturating_add(1).saturating_sub(queue.in_flight);
        FreeSlots { free: free.min(beyond), more_at: first_expiry }
    }
}

#[cfg(test)]
mod tests;
