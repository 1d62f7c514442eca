//! What does a job look like? The records that clients see.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::TimestampSchema;
use crate::domain::batch::{QueryFailures, UploadAttempts};
use crate::domain::row_counts::RowCounts;
use crate::domain::{BatchState, Counts, Format, JobId, JobState, Source, Target, marketo_id};

/// One job, in the form of the native API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    pub id: JobId,
    pub state: JobState,
    pub target: Target,
    pub instance: String,
    pub filename: String,
    pub format: Format,
    pub priority: i64,
    pub group: Option<String>,
    /// Bytes of the file as it was dropped in.
    pub bytes: u64,
    pub rows: RowCounts,
    pub batches: Vec<Batch>,
    /// The job whose failed rows this one sends again.
    pub retry_of: Option<JobId>,
    /// Who dropped it in; none for jobs from before this was kept.
    #[serde(default)]
    pub source: Option<Source>,
    #[schemars(with = "TimestampSchema")]
    pub created_at: Timestamp,
    /// When the first upload began.
    #[schemars(with = "Option<TimestampSchema>")]
    pub started_at: Option<Timestamp>,
    #[schemars(with = "Option<TimestampSchema>")]
    pub finished_at: Option<Timestamp>,
    /// When its content was erased; none while it is stored.
    #[schemars(with = "Option<TimestampSchema>")]
    pub content_erased_at: Option<Timestamp>,
    /// When its failure and warning files were erased.
    #[schemars(with = "Option<TimestampSchema>")]
    pub reports_erased_at: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<String>,
    /// Where the header stands in the file: `from..to` in bytes.
    #[serde(skip)]
    pub header: (u64, u64),
}

impl Job {
    /// It failed by its attempts, and its content is kept for someone to send it again or to erase it.
    pub fn is_content_kept(&self) -> bool {
        let given_up = self.batches.iter().any(|batch| batch.given_up);
        self.state == JobState::Failed && given_up && self.content_erased_at.is_none()
    }

    /// Rows did not arrive although the job is complete. Marketo's count of them can be missing; their file tells too.
    pub fn has_failed_rows(&self) -> bool {
        self.rows.failed.is_some_and(|failed| failed > 0)
            || self.batches.iter().any(|batch| batch.failures_bytes.is_some())
    }
}

/// One batch of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Batch {
    pub part: u32,
    pub state: BatchState,
    #[serde(with = "marketo_id", default)]
    #[schemars(with = "Option<marketo_id::Shape>")]
    pub marketo_batch_id: Option<String>,
    /// Uploads begun that count against `max_attempts`.
    pub attempts: u32,
    /// Marketo's last words about it, or why it waits.
    pub message: Option<String>,
    pub rows: RowCounts,
    /// Its rows in the job's file: bytes `byte_from..byte_to`.
    pub byte_from: u64,
    pub byte_to: u64,
    #[schemars(with = "Option<TimestampSchema>")]
    pub not_before: Option<Timestamp>,
    #[schemars(with = "Option<TimestampSchema>")]
    pub uploaded_at: Option<Timestamp>,
    #[schemars(with = "Option<TimestampSchema>")]
    pub accepted_at: Option<Timestamp>,
    #[schemars(with = "Option<TimestampSchema>")]
    pub importing_at: Option<Timestamp>,
    #[schemars(with = "Option<TimestampSchema>")]
    pub polled_at: Option<Timestamp>,
    #[schemars(with = "Option<TimestampSchema>")]
    pub ended_at: Option<Timestamp>,
    /// Bytes of the stored failure file; none where there is no such file.
    pub failures_bytes: Option<u64>,
    pub warnings_bytes: Option<u64>,
    /// Since when it is held because Marketo has not ended its import within `max_import_time`.
    #[schemars(with = "Option<TimestampSchema>")]
    #[serde(default)]
    pub overdue_at: Option<Timestamp>,
    /// Marketo gave its id for another upload too: whose the import's counts and files are is unknown.
    #[serde(default)]
    pub id_given_twice: bool,
    /// Marketo's counts as they came, where a missing one is not zero.
    #[serde(skip)]
    pub counts: Counts,
    #[serde(skip)]
    pub query_failures: QueryFailures,
    #[serde(skip)]
    pub tried: UploadAttempts,
    /// It failed by its attempts, and its content is kept for someone to send it again.
    #[serde(default)]
    pub given_up: bool,
    /// How long its import has been waited for, as far as the clock could be believed.
    #[serde(skip)]
    pub waited: Duration,
}

impl Batch {
    /// A batch of so many rows, bytes `from..to` of the file, to which nothing has happened yet.
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
            counts: Counts::default(),
            query_failures: QueryFailures::default(),
            tried: UploadAttempts::default(),
            given_up: false,
            waited: Duration::ZERO,
        }
    }

    /// Marketo has an import of it that has not ended, as far as is known.
    pub fn is_on_marketo(&self) -> bool {
        matches!(self.state, BatchState::Queued | BatchState::Importing) || self.overdue_at.is_some()
    }
}

/// One line of a job's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    #[schemars(with = "TimestampSchema")]
    pub at: Timestamp,
    /// None for what happened to the job as a whole.
    pub part: Option<u32>,
    pub event: String,
    /// The state that followed, the batch's or the job's.
    pub state: String,
    pub message: Option<String>,
    /// Marketo's id of the answer; Adobe's support asks for it.
    pub request_id: Option<String>,
}

/// What of a job is erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErasableData {
    /// The file as it was dropped in.
    Content,
    /// The failure and warning files of its batches.
    Reports,
}

impl ErasableData {
    pub const ALL: [ErasableData; 2] = [ErasableData::Content, ErasableData::Reports];

    pub fn as_str(self) -> &'static str {
        match self {
            ErasableData::Content => "content",
            ErasableData::Reports => "reports",
        }
    }

    /// The name of its erasure in the history.
    pub(crate) fn event(self) -> &'static str {
        match self {
            ErasableData::Content => "content-erased",
            ErasableData::Reports => "reports-erased",
        }
    }
}
