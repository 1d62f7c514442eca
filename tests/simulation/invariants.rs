//! Invariants of the scheduler, and their violations.

use std::fmt;

/// An invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Of what Marketo has of ours, no more than the limit, lost answers counted until their time.
    Queue,
    /// Only transitions of the state machine.
    LegalTransition,
    /// What Marketo accepted, and answered so, is not sent again unless an operator asks.
    NoUnexplainedResend,
    /// Each upload after a batch's first has a reason in its history.
    ReasonRecorded,
    /// A group's batches one at a time, its jobs in order.
    Group,
    /// A list's batches one at a time.
    List,
    /// No upload is planned before its job's earliest time.
    NotBefore,
    /// No more attempts than allowed, none for what was put back, and none without another batch's success since the
    /// last upload.
    Attempts,
    /// While uploads fail one after another, each try takes another batch.
    RetryOrder,
    /// An outage costs a batch no more than one attempt.
    Outage,
    /// Where Marketo's queue is full, no more than one upload beyond what it last let us have.
    Probe,
    /// A poll is not repeated sooner than the configuration allows.
    Polling,
    /// An instance without credentials or quota makes no call.
    Paused,
    /// No more calls in a window, and at once, than the limits say.
    Calls,
    /// No more calls than the limit between two points at which a clock that could be trusted began a day.
    Daily,
    /// A plan is a function of its snapshot.
    PurePlan,
    /// Where work is left there is a step, a worker, or a time of the next tick.
    NoLostWakeup,
    /// No steps that lead to nothing, over and over.
    NoBusyLoop,
    /// A batch fails, and a job, only for a reason.
    FailsWithReason,
    /// An import is held as overdue only when it has truly been waited for so long.
    OverdueTime,
    /// No upload is planned of a batch that waits for another one of its job.
    Rules,
    /// Only pending jobs of one shape without a group share an import; they have one state, count as one import, and are
    /// sent alone after one that was refused or failed.
    Sharing,
    /// When faults have ceased, every job ends, and every row of a complete job was imported.
    End,
}

/// A violated invariant.
#[derive(Clone, Debug)]
pub struct Violation {
    pub invariant: Invariant,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.text)
    }
}

pub type CheckResult = Result<(), Violation>;
