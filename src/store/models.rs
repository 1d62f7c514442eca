//! Records of the store: jobs, batches and history entries.

use std::time::Duration;

use jiff::Timestamp;
use strum::IntoStaticStr;

use crate::domain::batch::{QueryFailures, UploadAttempts};
use crate::domain::batch_rules::{BatchRules, FIRST_PART};
use crate::domain::packing::Packing;
use crate::domain::row_counts::RowCounts;
use crate::domain::{BatchKey, BatchState, Counts, Format, JobId, JobState, ReportKind, Source, Target};

/// A job with its batches.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
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
    pub batches: Vec<Batch>,
    /// The job whose failed rows this one sends again.
    pub retry_of: Option<JobId>,
    /// Who submitted it; none for jobs of versions that did not store it.
    pub source: Option<Source>,
    /// The earliest time of its uploads; none where none was given.
    pub not_before: Option<Timestamp>,
    /// How its batches depend on each other.
    pub batch_rules: BatchRules,
    /// How it shares an import with others; none for a job that goes alone.
    pub packing: Option<Packing>,
    /// When the file was accepted.
    pub created_at: Timestamp,
    /// When the first upload began.
    pub started_at: Option<Timestamp>,
    /// When the last batch ended; none before.
    pub finished_at: Option<Timestamp>,
    /// When its content was erased; none while it is stored.
    pub content_erased_at: Option<Timestamp>,
    /// When its failure and warning files were erased.
    pub reports_erased_at: Option<Timestamp>,
    /// Why it failed; none unless it has.
    pub error: Option<String>,
    /// The header's range in the file: bytes `from..to`.
    pub header: (u64, u64),
}

impl Job {
    /// Returns whether the job failed because its attempts were used up and its content is still stored, so that an
    /// operator can retry or erase it.
    pub fn is_content_kept(&self) -> bool {
        let exhausted = self.batches.iter().any(|batch| batch.attempts_exhausted);
        self.state == JobState::Failed && exhausted && self.content_erased_at.is_none()
    }

    /// Returns whether Marketo did not import some rows. Its count of them can be missing, so a stored failure file
    /// counts too.
    pub fn has_failed_rows(&self) -> bool {
        self.rows.failed.is_some_and(|failed| failed > 0)
            || self.batches.iter().any(|batch| batch.failures_bytes.is_some())
    }
}

/// One batch of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Its number in the job, from 1.
    pub part: u32,
    /// Its state; `held` also for an overdue import.
    pub state: BatchState,
    /// Marketo's id of its import.
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
    /// The line on which its first row begins in the file, counted from 1; none for batches of versions that did not
    /// store it.
    pub first_line: Option<u64>,
    /// The next upload, poll or download is not before this.
    pub not_before: Option<Timestamp>,
    /// When the last upload began.
    pub uploaded_at: Option<Timestamp>,
    /// When Marketo accepted the upload.
    pub accepted_at: Option<Timestamp>,
    /// When a poll first found the import in progress.
    pub importing_at: Option<Timestamp>,
    /// When the import's status was last queried.
    pub polled_at: Option<Timestamp>,
    /// When the batch ended; none before.
    pub ended_at: Option<Timestamp>,
    /// Size in bytes of the stored failure file; none where there is no such file.
    pub failures_bytes: Option<u64>,
    /// Size in bytes of the stored warning file; none where there is no such file.
    pub warnings_bytes: Option<u64>,
    /// When it became overdue: Marketo has not ended its import within `max_import_time`. It is held since then.
    pub overdue_at: Option<Timestamp>,
    /// Marketo gave the same id to another upload. To which of the two the import's counts and reports belong is
    /// unknown.
    pub id_given_twice: bool,
    /// Whether Marketo has or had an import of it, or may have an unconfirmed one.
    pub may_be_imported: bool,
    /// How many other jobs are in the import that its state is about.
    pub shared_with: u32,
    /// The rows of that import.
    pub import_rows: u64,
    /// The job whose batch stands for the shared import in the queue; none for a batch that shares none, or has ended.
    pub import_lead: Option<JobId>,
    /// Marketo's counts as received; a missing one is not zero.
    pub counts: Counts,
    /// Queries that failed since the last good answer.
    pub query_failures: QueryFailures,
    /// What is known of its last upload.
    pub tried: UploadAttempts,
    /// It failed because its attempts were used up. Its content is kept for a retry.
    pub attempts_exhausted: bool,
    /// How long the daemon has waited for its import, measured while the clock was steady.
    pub waited: Duration,
}

impl Batch {
    /// Creates a pending batch of `rows` rows, the bytes `from..to` of the file.
    pub fn new(part: u32, rows: u64, from: u64, to: u64) -> Batch {
        Batch {
            part,
            state: BatchState::Pending,
            marketo_batch_id: None,
            attempts: 0,
            message: None,
            rows: RowCounts::uncounted(rows),
            byte_from: from,
            byte_to: to,
            first_line: None,
            not_before: None,
            uploaded_at: None,
            accepted_at: None,
            importing_at: None,
            polled_at: None,
            ended_at: None,
            failures_bytes: None,
            warnings_bytes: None,
            overdue_at: None,
            id_given_twice: false,
            may_be_imported: false,
            shared_with: 0,
            import_rows: rows,
            import_lead: None,
            counts: Counts::default(),
            query_failures: QueryFailures::default(),
            tried: UploadAttempts::default(),
            attempts_exhausted: false,
            waited: Duration::ZERO,
        }
    }

    /// Returns the size in bytes of a stored report; none where there is no such file.
    pub fn report_bytes(&self, kind: ReportKind) -> Option<u64> {
        match kind {
            ReportKind::Failures => self.failures_bytes,
            ReportKind::Warnings => self.warnings_bytes,
        }
    }

    /// Returns the batch of `job` that stands for this one's import in the queue: itself, unless it shares the import.
    pub fn import_key(&self, job: JobId) -> BatchKey {
        // A job that shares an import has one batch.
        let lead = self.import_lead.map(|job| BatchKey { job, part: FIRST_PART });
        lead.unwrap_or(BatchKey { job, part: self.part })
    }

    /// Returns whether Marketo has an import of it that has not ended, as far as is known.
    pub fn is_on_marketo(&self) -> bool {
        matches!(self.state, BatchState::Queued | BatchState::Importing) || self.overdue_at.is_some()
    }
}

/// One entry of a job's history.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEntry {
    /// When it happened.
    pub at: Timestamp,
    /// The batch; none for an event of the job as a whole.
    pub part: Option<u32>,
    /// The event's name.
    pub event: String,
    /// The state after it, the batch's or the job's.
    pub state: String,
    /// Marketo's message, a reason or an id; see [`crate::domain::Event::message`].
    pub message: Option<String>,
    /// The `requestId` of Marketo's response, which Adobe's support asks for.
    pub request_id: Option<String>,
}

/// The data of a job that can be erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum ErasableData {
    /// The submitted file.
    Content,
    /// The failure and warning files of its batches.
    Reports,
}

impl ErasableData {
    /// Both kinds.
    pub const ALL: [ErasableData; 2] = [ErasableData::Content, ErasableData::Reports];

    /// Returns the name in the database and the API.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns the history event of its erasure.
    pub(crate) fn event(self) -> &'static str {
        match self {
            ErasableData::Content => "content-erased",
            ErasableData::Reports => "reports-erased",
        }
    }
}
