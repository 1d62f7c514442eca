//! Body of `GET /v1/instances/{name}/queue`: what occupies an instance's slots, and the jobs behind them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::dto::explanation::WaitingDto;
use crate::clock::TimestampSchema;
use crate::domain::{JobId, Target};

/// Response of `GET /v1/instances/{name}/queue`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceQueue {
    /// The instance.
    pub instance: String,
    /// The most slots that are occupied at once.
    pub limit: u32,
    /// The most imports that Marketo runs at once.
    pub importing_limit: u32,
    /// The occupied slots: first what Marketo imports, then what waits there. The others up to `limit` are free.
    pub slots: Vec<SlotDto>,
    /// The pending jobs, in the order in which they will probably be uploaded.
    pub queue: Vec<QueuedJobDto>,
    /// Whether more jobs are pending than these.
    pub has_more: bool,
}

/// What occupies a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SlotState {
    /// Marketo runs the import.
    Importing,
    /// The import waits on Marketo.
    Queued,
    /// The upload is under way.
    Uploading,
    /// The answer to an upload was lost, and the import may exist.
    Unknown,
    /// An import of another instance of the same subscription.
    OtherInstance,
    /// An import of another integration, as Marketo's error 1016 (import queue full) shows.
    OtherIntegration,
}

/// A slot that is occupied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Slot")]
pub struct SlotDto {
    /// What occupies it.
    pub state: SlotState,
    /// What is in it; none where that is unknown or, for a client, another client's.
    pub import: Option<SlotImportDto>,
    /// When the present state began; none where that is unknown.
    #[schemars(with = "Option<TimestampSchema>")]
    pub since: Option<Timestamp>,
    /// When the import will probably end.
    #[schemars(with = "Option<TimestampSchema>")]
    pub estimated_end: Option<Timestamp>,
}

/// The import in a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SlotImport")]
pub struct SlotImportDto {
    /// The job; of an import that several jobs share, one of them.
    pub job: JobId,
    /// The batch of the job, counted from 1.
    pub part: u32,
    /// How many batches the job has.
    pub parts: u32,
    /// How many other jobs share the import.
    pub shared_with: u32,
    /// The name of the job's file.
    pub filename: String,
    /// Where its rows go.
    pub target: Target,
    /// How many rows the import has, those of other jobs included.
    pub rows: u64,
    /// Whether Marketo has not ended it in time, so that an operator decides.
    pub is_overdue: bool,
}

/// A place in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "QueuedJob")]
pub struct QueuedJobDto {
    /// The job; none where it is, for a client, another client's.
    pub job: Option<PendingJobDto>,
    /// When its next batch will probably be uploaded.
    #[schemars(with = "Option<TimestampSchema>")]
    pub estimated_start: Option<Timestamp>,
}

/// A job with a pending batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PendingJob")]
pub struct PendingJobDto {
    /// The job.
    pub id: JobId,
    /// The name of its file.
    pub filename: String,
    /// Where its rows go.
    pub target: Target,
    /// The rows of its pending batches.
    pub rows: u64,
    /// How many of its batches are pending.
    pub pending_batches: u32,
    /// Higher goes first.
    pub priority: i64,
    /// Jobs of one group are imported one after the other.
    pub group: Option<String>,
    /// What its next pending batch waits for. Other batches may be under way.
    pub waiting: Option<WaitingDto>,
    /// When its last import will probably end.
    #[schemars(with = "Option<TimestampSchema>")]
    pub estimated_end: Option<Timestamp>,
}
