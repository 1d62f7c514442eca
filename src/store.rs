//! Store: the SQLite database with all jobs, their files and what is known of the instances.
//!
//! `engine` opens, writes and checks the database file; `tables` has the SQL statements of each table, as methods of a
//! transaction; `operations` are the methods of [`Store`]. One task does all writes: a write method returns when its
//! transaction is on the disk, and a caller that stops waiting undoes nothing. Reads use a small pool of read-only
//! connections.

mod backup_verification;
mod batch_changes;
mod change_log;
mod content;
mod engine;
mod error;
mod event_bus;
mod events;
mod handle;
mod inspection;
mod job_filter;
mod models;
mod new_job;
mod operations;
#[cfg(test)]
mod query_plan_tests;
mod shared_import;
mod tables;
#[cfg(test)]
pub(crate) mod test_util;
mod wakes;

pub use crate::domain::batch::{BatchProgress, QueryFailureKind, QueryFailures, UploadAttempts};
pub use crate::domain::instance::{InstanceState, Pause, PauseKind};
pub use crate::domain::row_counts::RowCounts;
pub use backup_verification::{BackupError, BackupInfo, verify_backup};
pub use batch_changes::{BatchSplit, ImportKey, PackedRowMatch, QueryFailure, RecordedQueryFailure, ReportSizes};
pub use change_log::{ChangeSubscription, SequencedChange};
pub use content::ContentReader;
pub use engine::backup::BackupFile;
pub use engine::database_paths::reserve_path;
pub use engine::lock::resolve_path;
pub use engine::maintenance::DatabaseSize;
pub use error::StoreError;
pub use events::{ChangeEvent, InstanceChange, MetricEvent, WakeEvent};
pub use handle::Store;
pub use inspection::{InspectError, InspectionReport, inspect};
pub use job_filter::{ClientScope, JobFilter, JobPage};
pub use models::{Batch, ErasableData, HistoryEntry, Job};
pub use new_job::{Inserted, JobLayout, NewJob, PartRange};
pub use operations::clock::ObservedClock;
pub use shared_import::{
    DividedFile, DividedReports, PackLimits, PackedRows, SharedImport, SharingEnd, SharingLimit, UploadBegin,
};
pub use tables::activity::{ACTIVITY_KEPT, ACTIVITY_SPAN, Activity, ActivityQuery, ActivityScope, ActivityStep};
pub use tables::alerts::{Alert, DueAlerts, PendingAlert};
pub use tables::api_tokens::StoredToken;
pub use tables::call_ledger::{CallAdmission, EarlierCalls, NewCall, QuotaDay};
pub use tables::candidates::PendingBatch;
pub use tables::chunks::{CHUNK_BYTES, CompressedChunk, FileKind, StoredFile};
pub use tables::commands::CommandOutcome;
pub use tables::ended_imports::EndedImport;
pub use tables::instances::QueueDepth;
pub use tables::notifications::{DueNotifications, PendingNotification};
pub use tables::occupied_slots::{InFlightBatch, OccupiedSlots};
pub use tables::outlook::{QueueOutlook, QueuedBatch};
pub use tables::retention::{DeletedRecords, EndedRange, RetentionCandidates};
pub use tables::row_matches::StoredRowMatch;
pub use tables::snapshot::{Snapshot, UploadCheck};
pub use tables::status_rows::{StatusQuery, StatusRows};
pub use wakes::{WakeSubscription, Wakes};
