//! Body of `GET /v1/status`, and of a pause or resume: slots, queue and limits of each instance.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::dto::explanation::WaitingDto;
use crate::api::dto::retention::RetentionCandidatesDto;
use crate::clock::TimestampSchema;
use crate::domain::JobId;
use crate::domain::instance::{Pause, PauseKind};

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
    /// Folders whose files are not taken, and why: they can't be read now, or their `job.toml` is not valid. The drop
    /// folder itself is `.`.
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
    pub pause: Option<PauseDto>,
    /// What an operator should know of the request that was answered with this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
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
    /// Unconfirmed imports: an upload's response was lost, and the import may exist. Each counts for the longest time
    /// that it could take.
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
    pub given_up: RetentionCandidatesDto,
    /// Since when the oldest pending job could begin: its acceptance, or its earliest time. Jobs whose earliest time is
    /// still to come do not count.
    #[schemars(with = "Option<TimestampSchema>")]
    pub oldest_pending_at: Option<Timestamp>,
    /// What the next pending batch waits for; none where no job is pending, and over TCP.
    #[serde(default)]
    pub waiting: Option<WaitingDto>,
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

/// A pause of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Pause")]
pub struct PauseDto {
    /// Who or what caused it.
    pub kind: PauseKind,
    /// The cause as text.
    pub reason: String,
    /// When it began.
    #[schemars(with = "TimestampSchema")]
    pub at: Timestamp,
    /// When it ends by itself; none where an operator has to end it.
    #[schemars(with = "Option<TimestampSchema>")]
    pub until: Option<Timestamp>,
}

impl From<Pause> for PauseDto {
    fn from(pause: Pause) -> PauseDto {
        let Pause { kind, reason, at, until } = pause;
        PauseDto { kind, reason, at, until }
    }
}
