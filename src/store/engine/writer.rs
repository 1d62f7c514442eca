//! Writer: the handle of the writer task and its queue.
//!
//! A queued write is carried out whether or not its caller still waits, so a dropped request can't leave half a change.

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use crate::store::engine::transaction::StoreTx;
use crate::store::engine::write_request::{WriteRequest, write_request};
use crate::store::engine::writer_task::WriterTask;
use crate::store::error::StoreError;

/// Capacity of the queue; a caller waits while it is full.
const MAX_QUEUED_WRITES: usize = 1024;

/// Handle of the writer task.
pub(crate) struct Writer {
    queue: Mutex<Option<mpsc::Sender<WriteRequest>>>,
    ended: CancellationToken,
}

impl Writer {
    /// Starts the task.
    pub fn start(task: WriterTask) -> Writer {
        let (queue, waiting) = mpsc::channel(MAX_QUEUED_WRITES);
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        tokio::spawn(async move {
            let _guard = guard;
            task.run(waiting).await;
        });
        Writer { queue: Mutex::new(Some(queue)), ended }
    }

    /// Queues a write and returns its result once it is on the disk.
    ///
    /// # Errors
    /// The error of the write or of the commit, or [`StoreError::Closed`].
    pub async fn write<T, F>(&self, write: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut StoreTx<'_>) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    {
        let (request, receiver) = write_request(write);
        let queue = self.queue.lock().clone();
        queue.ok_or(StoreError::Closed)?.send(request).await.map_err(|_| StoreError::Closed)?;
        receiver.await.map_err(|_| StoreError::Closed)?
    }

    /// Queues a write without waiting. After the stop the request is dropped.
    pub fn queue(&self, request: WriteRequest) {
        let Some(queue) = self.queue.lock().clone() else { return };
        // A caller that stopped waiting for a place in the queue would drop the write of others.
        if let Err(TrySendError::Full(request)) = queue.try_send(request) {
            tokio::spawn(async move { queue.send(request).await });
        }
    }

    /// Accepts no more writes and waits for the queued ones.
    pub async fn stop(&self) {
        self.queue.lock().take();
        self.ended().await;
    }

    /// Returns when the task has ended.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions, SqliteConnection};

    use super::*;
    use crate::store::engine::disk_reserve::DiskReserve;
    use crate::store::engine::disk_state::DiskState;
    use crate::store::engine::health::DatabaseHealth;
    use crate::store::events::ChangeEvent;

    fn start(conn: SqliteConnection, options: SqliteConnectOptions, path: &Path) -> Writer {
        start_on(conn, options, path, Arc::default())
    }

    fn start_on(conn: SqliteConnection, options: SqliteConnectOptions, path: &Path, disk: Arc<DiskState>) -> Writer {
        let health = Arc::new(DatabaseHealth::new(path));
        let reserve = DiskReserve::open(path, 0);
        Writer::start(WriterTask { conn: Some(conn), options, health, reserve, disk, events: Arc::default() })
    }

    async fn writer() -> Writer {
        let options = SqliteConnectOptions::new().in_memory(true);
        let mut conn = options.connect().await.unwrap();
        sqlx::query("CREATE TABLE t (x INTEGER UNIQUE)").execute(&mut conn).await.unwrap();
        start(conn, options, Path::new(":memory:"))
    }

    async fn insert(writer: &Writer, x: i64) -> Result<i64, StoreError> {
        writer
            .write(move |tx| {
                Box::pin(async move {
                    sqlx::query("INSERT INTO t VALUES (?)").bind(x).execute(&mut *tx.conn).await?;
                    Ok(sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut *tx.conn).await?)
                })
            })
            .await
    }

    #[tokio::test]
    async fn a_failed_write_does_not_undo_others_of_its_group() {
        let writer = writer().await;
        let (a, b, c) = tokio::join!(insert(&writer, 1), insert(&writer, 1), insert(&writer, 2));
        assert_eq!([a.is_ok(), b.is_ok(), c.is_ok()], [true, false, true]);
        assert_eq!(insert(&writer, 3).await.unwrap(), 3);
        // The first and the last of a group, too.
        let (a, b, c) = tokio::join!(insert(&writer, 1), insert(&writer, 4), insert(&writer, 4));
        assert_eq!([a.is_ok(), b.is_ok(), c.is_ok()], [false, true, false]);
        assert_eq!(insert(&writer, 5).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn a_full_disk_is_reported_and_writing_resumes_with_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
        let mut conn = options.connect().await.unwrap();
        sqlx::query("CREATE TABLE t (x INTEGER UNIQUE, y BLOB)").execute(&mut conn).await.unwrap();
        // A limit of this connection, with the same effect as a full disk.
        sqlx::query("PRAGMA max_page_count = 20").execute(&mut conn).await.unwrap();
        let disk = Arc::new(DiskState::default());
        let writer = start_on(conn, options, &path, disk.clone());
        let mut full_since = disk.watch();
        let large = || {
            writer.write(|tx| {
                Box::pin(async move {
                    sqlx::query("INSERT INTO t VALUES (0, zeroblob(1000000))").execute(&mut *tx.conn).await?;
                    Ok(())
                })
            })
        };
        let small = |x: i64| {
            writer.write(move |tx| {
                Box::pin(async move {
                    sqlx::query("INSERT INTO t (x) VALUES (?)").bind(x).execute(&mut *tx.conn).await?;
                    Ok(())
                })
            })
        };
        let (before, large_once, behind) = tokio::join!(small(1), large(), small(2));
        assert!(matches!(large_once, Err(StoreError::Full)), "{large_once:?}");
        // The others of its group were rolled back with it and get the same error.
        assert!(matches!(before, Err(StoreError::Full)) && matches!(behind, Err(StoreError::Full)));
        assert!(full_since.borrow_and_update().is_some());
        small(1).await.unwrap();
        assert!(full_since.has_changed().unwrap() && full_since.borrow_and_update().is_none());
        large().await.unwrap();
        assert!(!full_since.has_changed().unwrap());
    }

    #[tokio::test]
    async fn a_write_that_fails_halfway_is_undone() {
        let writer = writer().await;
        let half = writer.write(|tx| {
            Box::pin(async move {
                sqlx::query("INSERT INTO t VALUES (7)").execute(&mut *tx.conn).await?;
                tx.publish(ChangeEvent::Instance("never".into()));
                Err::<(), _>(StoreError::Refused("no".into()))
            })
        });
        let (before, half, behind) = tokio::join!(insert(&writer, 1), half, insert(&writer, 2));
        assert!(half.is_err());
        assert_eq!((before.unwrap(), behind.unwrap()), (1, 2));
    }

    #[tokio::test]
    async fn a_write_is_executed_if_its_caller_is_dropped() {
        let writer = writer().await;
        {
            let dropped = insert(&writer, 1);
            tokio::pin!(dropped);
            // The first poll queues the write; then the caller stops waiting.
            assert!(futures_util::poll!(dropped.as_mut()).is_pending());
        }
        assert_eq!(insert(&writer, 2).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn after_the_stop_a_write_is_refused() {
        let writer = writer().await;
        insert(&writer, 1).await.unwrap();
        writer.stop().await;
        assert!(matches!(insert(&writer, 2).await, Err(StoreError::Closed)));
    }
}
