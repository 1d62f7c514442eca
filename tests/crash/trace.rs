//! What happened? All that the judge is told: what was dropped in, when the daemon died, what it says at the end, and
//! what the simulator saw.

use std::collections::BTreeSet;

use marqueue::domain::JobId;
use marqueue::simulator::CallLog;
use marqueue::store::Job;

use super::files::File;

/// An episode, when all of it is over.
#[derive(Clone, Debug)]
pub struct Story {
    pub limits: Limits,
    /// In the order in which each client dropped them.
    pub files: Vec<Dropped>,
    /// From the first start of the daemon to its last.
    pub lives: Vec<Life>,
    pub jobs: Vec<Found>,
    /// Files that broke off and of which something is left in the database.
    pub halves: u64,
    pub ledger: CallLog,
}

/// What the daemon was told to keep to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Imports in Marketo's queue.
    pub in_flight: usize,
    pub calls: usize,
    pub calls_at_once: usize,
    /// An upload whose answer was lost is never sent again without a person, who looks whether Marketo has it.
    pub hold: bool,
}

/// One file, and what its client heard of it.
#[derive(Clone, Debug)]
pub struct Dropped {
    pub file: File,
    pub heard: Heard,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The daemon died over it, and the client did not ask again.
    Nothing,
    Job(JobId),
    /// It has gone from the drop folder.
    Taken,
    Refused(String),
}

/// From one start of the daemon to its death. Nothing of it was on its way any more when the next began.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// Create calls that the simulator had seen by its end.
    pub creates: usize,
    /// Imports that the daemon spoke of shortly before its end: it had written their ids down.
    pub known: BTreeSet<u64>,
    /// It was told to end and did: it waited for every answer.
    pub left: bool,
}

/// A job as it is at the end, and its files.
#[derive(Clone, Debug)]
pub struct Found {
    pub job: Job,
    pub content: Vec<u8>,
    pub failures: Option<String>,
    pub warnings: Option<String>,
}
