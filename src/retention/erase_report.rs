//! Results of erasures.

use jiff::Timestamp;

use crate::domain::JobId;
use crate::store::RetentionCandidates;

/// What a run erased, or would erase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionRun {
    /// The daemon's time, to which the ages are relative.
    pub at: Timestamp,
    /// Whether nothing was erased, and the counts are of what is due.
    pub dry_run: bool,
    /// Jobs whose content is due (`retention.files`, `retention.failed_files`).
    pub content: RetentionCandidates,
    /// Jobs whose reports are due (`retention.reports`).
    pub reports: RetentionCandidates,
    /// Jobs whose records are due (`retention.jobs`).
    pub records: RetentionCandidates,
    /// Whether no file of the database contains erased data any more. Where false, the WAL is truncated soon.
    pub clean: bool,
}

/// What was erased of one job, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EraseReport {
    /// The job.
    pub job: JobId,
    /// Whether nothing was erased.
    pub dry_run: bool,
    /// The bytes of content and reports, before compression. 0: they were erased before.
    pub bytes: u64,
    /// When the content was erased.
    pub content_erased_at: Option<Timestamp>,
    /// When the reports were erased.
    pub reports_erased_at: Option<Timestamp>,
    /// As [`RetentionRun::clean`].
    pub clean: bool,
}
