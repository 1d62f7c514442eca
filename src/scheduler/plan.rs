//! What is to be done now? A pure function of the rows and the time.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::after;
use crate::config;
use crate::domain::instance::PauseKind;
use crate::domain::{BatchKey, BatchState};
use crate::scheduler::plan::fair_queue::FairQueue;
use crate::scheduler::poll_interval;
use crate::store::Snapshot;

mod fair_queue;

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Upload(BatchKey),
    Poll(BatchKey),
    Collect(BatchKey),
    /// The batch is `uploading` and nobody is at it: whoever was has died, and how its upload ended is unknown.
    Recover(BatchKey),
    /// A pause is over.
    Resume,
}

impl Step {
    /// The batch that the step is about, and what a worker is then at.
    pub fn work(self) -> Option<(BatchKey, Work)> {
        match self {
            Step::Upload(key) | Step::Recover(key) => Some((key, Work::Upload)),
            Step::Poll(key) | Step::Collect(key) => Some((key, Work::Poll)),
            Step::Resume => None,
        }
    }
}

/// What a worker is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Its batch holds a slot, whatever its row says: the row may not be written yet.
    Upload,
    Poll,
}

/// The steps to take, and when to look again if nothing happens before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub next_wake: Option<Timestamp>,
}

/// The part of an instance's configuration that plans follow.
#[derive(Clone, Copy, Debug)]
pub struct SchedulingRules {
    /// The most batches in flight.
    pub max_in_flight: u32,
    pub polling: config::Polling,
    /// The longest pause after a fault.
    pub backoff_max: Duration,
}

impl SchedulingRules {
    pub fn from_instance(instance: &config::Instance) -> SchedulingRules {
        let limits = &instance.limits;
        SchedulingRules {
            max_in_flight: max_in_flight(limits.importing, limits.queued),
            polling: instance.polling,
            backoff_max: instance.backoff_max,
        }
    }

    /// No pause of a batch, or of the instance's uploads, is longer. (Those of whole days are no pauses in this sense.)
    pub fn longest_pause(&self) -> Duration {
        self.backoff_max.max(self.polling.max)
    }
}

/// Any batch that Marketo holds in its queue may start at any moment, and it starts up to two. So an `importing` below
/// that is kept only by not having more than that in flight.
fn max_in_flight(importing: u32, queued: u32) -> u32 {
    const MARKETOS_OWN: u32 = 2;
    if importing < MARKETOS_OWN { importing.min(queued) } else { queued }
}

/// What to do at `now`. `busy` are the batches that a worker is at.
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
    // A person stops uploads; without credentials or calls nothing can be asked either.
    if pause.is_none_or(|pause| pause.kind == PauseKind::Operator) {
        plan.plan_queries(snapshot, busy, rules, now);
    }
    if pause.is_none() {
        plan.plan_uploads(snapshot, busy, rules, now);
    }
    plan
}

/// Whether an upload that was planned may still leave: it may have waited long at the gate, and others have taught since
/// that Marketo's queue is full, or that Marketo is not there.
pub fn may_still_upload(snapshot: &Snapshot, rules: &SchedulingRules, now: Timestamp) -> bool {
    let nobody = HashMap::new();
    let instance = &snapshot.instance;
    instance.pause.is_none()
        && pending_until(instance.backoff_until, rules.longest_pause(), now).is_none()
        && FreeSlots::of(snapshot, &FairQueue::of(snapshot, &nobody), rules, now).free > 0
}

impl Plan {
    fn wake_at(&mut self, when: Option<Timestamp>) {
        self.next_wake = match (self.next_wake, when) {
            (Some(next), Some(when)) => Some(next.min(when)),
            (next, when) => next.or(when),
        };
    }

    /// Polls and collects that are due.
    fn plan_queries(
        &mut self,
        snapshot: &Snapshot,
        busy: &HashMap<BatchKey, Work>,
        rules: &SchedulingRules,
        now: Timestamp,
    ) {
        let polls = poll_interval::in_order(&snapshot.in_flight).map(|(flight, older)| {
            let due = poll_interval::due(flight, older, &snapshot.recent_durations, &rules.polling, now);
            (Step::Poll(flight.key), flight.key, due)
        });
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

    /// As many uploads as there are free slots, in fair order.
    fn plan_uploads(
        &mut self,
        snapshot: &Snapshot,
        busy: &HashMap<BatchKey, Work>,
        rules: &SchedulingRules,
        now: Timestamp,
    ) {
        self.wake_at(snapshot.next_due);
        if snapshot.candidates.is_empty() {
            return;
        }
        let instance = &snapshot.instance;
        if let Some(quiet_until) = pending_until(instance.backoff_until, rules.longest_pause(), now) {
            return self.wake_at(Some(quiet_until));
        }
        let mut board = FairQueue::of(snapshot, busy);
        let slots = FreeSlots::of(snapshot, &board, rules, now);
        for _ in 0..slots.free {
            let Some(next) = board.next() else { return };
            self.steps.push(Step::Upload(next.key));
            board.take(next);
        }
        // The candidates that are left wait for a slot: a batch's end wakes us, or the moment that frees one.
        self.wake_at(slots.more_at);
    }
}

/// `until`, where it is still to come. No pause is longer than `longest`: one that seems to be began before the clock was
/// set back, and is over.
fn pending_until(until: Option<Timestamp>, longest: Duration, now: Timestamp) -> Option<Timestamp> {
    until.filter(|&until| now < until && until <= after(now, longest))
}

/// How many uploads may begin, and when there may be more if nothing ends before.
struct FreeSlots {
    free: u32,
    more_at: Option<Timestamp>,
}

impl FreeSlots {
    fn of(snapshot: &Snapshot, board: &FairQueue<'_>, rules: &SchedulingRules, now: Timestamp) -> FreeSlots {
        let ghosts: Vec<Timestamp> = snapshot.unconfirmed_until.iter().copied().filter(|&until| until > now).collect();
        let held = board.in_flight + snapshot.in_flight_elsewhere + u32::try_from(ghosts.len()).unwrap_or(u32::MAX);
        let ghost_gone = ghosts.into_iter().min();
        let mut free = rules.max_in_flight.saturating_sub(held);
        // Where Marketo did not answer last, one upload shows whether it does again, and not ten.
        if snapshot.instance.service_failures > 0 {
            free = free.min(1_u32.saturating_sub(board.uploads));
        }
        // Marketo's queue was full at so many of ours: a slot that one of ours left is free, and now and then one more
        // is tried.
        let Some(learnt) = snapshot.instance.observed_slot_limit else {
            return FreeSlots { free, more_at: ghost_gone };
        };
        let probe_at = pending_until(snapshot.instance.slot_probe_at, rules.longest_pause(), now);
        let within = learnt.saturating_sub(board.in_flight);
        if within > 0 || probe_at.is_some() {
            return FreeSlots { free: free.min(within), more_at: ghost_gone.into_iter().chain(probe_at).min() };
        }
        // The one that is tried counts as soon as it is under way: until it has ended, no other is tried.
        let beyond = learnt.saturating_add(1).saturating_sub(board.in_flight);
        FreeSlots { free: free.min(beyond), more_at: ghost_gone }
    }
}

#[cfg(test)]
mod tests;
