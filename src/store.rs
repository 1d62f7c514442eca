//! Where is everything kept? One SQLite file: schema, one writer, readers, and every SQL statement of the house.
//!
//! All writing goes through one task (see [`writer`]); a call here returns when its transaction is on the disk, and a
//! caller that stops waiting undoes nothing. Reading has a small pool of its own.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use tokio::sync::broadcast;

use jiff::Timestamp;

use crate::job::{BatchKey, Illegal, JobId};

mod accept;
mod backup;
mod columns;
mod content;
mod due;
mod erase;
mod examine;
mod facts;
#[cfg(test)]
mod fixture;
mod instances;
mod jobs;
mod moves;
mod notices;
mod orders;
mod progress;
mod records;
mod rows;
mod schema;
mod snapshot;
mod space;
mod standing;
mod sweep;
mod writer;

pub use accept::{Added, Layout, NewJob, Part};
pub use backup::{BadCopy, Copied, Verified, verify_copy};
pub use content::{CHUNK_BYTES, Content, Kind, Packed};
pub use due::{Due, Ended};
pub use erase::Stored;
pub use examine::{Examined, Unexamined, examine};
pub use facts::Fact;
pub use instances::{Depth, Usage};
pub use notices::Notice;
pub use orders::Settled;
pub use progress::{AskFailures, Progress};
pub use records::{Batch, HistoryEntry, Job, Rows};
pub use snapshot::{Candidate, Flight, Snapshot};
pub use space::Space;
pub use standing::{Instance, Pause, PauseKind};

/// Something was committed. It says where to look, not what is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Job(JobId),
    Batch(BatchKey),
    Instance(String),
    /// For those who count alone: [`Store::subscribe`] does not have it.
    Fact(Fact),
}

/// How many changes a slow listener may lag behind before it is told to look at everything again.
const CHANGES_KEPT: usize = 4096;

/// Readers: two cores have no use for more, and each keeps a page cache of its own.
const READERS: u32 = 4;

/// The open database. Clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    writer: writer::Writer,
    readers: SqlitePool,
    listeners: Arc<facts::Listeners>,
    /// Held while a copy is made.
    copying: tokio::sync::Mutex<()>,
    /// Held for as long as the store is open, so that two daemons never work on one file.
    _lock: File,
}

/// Why the store could not do as it was told. Nothing was changed, except where [`StoreError::Closed`] leaves it open.
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
    #[error("the disk of the database is full")]
    Full,
    #[error("there is no job {0}")]
    NoJob(JobId),
    #[error("there is no batch {0}")]
    NoBatch(BatchKey),
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// The request can't be done in the state that things are in. The text is for the person who asked.
    #[error("{0}")]
    Refused(String),
    /// It was there, and was erased as the configuration or a person said.
    #[error("the {} of job {job} {} erased at {at:.0}", what.as_str(), if *what == Stored::Content { "was" } else { "were" })]
    Erased { job: JobId, what: Stored, at: Timestamp },
    #[error("the idempotency key \"{0}\" was used for another file or target")]
    KeyReused(String),
    #[error("the database failed: {0}")]
    Sql(Arc<sqlx::Error>),
    /// The writer has ended; whether the last write is on the disk is not known.
    #[error("the database is closed")]
    Closed,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        const SQLITE_FULL: &str = "13";
        match error.as_database_error().and_then(|error| error.code()) {
            Some(code) if code == SQLITE_FULL => StoreError::Full,
            _ => StoreError::Sql(Arc::new(error)),
        }
    }
}

impl Store {
    /// Opens the database, makes or migrates it, and starts the writer task.
    ///
    /// # Errors
    /// [`StoreError::Open`], [`StoreError::InUse`] or [`StoreError::Newer`]; the file is then as it was.
    pub async fn open(path: &Path) -> Result<Store, StoreError> {
        let shown = path.display().to_string();
        let failed = |why: String| StoreError::Open { path: shown.clone(), why };
        let lock = lock(path).map_err(failed)?.ok_or_else(|| StoreError::InUse { path: shown.clone() })?;

        // Looked at before anything is opened for writing, so that a newer database stays as it is to the byte.
        if let Some(found) = schema::version_of(path).await.map_err(|error| failed(error.to_string()))?
            && found > schema::newest()
        {
            return Err(StoreError::Newer { path: shown, found, known: schema::newest() });
        }
        own_file(path).map_err(|error| failed(error.to_string()))?;
        backup::sweep_drafts(path).map_err(|error| failed(error.to_string()))?;
        let mut connection = options(path).connect().await.map_err(|error| failed(error.to_string()))?;
        schema::migrator().run(&mut connection).await.map_err(|error| failed(error.to_string()))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(0)
            .idle_timeout(Duration::from_secs(60))
            .connect_lazy_with(reading(path));
        let changes = broadcast::channel(CHANGES_KEPT).0;
        let listeners = Arc::new(facts::Listeners { changes, facts: std::sync::OnceLock::new() });
        let writer = writer::Writer::start(connection, options(path), listeners.clone());
        let store = Store {
            shared: Arc::new(Shared {
                writer,
                readers,
                listeners,
                copying: tokio::sync::Mutex::default(),
                _lock: lock,
            }),
        };
        store.sweep_receiving().await.map_err(|error| failed(error.to_string()))?;
        Ok(store)
    }

    /// Whether a transaction can begin and end: the file is there, is ours to write and is held by nobody else.
    pub async fn can_write(&self) -> Result<(), StoreError> {
        self.shared.writer.write(|_| Box::pin(std::future::ready(Ok(())))).await
    }

    /// Hears of every commit from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.shared.listeners.changes.subscribe()
    }

    /// Waits for the writes under way, then closes the file. Later writes fail with [`StoreError::Closed`].
    pub async fn close(&self) {
        self.shared.writer.stop().await;
        self.shared.readers.close().await;
    }

    /// Returns when the writer has ended, which without [`Store::close`] it does only if it panicked.
    pub async fn writer_ended(&self) {
        self.shared.writer.ended().await;
    }

    fn readers(&self) -> &SqlitePool {
        &self.shared.readers
    }
}

/// What can only be said by one who may write (the journal's mode, the page size) stands in the file already.
fn reading(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .pragma("cache_size", "-512")
        .busy_timeout(Duration::from_secs(10))
        .disable_statement_logging()
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // An accepted file survives a power cut: the commit waits for the disk.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .page_size(8192)
        .pragma("secure_delete", "ON")
        .busy_timeout(Duration::from_secs(10))
        .disable_statement_logging()
}

/// Takes the lock beside the database; none if another process has it. The operating system gives it back at the
/// process's end, however that comes.
fn lock(path: &Path) -> Result<Option<File>, String> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = own_file(Path::new(&name)).map_err(|error| error.to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error.to_string()),
    }
}

/// Opens a file, or makes one that only its owner may read: the database holds personal data, whatever the umask is.
/// SQLite gives its -wal and -shm the permissions of the database.
fn own_file(path: &Path) -> std::io::Result<File> {
    File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::Connection;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn only_its_owner_can_read_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("q.db")).await.unwrap();
        store.can_write().await.unwrap();
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.file_name());
        }
        store.close().await;
    }

    #[tokio::test]
    async fn a_second_store_on_the_same_file_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.db");
        let first = Store::open(&path).await.unwrap();
        assert!(matches!(Store::open(&path).await, Err(StoreError::InUse { .. })));
        first.close().await;
        drop(first);
        Store::open(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.db");
        let store = Store::open(&path).await.unwrap();
        store.close().await;
        drop(store);
        let mut connection = options(&path).connect().await.unwrap();
        sqlx::query("INSERT INTO _sqlx_migrations VALUES (9999, 'later', 0, 1, x'00', 0)")
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = Store::open(&path).await.err().unwrap();
        assert!(matches!(error, StoreError::Newer { found: 9999, .. }), "{error}");
        assert!(std::fs::read(&path).unwrap() == before, "the file was changed");
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_refused_in_one_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.db");
        std::fs::write(&path, "this is no database, whatever its name may say ".repeat(300)).unwrap();
        let error = Store::open(&path).await.err().unwrap().to_string();
        assert!(error.contains("can't be opened") && error.contains("q.db"), "{error}");
    }
}
