//! Body of `GET /v1/stats`: what happened over time, for plots.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::TimestampSchema;

/// Response of `GET /v1/stats`. Each list has one number for each step, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stats {
    /// Start of the first step.
    #[schemars(with = "TimestampSchema")]
    pub from: Timestamp,
    /// End of the last step, which is still to come.
    #[schemars(with = "TimestampSchema")]
    pub to: Timestamp,
    /// Length of a step in seconds.
    pub step_seconds: u64,
    /// Rows by result, when the import ended.
    pub rows: RowStats,
    /// Jobs that ended.
    pub jobs: JobStats,
    /// Uploads that Marketo accepted.
    pub uploads: Vec<u64>,
    /// Calls to Marketo, those for other clients' jobs included.
    pub calls: Vec<u64>,
}

/// Rows by result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RowStats {
    /// Imported without a warning.
    pub imported: Vec<u64>,
    /// Imported with a warning.
    pub imported_with_warning: Vec<u64>,
    /// Not imported.
    pub failed: Vec<u64>,
}

/// Jobs by the state in which they ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobStats {
    /// Complete, with failed rows or without.
    pub done: Vec<u64>,
    /// Failed.
    pub failed: Vec<u64>,
    /// Cancelled.
    pub cancelled: Vec<u64>,
}
