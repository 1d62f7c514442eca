//! Changes of a batch: the parameters and results of writes that are more than an event.

use jiff::Timestamp;

use crate::domain::batch::{QueryFailureKind, QueryFailures};
use crate::domain::{BatchKey, FailureReason, ReportKind};
use crate::store::new_job::PartRange;

/// An import of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportKey {
    /// The batch.
    pub batch: BatchKey,
    /// Marketo's id of the import.
    pub marketo_batch_id: String,
}

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

/// The match of a report's rows with those that were sent, compressed.
#[derive(Clone, Debug)]
pub struct PackedRowMatch {
    pub(crate) kind: ReportKind,
    pub(crate) first_line: u64,
    pub(crate) bytes: usize,
    pub(crate) packed: Vec<u8>,
}

impl PackedRowMatch {
    /// Compresses an encoded match. `first_line` is that of the batch's first row in the submitted file, counted from
    /// 1.
    ///
    /// # Errors
    /// The error of zstd, which is a lack of memory.
    pub fn compress(kind: ReportKind, first_line: u64, encoded: &[u8]) -> std::io::Result<PackedRowMatch> {
        let mut compressor = zstd::bulk::Compressor::new(ROW_MATCH_ZSTD_LEVEL)?;
        // A wrong line is worse than none, and SQLite does not detect an overwritten page.
        compressor.include_checksum(true)?;
        Ok(PackedRowMatch { kind, first_line, bytes: encoded.len(), packed: compressor.compress(encoded)? })
    }
}

/// The numbers of a match repeat, so a higher level than that of files makes them much smaller.
const ROW_MATCH_ZSTD_LEVEL: i32 = 6;

/// Sizes in bytes of a batch's stored failure and warning files; none where there is no file.
#[derive(Clone, Debug, Default)]
pub struct ReportSizes {
    /// The failure file.
    pub failures: Option<u64>,
    /// The warning file.
    pub warnings: Option<u64>,
    /// History messages about reports of which only the beginning is stored.
    pub truncations: Vec<String>,
    /// The matches of the reports' rows, for as many as could be made.
    pub matches: Vec<PackedRowMatch>,
}
