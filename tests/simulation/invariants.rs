//! What is promised?

use std::fmt;

/// A promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Of what Marketo has of ours, no more than the limit, lost answers counted until their time.
    Queue,
    /// Only moves of the table.
    Move,
    /// What Marketo took, and said so, is not sent again unless a person asks.
    Once,
    /// Each upload after a batch's first has a reason in its history.
    Reason,
    /// A group's batches one at a time, its jobs in order.
    Group,
    /// A list's batches one at a time.
    List,
    /// No more attempts than allowed, none for what was put back, and none without another batch's success since the
    /// last upload.
    Attempts,
    /// While uploads fail one after another, each try takes another batch.
    Turn,
    /// An outage costs a batch no more than one attempt.
    Outage,
    /// Where Marketo's queue is full, no more than one upload beyond what it last let us have.
    Probe,
    /// A question is not repeated sooner than the configuration says.
    Polling,
    /// An instance without credentials or quota makes no call.
    Paused,
    /// No more calls in a window, and at once, than the limits say.
    Calls,
    /// No more calls than the limit between two moments at which a clock that could be believed began a day.
    Daily,
    /// A plan is a function of what it sees.
    Pure,
    /// Where work is left there is a step, a worker, or a moment to look again.
    Awake,
    /// No steps that lead to nothing, over and over.
    Rest,
    /// A batch fails, and a job, only for a reason.
    Fair,
    /// An import is held as overdue only when it has truly been waited for so long.
    Patience,
    /// When faults have ceased, all ends, and every row of a complete job was imported.
    End,
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Broken {
    pub promise: Promise,
    pub text: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.text)
    }
}

pub type Held = Result<(), Broken>;
