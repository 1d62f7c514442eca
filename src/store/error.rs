//! Errors of the store, and how SQLite's result codes map to them.

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::{BatchKey, IllegalTransitionError, JobId};
use crate::store::models::ErasableData;

/// An error of the store. Nothing was changed, except where a variant says otherwise.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The file can't be opened, created or migrated.
    #[error("the database {path} can't be opened: {why}")]
    Open {
        /// The path of the database.
        path: String,
        /// The cause.
        why: String,
    },
    /// Another process has the lock of the database.
    #[error("another marqueue is at work on the database {path}: stop it first, or set another store.path")]
    InUse {
        /// The path of the database.
        path: String,
    },
    /// The schema is newer than this program.
    #[error(
        "the database {path} was made by a newer marqueue (its schema is {found}, this program knows {known}): install that version again"
    )]
    Newer {
        /// The path of the database.
        path: String,
        /// The database's schema version.
        found: i64,
        /// This program's schema version.
        known: i64,
    },
    /// The disk is full. A new file gets this error also where only the reserve for accepted jobs is free.
    #[error(
        "the disk of the database is full, except for the reserve for accepted jobs (store.reserve_bytes): free some space, and new files are accepted again"
    )]
    Full,
    /// Reading or writing the file failed. The write may appear at the next start all the same: the disk may have
    /// stored it without confirming that.
    #[error("the disk of the database fails or can't be written ({0}): check the disk and the permissions of the file")]
    Disk(String),
    /// A page or the content of a file is damaged.
    #[error("the database is damaged ({0}): stop the daemon and restore a backup")]
    Damaged(String),
    /// A file of the database was deleted or replaced. The write may be in the file that is gone.
    #[error(
        "{path} was taken away or replaced while the daemon has it open: put the same file back, or copy its files as docs/operations.md says (Recovering a deleted database) before the daemon stops"
    )]
    Moved {
        /// The path of the file.
        path: String,
    },
    /// No job has this id.
    #[error("there is no job {0}")]
    NoJob(JobId),
    /// No batch has this key, or it has no import that could be queried.
    #[error("there is no batch {0}")]
    NoBatch(BatchKey),
    /// The state machine has no such transition.
    #[error(transparent)]
    Illegal(#[from] IllegalTransitionError),
    /// The request is not possible in the present state. The text is for the user.
    #[error("{0}")]
    Refused(String),
    /// The data was erased by the retention rules or by an operator.
    #[error("the {} of job {job} {} erased at {at:.0}", what.as_str(), if *what == ErasableData::Content { "was" } else { "were" })]
    Erased {
        /// The job.
        job: JobId,
        /// What was erased.
        what: ErasableData,
        /// When it was erased.
        at: Timestamp,
    },
    /// The idempotency key belongs to a job with other content, target, format or instance, or to a retry of another job.
    #[error("the idempotency key \"{0}\" was used for another file, target or retry")]
    KeyReused(String),
    /// Another error of SQLite or its driver.
    #[error("the database failed: {0}")]
    Sql(Arc<sqlx::Error>),
    /// The writer task has ended. Whether the last write is on the disk is unknown.
    #[error("the database is closed")]
    Closed,
}

impl StoreError {
    /// Returns whether the cause is the file or its disk, so that the same request can succeed once that is repaired.
    pub fn is_transient(&self) -> bool {
        use StoreError::{Damaged, Disk, Full, Moved, Sql};
        matches!(self, Full | Disk(_) | Damaged(_) | Moved { .. } | Sql(_))
    }
}

/// Mask of the primary result code. The codes are from <https://sqlite.org/rescode.html>.
const KIND: u32 = 0xff;
const READONLY: u32 = 8;
const IOERR: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANTOPEN: u32 = 14;
const NOTADB: u32 = 26;
/// The `-shm` file can't grow. SQLite reports it as an I/O error, and it means that the disk is full.
const IOERR_SHMSIZE: u32 = IOERR | (19 << 8);

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(error) => return StoreError::Disk(error.to_string()),
            sqlx::Error::PoolClosed => return StoreError::Closed,
            _ => {}
        }
        let Some(fault) = error.as_database_error() else { return StoreError::Sql(Arc::new(error)) };
        let code: u32 = fault.code().and_then(|code| code.parse().ok()).unwrap_or(0);
        let why = || format!("{}, SQLite's code {code}", fault.message());
        match (code, code & KIND) {
            (IOERR_SHMSIZE, _) | (_, FULL) => StoreError::Full,
            (_, READONLY | IOERR | CANTOPEN) => StoreError::Disk(why()),
            (_, CORRUPT | NOTADB) => StoreError::Damaged(why()),
            _ => StoreError::Sql(Arc::new(error)),
        }
    }
}
