//! Why did the store not do as it was told, and what is to be done about it?

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::{BatchKey, IllegalTransitionError, JobId};
use crate::store::models::ErasableData;

/// Why the store could not do as it was told. Nothing was changed, except where a variant says otherwise.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database {path} can't be opened: {why}")]
    Open { path: String, why: String },
    #[error("another marqueue is at work on the database {path}")]
    InUse { path: String },
    #[error(
        "the database {path} was made by a newer marqueue (its schema is {found}, this program knows {known}): install that version again"
    )]
    Newer { path: String, found: i64, known: i64 },
    /// For a new file also where what is free is only enough for the jobs that are there.
    #[error(
        "the disk of the database is full, but for what is kept for the jobs that are there (store.reserve_bytes): make room, and files are taken again"
    )]
    Full,
    /// What was being written may come to light again at the next start: the disk took it, and did not say that it has it.
    #[error("the disk of the database fails, or does not let it be written ({0}): see to the disk")]
    Disk(String),
    #[error("the database is damaged ({0}): put a backup in its place while no daemon runs")]
    Damaged(String),
    /// What was being written may be in the file that is gone.
    #[error(
        "{path} was taken away or replaced while the daemon works on it: put that very file back, or copy its files as docs/operations.md says (Recovering a deleted database) before the daemon ends"
    )]
    Moved { path: String },
    #[error("there is no job {0}")]
    NoJob(JobId),
    #[error("there is no batch {0}")]
    NoBatch(BatchKey),
    #[error(transparent)]
    Illegal(#[from] IllegalTransitionError),
    /// The request can't be done in the state that things are in. The text is for the person who asked.
    #[error("{0}")]
    Refused(String),
    /// It was there, and was erased as the configuration or a person said.
    #[error("the {} of job {job} {} erased at {at:.0}", what.as_str(), if *what == ErasableData::Content { "was" } else { "were" })]
    Erased { job: JobId, what: ErasableData, at: Timestamp },
    #[error("the idempotency key \"{0}\" was used for another file or target")]
    KeyReused(String),
    #[error("the database failed: {0}")]
    Sql(Arc<sqlx::Error>),
    /// The writer has ended; whether the last write is on the disk is not known.
    #[error("the database is closed")]
    Closed,
}

impl StoreError {
    /// Whether the fault lies in what is below the store, so that the same may be done when that is mended.
    pub fn is_transient(&self) -> bool {
        use StoreError::{Damaged, Disk, Full, Moved, Sql};
        matches!(self, Full | Disk(_) | Damaged(_) | Moved { .. } | Sql(_))
    }
}

/// SQLite's result codes, from <https://sqlite.org/rescode.html>; the lowest byte is the kind of fault.
const KIND: u32 = 0xff;
const READONLY: u32 = 8;
const IOERR: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANTOPEN: u32 = 14;
const NOTADB: u32 = 26;
/// The file of the log's index can't grow. That is told as a fault of the disk, and means that it is full.
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
