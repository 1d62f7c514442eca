//! Trace of a scenario, the input of the oracle: the submitted files, the runs of the daemon, its jobs at the end, and
//! the simulator's call log.

use std::collections::BTreeSet;

use marqueue::api::dto::{HistoryEntryDto, JobDto};
use marqueue::domain::JobId;
use marqueue::simulator::CallLog;

use super::files::File;

/// A finished scenario.
#[derive(Clone, Debug)]
pub struct Trace {
    pub limits: Limits,
    /// In the order in which each client submitted them.
    pub files: Vec<Submission>,
    /// From the first start of the daemon to its last.
    pub runs: Vec<DaemonRun>,
    pub jobs: Vec<FinalJob>,
    /// Submissions that broke off and are left in the database.
    pub incomplete: u64,
    pub call_log: CallLog,
}

/// The limits that the daemon is configured with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Imports in Marketo's queue.
    pub in_flight: usize,
    pub calls: usize,
    pub calls_at_once: usize,
    /// An upload whose answer was lost is never sent again without an operator, who looks whether Marketo has it.
    pub hold: bool,
    /// Files may share an import where their client did not say otherwise.
    pub pack: bool,
}

/// One submitted file, and the reply that its client received.
#[derive(Clone, Debug)]
pub struct Submission {
    pub file: File,
    pub reply: Reply,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The daemon was killed before it replied, and the client did not ask again.
    Nothing,
    Job(JobId),
    /// It has gone from the drop folder.
    Taken,
    Refused(String),
}

/// One run of the daemon, from its start to its end. None of its calls was under way any more when the next run began.
#[derive(Clone, Debug, Default)]
pub struct DaemonRun {
    /// Create calls that the simulator had seen by its end.
    pub creates: usize,
    /// Imports that the daemon listed shortly before its end, so that their ids were stored.
    pub known: BTreeSet<u64>,
    /// It was stopped with SIGTERM and ended in time, so it waited for every answer.
    pub left: bool,
}

/// A job as it is at the end, and its files.
#[derive(Clone, Debug)]
pub struct FinalJob {
    pub job: JobDto,
    pub content: Vec<u8>,
    pub failures: Option<String>,
    pub warnings: Option<String>,
    pub history: Vec<HistoryEntryDto>,
}
