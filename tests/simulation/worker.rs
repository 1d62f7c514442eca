//! Workers that carry out a step: those of `src/scheduler` (call, upload, poll, fetch), a stage at a time, so that
//! anything may happen between two stages.
//!
//! What follows from an answer is decided by the real functions of `scheduler::outcome`.

use marqueue::domain::{BatchKey, Counts, FailureReason, RemoteStatus, ReportKind};
use marqueue::marketo::{ErrorAction, UploadError};
use marqueue::scheduler::Work;
use marqueue::simulator::Admission;

use super::model_store::PackedRows;

/// What a worker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Upload,
    Recover,
    Poll,
    /// Which of the two files is next.
    Collect(ReportKind),
    Resume,
}

#[derive(Clone, Debug)]
pub struct Worker {
    pub key: Option<BatchKey>,
    pub task: Task,
    pub stage: Stage,
    /// The rows of an upload that is in the history.
    pub packed: Vec<PackedRows>,
    /// A new token was tried already.
    pub renewed: bool,
    /// The token of its present call.
    pub token: String,
}

/// The stage of its present call.
#[derive(Clone, Debug)]
pub enum Stage {
    Token,
    /// Waits for the rate limiter.
    RateLimited,
    /// On its way to Marketo.
    Sent {
        call: usize,
    },
    /// Marketo is at it.
    Inside {
        call: usize,
        admission: Admission,
        outcome: ServerOutcome,
    },
    /// Its answer is still to arrive, or is lost.
    Back {
        call: usize,
        answer: Answer,
    },
}

/// What Marketo does with a call that came in.
#[derive(Clone, Debug)]
pub enum ServerOutcome {
    /// What its rules say.
    Served,
    /// It is carried out, and the client gets no answer that it can use.
    AnswerLost,
    /// This error instead.
    Refused(ErrorAction, FailureReason),
    /// The file is late: it is not there yet.
    Late,
}

#[derive(Clone, Debug)]
pub enum Answer {
    Created { id: u64, status: RemoteStatus },
    Status { status: Option<RemoteStatus>, counts: Counts, message: Option<String> },
    Report { there: bool },
    NotCreated(UploadError),
    Unanswered { ask: ErrorAction, reason: FailureReason },
}

impl Worker {
    pub fn new(key: Option<BatchKey>, task: Task) -> Worker {
        Worker { key, task, stage: Stage::Token, packed: Vec::new(), renewed: false, token: String::new() }
    }

    /// The upload is in the history.
    pub fn begun(&self) -> bool {
        !self.packed.is_empty()
    }

    pub fn work(&self) -> Work {
        match self.task {
            Task::Upload | Task::Recover => Work::Upload,
            _ => Work::Poll,
        }
    }
}
