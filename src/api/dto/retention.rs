//! Bodies of `POST /v1/retention` and `POST /v1/jobs/{id}/erase`: what was erased, or would be.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::TimestampSchema;
use crate::domain::JobId;
use crate::retention::{EraseReport, RetentionRun};
use crate::store::RetentionCandidates;

/// Jobs whose data is to be erased, or that wait for an operator, and the size of that data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RetentionCandidates")]
pub struct RetentionCandidatesDto {
    /// How many jobs.
    pub jobs: u64,
    /// Size in bytes before compression; 0 for records.
    pub bytes: u64,
    /// The jobs that ended first, at most 100.
    pub first: Vec<JobId>,
}

impl From<RetentionCandidates> for RetentionCandidatesDto {
    fn from(candidates: RetentionCandidates) -> RetentionCandidatesDto {
        let RetentionCandidates { jobs, bytes, first } = candidates;
        RetentionCandidatesDto { jobs, bytes, first }
    }
}

/// What a run erased, or would erase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RetentionRun")]
pub struct RetentionRunDto {
    /// The daemon's time, to which the ages are relative.
    #[schemars(with = "TimestampSchema")]
    pub at: Timestamp,
    /// Whether nothing was erased, and the counts are of what is due.
    pub dry_run: bool,
    /// Jobs whose content is due (`retention.files`, `retention.failed_files`).
    pub content: RetentionCandidatesDto,
    /// Jobs whose reports are due (`retention.reports`).
    pub reports: RetentionCandidatesDto,
    /// Jobs whose records are due (`retention.jobs`).
    pub records: RetentionCandidatesDto,
    /// Whether no file of the database contains erased data any more. Where false, the WAL is truncated soon.
    pub clean: bool,
}

impl From<RetentionRun> for RetentionRunDto {
    fn from(run: RetentionRun) -> RetentionRunDto {
        let RetentionRun { at, dry_run, content, reports, records, clean } = run;
        RetentionRunDto {
            at,
            dry_run,
            content: content.into(),
            reports: reports.into(),
            records: records.into(),
            clean,
        }
    }
}

/// What was erased of one job, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "EraseReport")]
pub struct EraseReportDto {
    /// The job.
    pub job: JobId,
    /// Whether nothing was erased.
    pub dry_run: bool,
    /// The bytes of content and reports, before compression. 0: they were erased before.
    pub bytes: u64,
    /// When the content was erased.
    #[schemars(with = "Option<TimestampSchema>")]
    pub content_erased_at: Option<Timestamp>,
    /// When the reports were erased.
    #[schemars(with = "Option<TimestampSchema>")]
    pub reports_erased_at: Option<Timestamp>,
    /// Whether no file of the database contains erased data any more. Where false, the WAL is truncated soon.
    pub clean: bool,
}

impl From<EraseReport> for EraseReportDto {
    fn from(report: EraseReport) -> EraseReportDto {
        let EraseReport { job, dry_run, bytes, content_erased_at, reports_erased_at, clean } = report;
        EraseReportDto { job, dry_run, bytes, content_erased_at, reports_erased_at, clean }
    }
}
