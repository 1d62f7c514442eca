//! Changes of a batch: the parameters and results of writes that are more than an event.

use jiff::Timestamp;

use crate::domain::FailureReason;
use crate::domain::batch::{QueryFailureKind, QueryFailures};
use crate::store::new_job::PartRange;

/// A query about an import (its status, its reports) that failed.
#[derive(Clone, Debug)]
pub struct QueryFailure {
    /// Why the query failed.
    pub reason: FailureReason,
    /// Whether Marketo rejected the query.
    pub kind: QueryFailureKind,
    /// The query is not sent again before this.
    pub not_before: Timestamp,
    /// The `requestId` of Marketo's response.
    pub request_id: Option<String>,
}

/// The result of [`crate::store::Store::record_query_failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedQueryFailure {
    /// Failures in a row, this one included.
    pub failures: QueryFailures,
    /// Whether the history got an entry: its last one did not say the same.
    pub is_news: bool,
}

/// The split of a batch that Marketo found too large (413).
#[derive(Clone, Debug)]
pub struct BatchSplit {
    /// The rows that the batch keeps, and those of the new batch.
    pub halves: [PartRange; 2],
    /// Marketo's message.
    pub reason: String,
    /// The `requestId` of Marketo's response.
    pub request_id: Option<String>,
}

/// Sizes in bytes of a batch's stored failure and warning files; none where there is no file.
#[derive(Clone, Debug, Default)]
pub struct ReportSizes {
    /// The failure file.
    pub failures: Option<u64>,
    /// The warning file.
    pub warnings: Option<u64>,
    /// History messages about reports of which only the beginning is stored.
    pub truncations: Vec<String>,
}
