//! Store: the SQLite database with all jobs, their files and what is known of the instances.
//!
//! `engine` opens, writes and checks the database file; `tables` has the SQL statements of each table. One task does all
//! writes: a write method returns when its transaction is on the disk, and a caller that stops waiting undoes nothing.
//! Reads use a small pool of read-only connections.

mod engine;
mod error;
mod events;
mod models;
#[allow(clippy::module_inception, reason = "the handle is named after the module")]
mod store;
mod tables;
#[cfg(test)]
mod test_util;

pub use crate::domain::batch::{BatchProgress, QueryFailures, UploadAttempts};
pub use crate::domain::instance::{InstanceState, Pause, PauseKind};
pub use crate::domain::row_counts::RowCounts;
pub use engine::backup::{BackupError, BackupFile, BackupInfo, verify_backup};
pub use engine::inspect::{InspectError, InspectionReport, inspect};
pub use engine::lock::resolve_path;
pub use engine::maintenance::DatabaseSize;
pub use error::StoreError;
pub use events::{ChangeEvent, MetricEvent};
pub use models::{Batch, ErasableData, HistoryEntry, Job};
pub use store::Store;
pub use tables::api_tokens::StoredToken;
pub use tables::batches::RecordedQueryFailure;
pub use tables::call_ledger::{CallAdmission, EarlierCalls, NewCall, QuotaDay};
pub use tables::chunks::{CHUNK_BYTES, CompressedChunk, ContentReader, FileKind};
pub use tables::clock::ObservedClock;
pub use tables::commands::CommandOutcome;
pub use tables::instances::QueueDepth;
pub use tables::notifications::PendingNotification;
pub use tables::retention::{EndedRange, RetentionCandidates};
pub use tables::snapshot::{InFlightBatch, OccupiedSlots, PendingBatch, Snapshot};
pub use tables::submissions::{Inserted, JobLayout, NewJob, PartRange};
