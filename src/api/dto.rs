//! Types of the native API's request and response bodies, besides the records of [`crate::store`].
//!
//! Daemon and command line share them, so that what the one writes is what the other reads.

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

/// The `User-Agent` of this program's own client, so that errors name options as the command line has them.
pub const COMMAND_LINE_AGENT: &str = concat!("marqueue-cli/", env!("CARGO_PKG_VERSION"));

/// An error response: RFC 9457's `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Type of the problem, for programs: `about:blank` where the status says enough, else `urn:marqueue:problem:` and a
    /// name.
    #[serde(rename = "type")]
    pub kind: String,
    /// The type in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What is wrong with this request, in one sentence.
    pub detail: String,
}

/// Response of `POST /v1/jobs`: the job, and the warnings about its file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SubmittedJob {
    /// The job.
    #[serde(flatten)]
    pub job: Job,
    /// Likely mistakes in the file that do not prevent its import.
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

/// Response of `GET /v1/jobs`: one page of jobs, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct JobsPage {
    /// Jobs of the page.
    pub jobs: Vec<Job>,
    /// Value of `before` for the next page; none on the last page.
    pub next_before: Option<JobId>,
}

/// Response of `GET /v1/jobs/{id}/history`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// Events of the job and its batches, oldest first.
    pub history: Vec<HistoryEntry>,
}

/// Response of `GET /readyz`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Readiness {
    /// Whether the daemon accepts files and can import those of an instance at least.
    pub ready: bool,
    /// Whether the database can be written.
    pub store: ComponentHealth,
    /// Whether Marketo accepts the credentials, by instance.
    pub credentials: BTreeMap<String, ComponentHealth>,
    /// Health of each instance's folder in the drop folder, and of the drop folder itself as `.`; empty without a drop
    /// folder. It does not affect `ready`, because files are accepted by other ways.
    #[serde(default)]
    pub drop: BTreeMap<String, ComponentHealth>,
    /// Paused instances, with the reason.
    #[serde(default)]
    pub paused: BTreeMap<String, Pause>,
}

/// Health of one component.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ComponentHealth {
    /// Whether the component works.
    pub ok: bool,
    /// Of the store: `writes`, `does not write`; of credentials: `worked`, `untried`, `refused`, `unreachable`; of the drop
    /// folder: `fine`, `failed`, `stuck`.
    pub state: String,
    /// Why it does not work.
    pub reason: Option<String>,
}

/// Response of `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// When the daemon started.
    #[schemars(with = "TimestampSchema")]
    pub started_at: Timestamp,
    /// Instances by name.
    pub instances: BTreeMap<String, InstanceStatus>,
    /// Where the daemon listens on TCP. None where it does not, and over TCP.
    #[serde(default)]
    pub listen: Option<String>,
    /// None where there is no drop folder, and over TCP.
    #[serde(default)]
    pub drop: Option<DropStatus>,
}

/// Files and folders of the drop folder that need an operator's attention.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DropStatus {
    /// Number of files that are ignored because of their names.
    pub left_alone: u64,
    /// The first hundred of them.
    pub files: Vec<IgnoredFile>,
    /// Folders that can't be read now, and why; the drop folder itself is `.`.
    pub faults: BTreeMap<String, String>,
}

/// A file that is ignored because of its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IgnoredFile {
    /// Path relative to the drop folder.
    pub path: String,
    /// Why, and what to do.
    pub reason: String,
}

/// Status of one instance.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct InstanceStatus {
    /// None where the instance is not paused.
    pub pause: Option<Pause>,
    /// End of the backoff after Marketo did not answer; no call is made until then.
    #[schemars(with = "Option<TimestampSchema>")]
    pub quiet_until: Option<Timestamp>,
    /// Use of Marketo's import queue.
    pub slots: Slots,
    /// Jobs and batches of the instance.
    pub queue: Queue,
    /// Use of the limits on calls.
    pub limits: Limits,
}

/// Slots of Marketo's import queue that this daemon occupies, by the state of the batch.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Slots {
    /// Uploads under way.
    pub uploading: u32,
    /// Imports that wait on Marketo.
    pub queued: u32,
    /// Imports that Marketo runs.
    pub importing: u32,
    /// Unconfirmed imports: an upload's response was lost, and the import may exist. Each counts for the longest time that
    /// it could take.
    pub unknown: u32,
    /// The most slots that are occupied at once.
    pub limit: u32,
    /// Slots that were occupied when Marketo last answered 1016 (import queue full); none where it did not.
    pub learnt: Option<u32>,
}

/// Jobs and batches that have not ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Queue {
    /// Jobs of which no batch was uploaded.
    pub pending_jobs: u64,
    /// Batches that wait to be uploaded.
    pub pending_batches: u64,
    /// Jobs with an uploaded batch.
    pub running_jobs: u64,
    /// Batches whose failure and warning files are downloaded.
    pub collecting: u32,
    /// Jobs with a batch that needs an operator's decision.
    pub held: Vec<JobId>,
    /// Jobs that failed after all their attempts. Their content is kept until an operator retries or erases them, for
    /// `retention.failed_files` at most.
    #[serde(default)]
    pub given_up: RetentionCandidates,
    /// When the oldest pending job was accepted.
    #[schemars(with = "Option<TimestampSchema>")]
    pub oldest_pending_at: Option<Timestamp>,
}

/// Use of the limits on calls to Marketo.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Calls in the sliding window now.
    pub calls_used: u32,
    /// The most calls in the window (`limits.calls`).
    pub calls: u32,
    /// Length of the window in seconds.
    pub window: f64,
    /// The most calls at the same time.
    pub concurrent_calls: u32,
    /// Calls since the quota's day began.
    pub calls_today: u64,
    /// The most calls in a day (`limits.daily_calls`); 0: no limit.
    pub daily_calls: u64,
}

/// The most jobs that one `GET /v1/events?job=` follows.
pub const MAX_FOLLOWED: usize = 1000;

/// Data of one server-sent event of `GET /v1/events`. The event's name is `job`, `instance`, or `missed` where the
/// client read too slowly and events were dropped.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum EventData {
    /// A job or one of its batches changed.
    Job {
        /// The job as it is now.
        job: Box<Job>,
        /// The batch that changed; none where it was the job itself.
        part: Option<u32>,
    },
    /// The state of an instance changed.
    Instance {
        /// Name of the instance.
        name: String,
    },
    /// Events were dropped.
    Missed {
        /// Number of dropped events.
        count: u64,
    },
}
