//! A job and its batches as the API shows them.
//!
//! Ids, states, formats, targets, sources and counts are the domain's own: their JSON form is part of the API's
//! contract and no column of the database.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::dto::explanation::WaitingDto;
use crate::clock::TimestampSchema;
use crate::delimited::Warning;
use crate::domain::batch_rules::BatchRules;
use crate::domain::row_counts::RowCounts;
use crate::domain::{BatchState, Format, JobId, JobState, Source, Target, marketo_id};
use crate::store::{Batch, Job};

/// Response of `POST /v1/jobs`: the job, and the warnings about its file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SubmittedJob {
    /// The job.
    #[serde(flatten)]
    pub job: JobDto,
    /// Likely mistakes in the file that do not prevent its import.
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

/// Response of `GET /v1/jobs`: one page of jobs, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct JobsPage {
    /// Jobs of the page.
    pub jobs: Vec<JobDto>,
    /// Value of `before` for the next page; none on the last page.
    pub next_before: Option<JobId>,
}

/// A job with its batches, in the form of the native API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Job")]
pub struct JobDto {
    /// Its number.
    pub id: JobId,
    /// Its state, which follows from its batches.
    pub state: JobState,
    /// Where its rows go on Marketo.
    pub target: Target,
    /// The name of its instance in the configuration.
    pub instance: String,
    /// The name of the submitted file.
    pub filename: String,
    /// How the file separates its fields.
    pub format: Format,
    /// Higher goes first.
    pub priority: i64,
    /// Jobs of one group are imported one after another.
    pub group: Option<String>,
    /// Size of the submitted file in bytes.
    pub bytes: u64,
    /// The rows of all batches.
    pub rows: RowCounts,
    /// In the order of their rows in the file.
    pub batches: Vec<BatchDto>,
    /// The job whose failed rows this one sends again.
    pub retry_of: Option<JobId>,
    /// Who submitted it; none for jobs of versions that did not store it.
    #[serde(default)]
    pub source: Option<Source>,
    /// The earliest time of its uploads; none where none was given.
    #[schemars(with = "Option<TimestampSchema>")]
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// Each batch waits until the one before it is complete.
    #[serde(default)]
    pub in_order: bool,
    /// The rows of a first batch for which the others wait; none where there is no such batch.
    #[serde(default)]
    pub canary: Option<u64>,
    /// The percentage of failed rows above which no further batch is uploaded; none where there is no such threshold.
    #[serde(default)]
    pub max_failed_percent: Option<u8>,
    /// Whether it may share an import with other jobs.
    #[serde(default)]
    pub pack: bool,
    /// When the file was accepted.
    #[schemars(with = "TimestampSchema")]
    pub created_at: Timestamp,
    /// When the first upload began.
    #[schemars(with = "Option<TimestampSchema>")]
    pub started_at: Option<Timestamp>,
    /// When the last batch ended; none before.
    #[schemars(with = "Option<TimestampSchema>")]
    pub finished_at: Option<Timestamp>,
    /// When its content was erased; none while it is stored.
    #[schemars(with = "Option<TimestampSchema>")]
    pub content_erased_at: Option<Timestamp>,
    /// When its failure and warning files were erased.
    #[schemars(with = "Option<TimestampSchema>")]
    pub reports_erased_at: Option<Timestamp>,
    /// Why it failed; none unless it has.
    pub error: Option<String>,
    /// What it waits for; none where it has ended. Events and notifications have neither this nor the estimates.
    #[serde(default)]
    pub waiting: Option<WaitingDto>,
    /// When its first upload will probably begin; none where it has begun, or nothing is known.
    #[schemars(with = "Option<TimestampSchema>")]
    #[serde(default)]
    pub estimated_start: Option<Timestamp>,
    /// When its last import will probably end; none where nothing is known.
    #[schemars(with = "Option<TimestampSchema>")]
    #[serde(default)]
    pub estimated_end: Option<Timestamp>,
}

impl JobDto {
    /// Returns whether the job failed because its attempts were used up and its content is still stored, so that an
    /// operator can retry or erase it.
    pub fn is_content_kept(&self) -> bool {
        let given_up = self.batches.iter().any(|batch| batch.given_up);
        self.state == JobState::Failed && given_up && self.content_erased_at.is_none()
    }

    /// Returns whether Marketo did not import some rows. Its count of them can be missing, so a stored failure file
    /// counts too.
    pub fn has_failed_rows(&self) -> bool {
        self.rows.failed.is_some_and(|failed| failed > 0)
            || self.batches.iter().any(|batch| batch.failures_bytes.is_some())
    }
}

impl From<Job> for JobDto {
    // Every field of the record is named, so that a new one is not forgotten here.
    fn from(job: Job) -> JobDto {
        let Job {
            id,
            state,
            target,
            instance,
            filename,
            format,
            priority,
            group,
            bytes,
            rows,
            batches,
            retry_of,
            source,
            not_before,
            batch_rules,
            packing,
            created_at,
            started_at,
            finished_at,
            content_erased_at,
            reports_erased_at,
            error,
            header: _,
        } = job;
        let BatchRules { in_order, canary, max_failed_percent } = batch_rules;
        JobDto {
            id,
            state,
            target,
            instance,
            filename,
            format,
            priority,
            group,
            bytes,
            rows,
            batches: batches.into_iter().map(BatchDto::from).collect(),
            retry_of,
            source,
            not_before,
            in_order,
            canary,
            max_failed_percent,
            pack: packing.is_some(),
            created_at,
            started_at,
            finished_at,
            content_erased_at,
            reports_erased_at,
            error,
            waiting: None,
            estimated_start: None,
            estimated_end: None,
        }
    }
}

/// One batch of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Batch")]
pub struct BatchDto {
    /// Its number in the job, from 1.
    pub part: u32,
    /// Its state; `held` also for an overdue import.
    pub state: BatchState,
    /// Marketo's id of its import.
    #[serde(with = "marketo_id", default)]
    #[schemars(with = "Option<marketo_id::Shape>")]
    pub marketo_batch_id: Option<String>,
    /// Uploads that count against `max_attempts`.
    pub attempts: u32,
    /// Marketo's last message about it, or why it waits.
    pub message: Option<String>,
    /// Its rows, and what Marketo counted.
    pub rows: RowCounts,
    /// Its rows in the job's file are the bytes `byte_from..byte_to`.
    pub byte_from: u64,
    /// See `byte_from`.
    pub byte_to: u64,
    /// The next upload, poll or download is not before this.
    #[schemars(with = "Option<TimestampSchema>")]
    pub not_before: Option<Timestamp>,
    /// When the last upload began.
    #[schemars(with = "Option<TimestampSchema>")]
    pub uploaded_at: Option<Timestamp>,
    /// When Marketo accepted the upload.
    #[schemars(with = "Option<TimestampSchema>")]
    pub accepted_at: Option<Timestamp>,
    /// When a poll first found the import in progress.
    #[schemars(with = "Option<TimestampSchema>")]
    pub importing_at: Option<Timestamp>,
    /// When the import's status was last queried.
    #[schemars(with = "Option<TimestampSchema>")]
    pub polled_at: Option<Timestamp>,
    /// When the batch ended; none before.
    #[schemars(with = "Option<TimestampSchema>")]
    pub ended_at: Option<Timestamp>,
    /// Size in bytes of the stored failure file; none where there is no such file.
    pub failures_bytes: Option<u64>,
    /// Size in bytes of the stored warning file; none where there is no such file.
    pub warnings_bytes: Option<u64>,
    /// When it became overdue: Marketo has not ended its import within `max_import_time`. It is held since then.
    #[schemars(with = "Option<TimestampSchema>")]
    #[serde(default)]
    pub overdue_at: Option<Timestamp>,
    /// Marketo gave the same id to another upload. To which of the two the import's counts and reports belong is
    /// unknown.
    #[serde(default)]
    pub id_given_twice: bool,
    /// The number of other jobs in the same import.
    #[serde(default)]
    pub shared_with: u32,
    /// It failed because its attempts were used up. Its content is kept for a retry.
    #[serde(default)]
    pub given_up: bool,
}

impl From<Batch> for BatchDto {
    // Every field of the record is named, so that a new one is not forgotten here.
    fn from(batch: Batch) -> BatchDto {
        let Batch {
            part,
            state,
            marketo_batch_id,
            attempts,
            message,
            rows,
            byte_from,
            byte_to,
            not_before,
            uploaded_at,
            accepted_at,
            importing_at,
            polled_at,
            ended_at,
            failures_bytes,
            warnings_bytes,
            overdue_at,
            id_given_twice,
            shared_with,
            import_rows: _,
            import_lead: _,
            first_line: _,
            may_be_imported: _,
            counts: _,
            query_failures: _,
            tried: _,
            attempts_exhausted,
            waited: _,
        } = batch;
        BatchDto {
            part,
            state,
            marketo_batch_id,
            attempts,
            message,
            rows,
            byte_from,
            byte_to,
            not_before,
            uploaded_at,
            accepted_at,
            importing_at,
            polled_at,
            ended_at,
            failures_bytes,
            warnings_bytes,
            overdue_at,
            id_given_twice,
            shared_with,
            given_up: attempts_exhausted,
        }
    }
}
