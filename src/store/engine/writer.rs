//! Writer task: owns the one writing connection and commits queued writes in groups.
//!
//! Writes that are queued at the same time share one transaction, and so one sync of the disk. Each has a savepoint, so a
//! failed one does not undo the others. A queued write is carried out whether or not its caller still waits, so a dropped
//! request can't leave half a change.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection, Transaction};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::log_throttle::LogThrottle;
use crate::store::engine::disk_reserve::{DiskBudget, DiskReserve};
use crate::store::engine::health::DatabaseHealth;
use crate::store::error::StoreError;
use crate::store::events::{ChangeEvent, EventBus, MetricEvent};

/// Capacity of the queue; a caller waits while it is full.
const MAX_QUEUED_WRITES: usize = 1024;

/// The most writes in one transaction. With more, the first one would wait too long.
const MAX_GROUP_SIZE: usize = 256;

/// How often the free space is measured while the reserve is incomplete and nothing is written.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Copies the WAL into the database, so that its space is used again. Otherwise it would grow to eight megabytes before its
/// checkpoint, and there may be no space for that.
const CHECKPOINT: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// Returns some unused pages of the database to the file system.
const SHRINK: &str = "PRAGMA incremental_vacuum(256); PRAGMA wal_checkpoint(PASSIVE)";

/// The transaction of one write: its connection, the change events to publish after the commit, and the bytes that it may
/// write.
pub(crate) struct StoreTx<'c> {
    /// The writing connection, within a savepoint.
    pub conn: &'c mut SqliteConnection,
    /// Events that are published after the commit.
    pub changes: &'c mut Vec<ChangeEvent>,
    /// Bytes of content that may be written.
    pub budget: &'c mut DiskBudget,
}

/// Sends the result to the caller after the transaction has ended.
type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// The result of a write, and its reply to be sent after the commit.
type WriteResult = (Result<(), StoreError>, Reply);

/// One queued write. It runs in the transaction, or gets the error that prevents one.
type WriteRequest =
    Box<dyn for<'c> FnOnce(Result<&'c mut StoreTx<'_>, StoreError>) -> BoxFuture<'c, WriteResult> + Send>;

/// Handle of the writer task.
pub(crate) struct Writer {
    queue: Mutex<Option<mpsc::Sender<WriteRequest>>>,
    ended: CancellationToken,
}

/// The state of the writer task.
pub(crate) struct WriterTask {
    /// None after an error; it is opened again with `options`.
    pub conn: Option<SqliteConnection>,
    /// Options of the connection.
    pub options: SqliteConnectOptions,
    /// The health of the database.
    pub health: Arc<DatabaseHealth>,
    /// The disk reserve.
    pub reserve: DiskReserve,
    /// The subscribers to commits.
    pub events: Arc<EventBus>,
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
        let (sender, receiver) = oneshot::channel();
        let action: WriteRequest = Box::new(move |tx| {
            let work = tx.map(write);
            Box::pin(async move {
                let result = match work {
                    Ok(work) => work.await,
                    Err(error) => Err(error),
                };
                let written: WriteResult = (
                    result.as_ref().map(drop).map_err(Clone::clone),
                    Box::new(move |commit| {
                        // The caller may have stopped waiting; the write is not undone.
                        let _ = sender.send(commit.and(result));
                    }),
                );
                written
            })
        });
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        queue.ok_or(StoreError::Closed)?.send(action).await.map_err(|_| StoreError::Closed)?;
        receiver.await.map_err(|_| StoreError::Closed)?
    }

    /// Accepts no more writes and waits for the queued ones.
    pub async fn stop(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.ended().await;
    }

    /// Returns when the task has ended.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl WriterTask {
    async fn run(mut self, mut waiting: mpsc::Receiver<WriteRequest>) {
        let mut group = Vec::with_capacity(MAX_GROUP_SIZE);
        let mut throttle = LogThrottle::default();
        loop {
            tokio::select! {
                biased;
                gathered = waiting.recv_many(&mut group, MAX_GROUP_SIZE) => if gathered == 0 { break },
                // Nothing is written, but the disk may have free space again.
                () = tokio::time::sleep(IDLE_CHECK_INTERVAL), if self.reserve.is_short() => {
                    self.reclaim_space(SHRINK).await;
                    continue;
                }
            }
            if self.reserve.is_short() {
                self.reclaim_space(CHECKPOINT).await;
            }
            let started = Instant::now();
            let mut changes = Vec::new();
            let mut replies = Vec::with_capacity(group.len());
            let outcome = self.run_group(&mut group, &mut changes, &mut replies).await;
            match &outcome {
                Ok(()) => {
                    changes.push(ChangeEvent::Metric(MetricEvent::Commit { took: started.elapsed() }));
                    for change in changes {
                        self.events.publish(change);
                    }
                }
                Err(error) => {
                    if let Some(suppressed) = throttle.allow() {
                        tracing::error!(%error, suppressed, "writing to the database failed");
                    }
                    self.reconnect_after(error).await;
                }
            }
            for reply in replies {
                reply(outcome.clone());
            }
        }
        if let Some(conn) = self.conn
            && let Err(error) = conn.close().await
        {
            tracing::warn!(%error, "closing the database failed; the next start replays the WAL");
        }
    }

    /// Runs the group in one transaction. Every write leaves its reply, also after an error.
    async fn run_group(
        &mut self,
        group: &mut Vec<WriteRequest>,
        changes: &mut Vec<ChangeEvent>,
        replies: &mut Vec<Reply>,
    ) -> Result<(), StoreError> {
        let mut budget = self.reserve.measure();
        if let Err(damaged) = self.health.check() {
            budget.refuse(damaged);
        }
        let health = self.health.clone();
        let outcome = match self.open().await {
            Ok(conn) => commit(conn, &health, group.drain(..), changes, &mut budget, replies).await,
            Err(error) => {
                for action in group.drain(..) {
                    replies.push(action(Err(error.clone())).await.1);
                }
                Err(error)
            }
        };
        // Checked after the commit, so that no write is acknowledged that went into a file that was already deleted.
        outcome.and_then(|()| self.health.files.verify_unchanged())
    }

    /// Returns the open connection, or opens a new one.
    async fn open(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        let open = match self.conn.take() {
            Some(open) => {
                if let Err(moved) = self.health.files.verify_unchanged() {
                    // As long as the file is open, its content can be copied out.
                    self.conn = Some(open);
                    return Err(moved);
                }
                open
            }
            None => {
                self.health.files.verify_same_database()?;
                let open = self.options.connect().await?;
                self.health.files.record_opened()?;
                open
            }
        };
        Ok(self.conn.insert(open))
    }

    /// Prepares for the next group after an error: closes the connection, and shrinks the reserve if the disk is full.
    async fn reconnect_after(&mut self, error: &StoreError) {
        self.health.record_error(error);
        if matches!(error, StoreError::Full) {
            self.reserve.release();
        }
        // After a full disk or a failed write, SQLite may have ended the transaction without the connection's knowledge. So
        // the next group gets a new connection. A connection to a deleted file is kept, as the only access to that file.
        if !matches!(error, StoreError::Moved { .. })
            && let Some(conn) = self.conn.take()
            && let Err(error) = conn.close().await
        {
            tracing::debug!(%error, "closing the failed connection failed");
        }
    }

    /// Measures the disk, and runs `sql` to make space in the database's files.
    async fn reclaim_space(&mut self, sql: &'static str) {
        self.reserve.measure();
        let done = match self.open().await {
            Ok(conn) => sqlx::raw_sql(sql).execute(conn).await.map(drop).map_err(StoreError::from),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::debug!(%error, "no space could be made in the database");
            self.reconnect_after(&error).await;
        }
    }
}

/// Runs the writes in one transaction and commits it. Every write leaves its reply, also after an error.
async fn commit(
    conn: &mut SqliteConnection,
    health: &DatabaseHealth,
    group: impl Iterator<Item = WriteRequest>,
    changes: &mut Vec<ChangeEvent>,
    budget: &mut DiskBudget,
    replies: &mut Vec<Reply>,
) -> Result<(), StoreError> {
    let mut transaction = conn.begin_with(BEGIN).await.map_err(StoreError::from);
    for (number, action) in group.enumerate() {
        let reply = match transaction.as_mut() {
            Ok(open) => match run_in_savepoint(open, health, number == 0, action, changes, budget).await {
                (reply, Ok(())) => reply,
                (reply, Err(error)) => {
                    transaction = Err(error);
                    reply
                }
            },
            Err(error) => action(Err(error.clone())).await.1,
        };
        replies.push(reply);
    }
    // The commit includes the last savepoint.
    transaction?.commit().await.map_err(StoreError::from)
}

/// Each call of the connection's thread takes longer than most statements. So a savepoint is begun together with the
/// transaction, or with the release of the one before.
const BEGIN: &str = "BEGIN IMMEDIATE; SAVEPOINT one";
const NEXT: &str = "RELEASE one; SAVEPOINT one";
const UNDO: &str = "ROLLBACK TO one";

/// Runs one write in a savepoint of its own.
async fn run_in_savepoint(
    transaction: &mut Transaction<'_, Sqlite>,
    health: &DatabaseHealth,
    first: bool,
    action: WriteRequest,
    changes: &mut Vec<ChangeEvent>,
    budget: &mut DiskBudget,
) -> (Reply, Result<(), StoreError>) {
    let published_before = changes.len();
    if !first && let Err(error) = sqlx::query(NEXT).execute(&mut **transaction).await.map_err(StoreError::from) {
        return (action(Err(error.clone())).await.1, Err(error));
    }
    let (written, reply) = action(Ok(&mut StoreTx { conn: &mut *transaction, changes, budget })).await;
    let Err(error) = written else { return (reply, Ok(())) };
    health.record_error(&error);
    changes.truncate(published_before);
    // If the savepoint is gone, SQLite has rolled back the whole transaction because of this error.
    let undone = sqlx::query(UNDO).execute(&mut **transaction).await;
    (reply, undone.map(drop).map_err(|_| error))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn start(conn: SqliteConnection, options: SqliteConnectOptions, path: &Path) -> Writer {
        let health = Arc::new(DatabaseHealth::new(path));
        let reserve = DiskReserve::open(path, 0);
        let changes = tokio::sync::broadcast::channel(8).0;
        let events = Arc::new(EventBus { changes, metrics: std::sync::OnceLock::new() });
        Writer::start(WriterTask { conn: Some(conn), options, health, reserve, events })
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
    async fn a_write_that_fails_takes_no_other_of_its_group_with_it() {
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
        let writer = start(conn, options, &path);
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
        small(1).await.unwrap();
        large().await.unwrap();
    }

    #[tokio::test]
    async fn of_a_write_that_fails_half_way_nothing_stays() {
        let writer = writer().await;
        let half = writer.write(|tx| {
            Box::pin(async move {
                sqlx::query("INSERT INTO t VALUES (7)").execute(&mut *tx.conn).await?;
                tx.changes.push(ChangeEvent::Instance("never".into()));
                Err::<(), _>(StoreError::Refused("no".into()))
            })
        });
        let (before, half, behind) = tokio::join!(insert(&writer, 1), half, insert(&writer, 2));
        assert!(half.is_err());
        assert_eq!((before.unwrap(), behind.unwrap()), (1, 2));
    }

    #[tokio::test]
    async fn a_write_whose_caller_has_gone_is_carried_out_all_the_same() {
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
