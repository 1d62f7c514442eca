//! Store: the SQLite database with all jobs, their files and what is known of the instances.
//!
//! `engine` opens, writes and checks the database file; `tables` has the SQL statements of each table. One task does all
//! writes: a write method returns when its transaction is on the disk, and a caller that stops waiting undoes nothing.
//! Reads use a small pool of read-only connections.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::sync::broadcast;

mod engine;
mod error;
mod events;
mod models;
mod tables;
#[cfg(test)]
mod test_util;

use crate::clock::ClockRecord;
use crate::store::engine::disk_reserve::DiskReserve;
use crate::store::engine::health::DatabaseHealth;
use crate::store::engine::lock::DatabaseLock;
use crate::store::engine::writer::{StoreTx, Writer, WriterTask};

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

/// Change events that a slow subscriber may fall behind by. Beyond them it gets `Lagged` and has to read everything again.
const MAX_BUFFERED_CHANGES: usize = 4096;

/// Read connections. More bring nothing on a small machine, and each has a page cache of its own.
const MAX_READERS: u32 = 4;

/// The open database. Clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    writer: Writer,
    readers: SqlitePool,
    events: Arc<events::EventBus>,
    health: Arc<DatabaseHealth>,
    /// Notified when an aborted submission was deleted. Its content may still be in the WAL.
    submission_aborted: tokio::sync::Notify,
    /// Locked while a backup is made.
    backup: tokio::sync::Mutex<()>,
    /// The row of the table `clock` as it was last written, or a later observation of the same clock. Locked while the clock
    /// is read and the shift is written, so that no task reads times that are still to be shifted.
    clock: tokio::sync::Mutex<Option<ClockRecord>>,
    /// Locked for as long as the store is open, so that two daemons never use one database.
    _lock: DatabaseLock,
}

impl Store {
    /// Opens the database without a reserve for a full disk.
    ///
    /// # Errors
    /// See [`Store::open_with_reserve`].
    pub async fn open(path: &Path) -> Result<Store, StoreError> {
        Store::open_with_reserve(path, 0).await
    }

    /// Opens the database, creates or migrates it, and starts the writer task. `reserve` is the size in bytes of the disk
    /// reserve, which lets accepted jobs finish on a full disk; 0 for none.
    ///
    /// # Errors
    /// [`StoreError::Open`], [`StoreError::InUse`] or [`StoreError::Newer`]. The file is left unchanged then.
    pub async fn open_with_reserve(path: &Path, reserve: u64) -> Result<Store, StoreError> {
        let shown = path.display().to_string();
        let failed = |why: String| StoreError::Open { path: shown.clone(), why };
        let path = &resolve_path(path).map_err(|error| failed(engine::lock::open_error_text(&error)))?;
        let lock =
            DatabaseLock::take(path).map_err(failed)?.ok_or_else(|| StoreError::InUse { path: shown.clone() })?;
        let health = Arc::new(DatabaseHealth::new(path));
        health.files.record_locked(lock.identity);

        // Read before anything is opened for writing, so that no byte of a newer database changes.
        let found =
            engine::schema::version_of(path).await.map_err(|error| failed(StoreError::from(error).to_string()))?;
        if let Some(found) = found
            && found > engine::schema::newest()
        {
            return Err(StoreError::Newer { path: shown, found, known: engine::schema::newest() });
        }
        engine::backup::remove_stale_temp_files(path).map_err(|error| failed(error.to_string()))?;
        // Before the database, which needs some free space to be opened.
        let reserve = DiskReserve::open(path, reserve);
        let conn = connect(path, &health).await.map_err(|error| failed(error.to_string()))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(MAX_READERS)
            .min_connections(0)
            .idle_timeout(Duration::from_secs(60))
            .connect_lazy_with(reading(path));
        let changes = broadcast::channel(MAX_BUFFERED_CHANGES).0;
        let events = Arc::new(events::EventBus { changes, metrics: std::sync::OnceLock::new() });
        let writer = Writer::start(WriterTask {
            conn: Some(conn),
            options: options(path),
            health: health.clone(),
            reserve,
            events: events.clone(),
        });
        let store = Store {
            shared: Arc::new(Shared {
                writer,
                readers,
                events,
                health,
                submission_aborted: tokio::sync::Notify::new(),
                backup: tokio::sync::Mutex::default(),
                clock: tokio::sync::Mutex::default(),
                _lock: lock,
            }),
        };
        store.erase_incomplete_submissions().await.map_err(|error| failed(error.to_string()))?;
        Ok(store)
    }

    /// Checks that a new file could be accepted now: the database is unchanged and undamaged, its disk has space, and a
    /// write reaches it. For that it writes the unused `user_version` field of the database header.
    ///
    /// # Errors
    /// What keeps a file from being accepted.
    pub async fn can_write(&self) -> Result<(), StoreError> {
        self.write("can_write", |tx| {
            Box::pin(async move {
                tx.budget.reserve_for_file(CHUNK_BYTES as u64)?;
                sqlx::query("PRAGMA user_version = 1").execute(&mut *tx.conn).await?;
                Ok(())
            })
        })
        .await
    }

    /// Checks that there is space for a report of Marketo, before it is downloaded.
    ///
    /// # Errors
    /// [`StoreError::Full`], or another error of writing the database.
    pub async fn has_room_for_report(&self) -> Result<(), StoreError> {
        self.write("has_room_for_report", |tx| {
            Box::pin(std::future::ready(tx.budget.reserve_for_report(CHUNK_BYTES as u64)))
        })
        .await
    }

    /// Subscribes to the change events of every commit from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<ChangeEvent> {
        self.shared.events.changes.subscribe()
    }

    /// Waits for the queued writes, then closes the file. Later writes fail with [`StoreError::Closed`].
    pub async fn close(&self) {
        // The last connection to close copies the WAL into the database. A read-only connection can't, so the writer is last.
        self.shared.readers.close().await;
        self.shared.writer.stop().await;
    }

    /// Returns when the writer task has ended. Without [`Store::close`] it ends only by a panic.
    pub async fn writer_ended(&self) {
        self.shared.writer.ended().await;
    }

    /// Runs `write` in the writer task and returns its result once it is on the disk. `name` identifies the write in traces.
    ///
    /// # Errors
    /// The error of the write or of its commit, or [`StoreError::Closed`].
    async fn write<T, F>(&self, name: &'static str, write: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut StoreTx<'_>) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    {
        let queued = Instant::now();
        let result = self.shared.writer.write(write).await;
        match &result {
            Ok(_) => tracing::trace!(write = name, took = ?queued.elapsed(), "write committed"),
            Err(error) => tracing::debug!(write = name, took = ?queued.elapsed(), %error, "write failed"),
        }
        result
    }

    /// Returns the pool of read-only connections.
    fn readers(&self) -> &SqlitePool {
        &self.shared.readers
    }

    /// Runs a read on which the next step depends. It checks first that the file at the path is still the one that is
    /// written to, and records damage that the read finds.
    async fn read<T>(&self, read: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.shared.health.files.verify_unchanged()?;
        read.await.inspect_err(|error| self.shared.health.record_error(error))
    }
}

/// Opens the writing connection and brings the database to the newest schema.
async fn connect(path: &Path, health: &DatabaseHealth) -> Result<SqliteConnection, StoreError> {
    let mut conn = options(path).create_if_missing(true).connect().await?;
    engine::schema::migrator().run(&mut conn).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => StoreError::Refused(other.to_string()),
    })?;
    health.files.record_opened()?;
    Ok(conn)
}

/// Options of a read-only connection. Journal mode and page size are not among them: only a writer can set them, and
/// they are stored in the file.
fn reading(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .pragma("cache_size", "-512")
        .busy_timeout(Duration::from_secs(10))
        .disable_statement_logging()
}

/// Options of the writing connection.
fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        // On a reconnect a missing file means that the database was moved. A new one must not take its place.
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        // An accepted file survives a power cut: the commit waits for the disk.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .page_size(8192)
        .pragma("secure_delete", "ON")
        // A WAL that has grown under load is truncated after its checkpoint.
        .pragma("journal_size_limit", "16777216")
        .busy_timeout(Duration::from_secs(10))
        .disable_statement_logging()
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
    async fn a_second_store_on_a_file_is_refused_while_one_is_open() {
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
