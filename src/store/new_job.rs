//! New jobs: the parameters and the layout of a submitted file, and the result of a submission.

use jiff::Timestamp;

use crate::domain::batch_rules::BatchRules;
use crate::domain::packing::Packing;
use crate::domain::{Format, JobId, Source, Target};
use crate::store::models::Job;

/// The parameters of a new job.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The name of its instance.
    pub instance: String,
    /// Where its rows go on Marketo.
    pub target: Target,
    /// The name of the file.
    pub filename: String,
    /// How the file separates its fields.
    pub format: Format,
    /// Higher goes first.
    pub priority: i64,
    /// Jobs of one group are imported one after another, in the order of their ids.
    pub group: Option<String>,
    /// The earliest time of its uploads; none: at once.
    pub not_before: Option<Timestamp>,
    /// Whether each batch waits until the one before it is complete.
    pub in_order: bool,
    /// The rows of a first batch that goes alone; 0 for none. None: the default of the instance.
    pub canary: Option<u64>,
    /// The percentage of failed rows above which no further batch is uploaded; 100 for none. None: the default of the
    /// instance.
    pub max_failed_percent: Option<u8>,
    /// Whether it may share an import with other jobs. None: the default of the instance.
    pub pack: Option<bool>,
    /// A second submission with the same key and content returns the first job.
    pub idempotency_key: Option<String>,
    /// The job whose failed rows this one sends again.
    pub retry_of: Option<JobId>,
    /// Who submits it.
    pub source: Source,
}

impl NewJob {
    /// Returns how the job's batches depend on each other. What it leaves to its instance was set before.
    pub fn batch_rules(&self) -> BatchRules {
        BatchRules {
            in_order: self.in_order,
            canary: self.canary.filter(|&rows| rows > 0),
            max_failed_percent: self.max_failed_percent.filter(|&percent| percent < 100),
        }
    }
}

/// What was found by reading the file.
#[derive(Clone, Debug)]
pub struct JobLayout {
    /// Size of the file in bytes.
    pub bytes: u64,
    /// The header's range in bytes, with its line end and without a byte-order mark.
    pub header: (u64, u64),
    /// Rows of the file, without the header.
    pub rows: u64,
    /// The ranges of its batches, in order; at least one.
    pub parts: Vec<PartRange>,
    /// The hash of the whole content; needed with an idempotency key.
    pub sha256: Option<[u8; 32]>,
    /// How the job shares an import with others; none for a job that goes alone.
    pub packing: Option<Packing>,
    /// Findings that do not prevent the import; each becomes a history entry.
    pub warnings: Vec<String>,
}

/// The rows of one batch: the bytes `from..to` of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRange {
    /// The first byte.
    pub from: u64,
    /// The byte behind the last one.
    pub to: u64,
    /// How many rows these bytes are.
    pub rows: u64,
    /// The line on which the first row begins, counted from 1 over the whole file; none where it is not known.
    pub first_line: Option<u64>,
}

/// The result of a submission.
#[derive(Debug)]
pub enum Inserted {
    /// A new job.
    Created(Job),
    /// The job that an earlier submission with the same idempotency key and content created.
    Existing(Job),
}
