//! Body of `GET /v1/jobs/{id}/history`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::TimestampSchema;
use crate::store::HistoryEntry;

/// Response of `GET /v1/jobs/{id}/history`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// Events of the job and its batches, oldest first.
    pub history: Vec<HistoryEntryDto>,
}

/// One entry of a job's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HistoryEntry")]
pub struct HistoryEntryDto {
    /// When it happened.
    #[schemars(with = "TimestampSchema")]
    pub at: Timestamp,
    /// The batch; none for an event of the job as a whole.
    pub part: Option<u32>,
    /// The event's name.
    pub event: String,
    /// The state after it, the batch's or the job's.
    pub state: String,
    /// Marketo's message, a reason or an id.
    pub message: Option<String>,
    /// The `requestId` of Marketo's response, which Adobe's support asks for.
    pub request_id: Option<String>,
}

impl From<HistoryEntry> for HistoryEntryDto {
    fn from(entry: HistoryEntry) -> HistoryEntryDto {
        let HistoryEntry { at, part, event, state, message, request_id } = entry;
        HistoryEntryDto { at, part, event, state, message, request_id }
    }
}
