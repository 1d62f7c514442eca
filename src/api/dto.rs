//! What goes over the native API besides the records of [`crate::store`]? Both sides use these types, so what the daemon
//! writes is what the command line reads.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::TimestampSchema;
use crate::domain::JobId;
use crate::domain::instance::Pause;
use crate::store::{HistoryEntry, Job};

pub use crate::delimited::Warning;
pub use crate::retention::{EraseReport, RetentionRun};
pub use crate::scheduler::explain::Explanation;
pub use crate::store::RetentionCandidates;

/// A refusal, as RFC 9457 has it: `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// What kind of refusal, for programs: `about:blank` where the status says it all, else
    /// `urn:marqueue:problem:` and a word.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    pub status: u16,
    /// What is wrong this time, in one sentence.
    pub detail: String,
}

/// `POST /v1/jobs`: the job, and what was found in its file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SubmittedJob {
    #[serde(flatten)]
    pub job: Job,
    /// What does not keep the file from being imported and is likely to go wrong.
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

/// `GET /v1/jobs`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct JobsPage {
    pub jobs: Vec<Job>,
    /// What to give as `before` for the next page; none on the last.
    pub next_before: Option<JobId>,
}

/// `GET /v1/jobs/{id}/history`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct History {
    pub history: Vec<HistoryEntry>,
}

/// `GET /readyz`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Readiness {
    pub ready: bool,
    pub store: ComponentHealth,
    /// By instance.
    pub credentials: BTreeMap<String, ComponentHealth>,
    /// Of each instance's folder in the drop folder, and of its top as `.`; empty without a drop folder. It changes nothing
    /// about `ready`: what comes by other ways is accepted.
    #[serde(default)]
    pub drop: BTreeMap<String, ComponentHealth>,
    /// Instances that upload nothing now, with the reason.
    #[serde(default)]
    pub paused: BTreeMap<String, Pause>,
}

/// Whether one thing is as it must be.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ComponentHealth {
    pub ok: bool,
    /// Of the store: `writes`, `does not write`; of credentials: `worked`, `untried`, `refused`, `unreachable`; of the drop
    /// folder: `fine`, `failed`, `stuck`.
    pub state: String,
    /// Why not.
    pub reason: Option<String>,
}

/// `GET /v1/status`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    pub version: String,
    #[schemars(with = "TimestampSchema")]
    pub started_at: Timestamp,
    pub instances: BTreeMap<String, InstanceStatus>,
    /// Where the daemon listens on TCP. None where it does not, and over TCP.
    #[serde(default)]
    pub listen: Option<String>,
    /// None where there is no drop folder, and over TCP.
    #[serde(default)]
    pub drop: Option<DropStatus>,
}

/// What someone should look at in the drop folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DropStatus {
    /// How many files lie there that are not taken because of their names.
    pub left_alone: u64,
    /// The first hundred of them.
    pub files: Vec<IgnoredFile>,
    /// Folders that can't be looked at now, and why; the top is `.`.
    pub faults: BTreeMap<String, String>,
}

/// A file that is not taken because of its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IgnoredFile {
    /// From the drop folder on.
    pub path: String,
    /// Why, and what to do.
    pub reason: String,
}

/// How one instance stands.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct InstanceStatus {
    /// None where uploads go on.
    pub pause: Option<Pause>,
    /// Marketo as a whole does not answer; it is tried again then.
    #[schemars(with = "Option<TimestampSchema>")]
    pub quiet_until: Option<Timestamp>,
    pub slots: Slots,
    pub queue: Queue,
    pub limits: Limits,
}

/// Marketo's places, as far as we take them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Slots {
    pub uploading: u32,
    pub queued: u32,
    pub importing: u32,
    /// Imports that lost answers may have left behind and that count until it is over with them.
    pub unknown: u32,
    /// The most of all these together.
    pub limit: u32,
    /// How many Marketo let us have when it last said that its queue is full; none where it did not.
    pub learnt: Option<u32>,
}

/// What waits here.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Queue {
    pub pending_jobs: u64,
    pub pending_batches: u64,
    pub running_jobs: u64,
    pub collecting: u32,
    /// Jobs with a batch of which a person has to say what to do.
    pub held: Vec<JobId>,
    /// Jobs that failed by their attempts: their content is kept until someone retries or erases them, for
    /// `retention.failed_files` at most.
    #[serde(default)]
    pub given_up: RetentionCandidates,
    #[schemars(with = "Option<TimestampSchema>")]
    pub oldest_pending_at: Option<Timestamp>,
}

/// What is left of the limits on calls.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Calls that count in the window now, and the most that may.
    pub calls_used: u32,
    pub calls: u32,
    /// Seconds.
    pub window: f64,
    pub concurrent_calls: u32,
    /// Calls since the quota's day began, and our own limit of them; 0: none of our own.
    pub calls_today: u64,
    pub daily_calls: u64,
}

/// How many jobs one `GET /v1/events?job=` can follow.
pub const MAX_FOLLOWED: usize = 1000;

/// The data of one server-sent event of `GET /v1/events`. The event's name is `job`, `instance`, or `missed` where the
/// listener was too slow and some events were dropped.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum EventData {
    /// A job or one of its batches changed; this is the job as it is now.
    Job {
        job: Box<Job>,
        /// The batch that changed, where it was one.
        part: Option<u32>,
    },
    Instance {
        name: String,
    },
    Missed {
        count: u64,
    },
}
