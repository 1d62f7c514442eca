//! Handle of the open database: opens and closes it, and runs reads and writes. The operations are in `operations`.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqlitePool;
use sqlx::{Sqlite, Transaction};
use tokio::sync::{Mutex, Notify, broadcast, mpsc};

use crate::clock::ClockRecord;
use crate::store::change_log::ChangeSubscription;
use crate::store::engine::connection::{reader_pool, writer_options};
use crate::store::engine::disk_reserve::DiskReserve;
use crate::store::engine::disk_state::DiskState;
use crate::store::engine::health::DatabaseHealth;
use crate::store::engine::joined_writes::JoinedWrites;
use crate::store::engine::lock::{DatabaseLock, open_error_text, resolve_path};
use crate::store::engine::transaction::StoreTx;
use crate::store::engine::writer::Writer;
use crate::store::engine::writer_task::WriterTask;
use crate::store::engine::{backup, schema};
use crate::store::error::StoreError;
use crate::store::event_bus::EventBus;
use crate::store::events::{ChangeEvent, MetricEvent};
use crate::store::new_job::Inserted;
use crate::store::tables::complete_files::CompleteFile;
use crate::store::wakes::WakeSubscription;

/// The open database. Clones share it.
#[derive(Clone)]
pub struct Store {
    pub(super) shared: Arc<Shared>,
}

/// What all clones of a [`Store`] share.
pub(super) struct Shared {
    pub(super) writer: Writer,
    /// Files that become jobs together.
    pub(super) complete_files: Arc<JoinedWrites<CompleteFile, Inserted>>,
    pub(super) readers: SqlitePool,
    events: Arc<EventBus>,
    health: Arc<DatabaseHealth>,
    pub(super) disk: Arc<DiskState>,
    /// Notified when an aborted submission was deleted. Its content may still be in the WAL.
    pub(super) submission_aborted: Notify,
    /// Locked while a backup is made.
    pub(super) backup: Mutex<()>,
    /// The row of the table `clock` as it was last written, or a later observation of the same clock. Locked while the
    /// clock is read and the shift is written, so that no task reads times that are still to be shifted.
    pub(super) clock: Mutex<Option<ClockRecord>>,
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

    /// Opens the database, creates or migrates it, and starts the writer task. `reserve` is the size in bytes of the
    /// disk reserve, which lets accepted jobs finish on a full disk; 0 for none.
    ///
    /// # Errors
    /// [`StoreError::Open`], [`StoreError::InUse`] or [`StoreError::Newer`]. The file is left unchanged then.
    pub async fn open_with_reserve(path: &Path, reserve: u64) -> Result<Store, StoreError> {
        let shown = path.display().to_string();
        let failed = |why: String| StoreError::Open { path: shown.clone(), why };
        let path = &resolve_path(path).map_err(|error| failed(open_error_text(&error)))?;
        let lock =
            DatabaseLock::take(path).map_err(failed)?.ok_or_else(|| StoreError::InUse { path: shown.clone() })?;
        let health = Arc::new(DatabaseHealth::new(path));
        health.files.record_locked(lock.identity);

        // Read before anything is opened for writing, so that no byte of a newer database changes.
        let found = schema::version_of(path).await.map_err(|error| failed(StoreError::from(error).to_string()))?;
        if let Some(found) = found
            && found > schema::newest()
        {
            return Err(StoreError::Newer { path: shown, found, known: schema::newest() });
        }
        backup::remove_stale_temp_files(path).map_err(|error| failed(error.to_string()))?;
        // Before the database, which needs some free space to be opened.
        let reserve = DiskReserve::open(path, reserve);
        let conn = schema::open_newest(path, &health).await.map_err(|error| failed(error.to_string()))?;
        let (events, disk) = (Arc::new(EventBus::default()), Arc::new(DiskState::default()));
        let writer = Writer::start(WriterTask {
            conn: Some(conn),
            options: writer_options(path),
            health: health.clone(),
            reserve,
            disk: disk.clone(),
            events: events.clone(),
        });
        let store = Store {
            shared: Arc::new(Shared {
                writer,
                complete_files: Arc::new(JoinedWrites::new(|tx, files| Box::pin(tx.add_jobs(files)))),
                readers: reader_pool(path),
                events,
                health,
                disk,
                submission_aborted: Notify::new(),
                backup: Mutex::default(),
                clock: Mutex::default(),
                _lock: lock,
            }),
        };
        store.erase_incomplete_submissions().await.map_err(|error| failed(error.to_string()))?;
        Ok(store)
    }

    /// Subscribes to the change events of every commit from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<ChangeEvent> {
        self.shared.events.subscribe()
    }

    /// Subscribes to the change events after number `known` since the store was opened; none for those from now on.
    pub fn subscribe_after(&self, known: Option<u64>) -> ChangeSubscription {
        self.shared.events.subscribe_after(known)
    }

    /// Subscribes to all metric events from now on. Returns none if there is a subscriber already.
    pub fn subscribe_metrics(&self) -> Option<mpsc::UnboundedReceiver<MetricEvent>> {
        self.shared.events.subscribe_metrics()
    }

    /// Subscribes to what may change the plans of an instance from now on: its own changes, and those of the instances
    /// `sharing` that share the limits of its Marketo subscription, except for their new jobs.
    pub fn subscribe_wakes(&self, name: &str, sharing: &[String]) -> WakeSubscription {
        self.shared.events.subscribe_wakes(name, sharing)
    }

    /// Publishes a metric event that belongs to no write.
    pub fn publish_metric(&self, event: MetricEvent) {
        self.shared.events.publish(ChangeEvent::Metric(event));
    }

    /// Waits for the queued writes, then closes the file. Later writes fail with [`StoreError::Closed`].
    pub async fn close(&self) {
        // The last connection to close copies the WAL into the database. A read-only connection can't, so the writer is
        // last.
        self.shared.readers.close().await;
        self.shared.writer.stop().await;
    }

    /// Returns when the writer task has ended. Without [`Store::close`] it ends only by a panic.
    pub async fn writer_ended(&self) {
        self.shared.writer.ended().await;
    }

    /// Runs `write` in the writer task and returns its result once it is on the disk. `name` identifies the write in
    /// traces.
    ///
    /// # Errors
    /// The error of the write or of its commit, or [`StoreError::Closed`].
    pub(super) async fn write<T, F>(&self, name: &'static str, write: F) -> Result<T, StoreError>
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

    /// Returns a read-only connection. Two reads through it may see two commits.
    pub(super) async fn reader(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        Ok(self.shared.readers.acquire().await?)
    }

    /// Returns a read-only transaction: all reads through it see one commit.
    pub(super) async fn read_transaction(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.shared.readers.begin().await?)
    }

    /// Runs a read on which the next step depends. It checks first that the file at the path is still the one that is
    /// written to, and records damage that the read finds.
    pub(super) async fn verified<T>(&self, read: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.shared.health.files.verify_unchanged()?;
        read.await.inspect_err(|error| self.shared.health.record_error(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{ConnectOptions, Connection};
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
        let mut connection = writer_options(&path).connect().await.unwrap();
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
