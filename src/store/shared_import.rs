//! Shared import: the parameters and results of writes about an import whose rows several jobs have.

use jiff::Timestamp;

use crate::domain::{BatchKey, Counts, Event, ReportKind};
use crate::store::batch_changes::ReportSizes;
use crate::store::tables::chunks::{CHUNK_BYTES, CompressedChunk};

/// An upload that is about to begin.
#[derive(Clone, Copy, Debug)]
pub struct UploadBegin {
    /// The pending batch.
    pub key: BatchKey,
    /// How much may go with it in one import.
    pub limits: PackLimits,
    /// The time of day.
    pub now: Timestamp,
}

/// How much may go in one import.
#[derive(Clone, Copy, Debug)]
pub struct PackLimits {
    /// The most jobs.
    pub max_jobs: u32,
    /// The most bytes of the header and all rows.
    pub max_bytes: u64,
    /// A delay of a batch that ends later began before the clock was set back, and counts as over.
    pub latest_not_before: Timestamp,
}

/// The rows of one job in an import that it shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedRows {
    /// The job's batch.
    pub key: BatchKey,
    /// They are these bytes `from..to` of the submitted file.
    pub bytes: (u64, u64),
    /// How many bytes of the header's line end, counted from its end, are sent behind the last row.
    pub added_line_end: u8,
    /// How many rows these bytes are.
    pub rows: u64,
    /// The line on which the first row begins in the submitted file, counted from 1.
    pub first_line: Option<u64>,
}

impl PackedRows {
    /// Returns how many bytes of the upload they are.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes.1 - self.bytes.0 + u64::from(self.added_line_end)
    }
}

/// An import that several jobs share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedImport {
    /// Marketo's counts of all its rows.
    pub counts: Counts,
    /// The rows in the order in which they were sent.
    pub packed: Vec<PackedRows>,
    /// Whether `packed` has all rows that were sent.
    pub is_whole: bool,
}

/// That the rows of an import are sent again in other imports.
#[derive(Clone, Debug)]
pub struct SharingEnd {
    /// The event of each batch, after which it is pending.
    pub event: Event,
    /// How the jobs may share an import from now on.
    pub limit: SharingLimit,
    /// The `requestId` of Marketo's response.
    pub request_id: Option<String>,
}

/// How a job may share imports after one that was refused or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharingLimit {
    /// Not at all.
    Alone,
    /// Imports of at most this many bytes.
    MaxBytes(u64),
}

/// A job's part of the reports of an import that it shares.
pub struct DividedReports {
    /// The job's batch.
    pub key: BatchKey,
    /// The counts of its rows; none where they are unknown.
    pub counts: Counts,
    /// The rows whose outcome is unknown, encoded; none where there is no such row, or every row that stands in neither
    /// report is one.
    pub unknown_rows: Option<Vec<u8>>,
    /// Its failure and warning files.
    pub files: Vec<DividedFile>,
    /// The sizes of these files, and the matches of their rows.
    pub sizes: ReportSizes,
}

/// A failure or warning file of one job.
pub struct DividedFile {
    /// Which of the two.
    pub kind: ReportKind,
    /// Its content.
    pub(super) chunks: Vec<CompressedChunk>,
}

impl DividedFile {
    /// Compresses a file.
    ///
    /// # Errors
    /// The error of zstd, which is a lack of memory.
    pub fn compress(kind: ReportKind, bytes: &[u8]) -> std::io::Result<DividedFile> {
        let chunks = (0_u64..).step_by(CHUNK_BYTES).zip(bytes.chunks(CHUNK_BYTES));
        let chunks = chunks.map(|(from, bytes)| CompressedChunk::compress(from, bytes));
        Ok(DividedFile { kind, chunks: chunks.collect::<std::io::Result<_>>()? })
    }
}
