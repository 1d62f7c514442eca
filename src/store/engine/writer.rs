//! How does something get onto the disk? One task owns the one writing connection and commits what has gathered.
//!
//! Writes that wait at the same time share one transaction and so one wait for the disk; each has a savepoint of its
//! own, so one that fails takes no other with it. A write, once handed over, is carried out whether or not its caller
//! still waits: a request that is dropped half-way can't leave half a change.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection, Transaction};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::LogThrottle;
use crate::store::engine::disk_reserve::{DiskBudget, DiskReserve};
use crate::store::engine::health::DatabaseHealth;
use crate::store::error::StoreError;
use crate::store::events::{ChangeEvent, EventBus, MetricEvent};

/// How many writes may wait; a caller that finds the queue full waits for its place.
const MAX_QUEUED_WRITES: usize = 1024;

/// The most writes of one transaction: past this the wait of the first outweighs the saving.
const MAX_GROUP_SIZE: usize = 256;

/// How often the disk is looked at while some of the reserve is missing and nothing is written.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What is in the log goes into the database, so that the log's room can be used again. Else it would grow to its eight
/// megabytes first, and then find no room for that.
const CHECKPOINT: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// Pages that are free within the database go back to the disk, some at a time.
const SHRINK: &str = "PRAGMA incremental_vacuum(256); PRAGMA wal_checkpoint(PASSIVE)";

/// What a write works on: the connection, the list of what it changed, and how much room there is for the content of
/// files.
pub(crate) struct StoreTx<'c> {
    pub conn: &'c mut SqliteConnection,
    pub changes: &'c mut Vec<ChangeEvent>,
    pub room: &'c mut DiskBudget,
}

/// Tells the caller how it ended, once the transaction has.
type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What a write came to, and its reply for after the commit.
type WriteResult = (Result<(), StoreError>, Reply);

/// One write: carried out in the transaction, or told why there is none.
type WriteRequest =
    Box<dyn for<'c> FnOnce(Result<&'c mut StoreTx<'_>, StoreError>) -> BoxFuture<'c, WriteResult> + Send>;

pub(crate) struct Writer {
    queue: Mutex<Option<mpsc::Sender<WriteRequest>>>,
    ended: CancellationToken,
}

/// What the writer task works with.
pub(crate) struct WriterTask {
    /// None after a fault, and then to be opened anew with these options.
    pub conn: Option<SqliteConnection>,
    pub options: SqliteConnectOptions,
    pub ground: Arc<DatabaseHealth>,
    pub reserve: DiskReserve,
    pub listeners: Arc<EventBus>,
}

impl Writer {
    pub fn start(desk: WriterTask) -> Writer {
        let (queue, waiting) = mpsc::channel(MAX_QUEUED_WRITES);
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        tokio::spawn(async move {
            let _guard = guard;
            desk.run(waiting).await;
        });
        Writer { queue: Mutex::new(Some(queue)), ended }
    }

    /// Carries `write` out and returns what it gave, once it is on the disk.
    pub async fn write<T, F>(&self, write: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut StoreTx<'_>) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let action: WriteRequest = Box::new(move |writing| {
            let work = writing.map(write);
            Box::pin(async move {
                let result = match work {
                    Ok(work) => work.await,
                    Err(error) => Err(error),
                };
                let written: WriteResult = (
                    result.as_ref().map(drop).map_err(Clone::clone),
                    Box::new(move |commit| {
                        // Nobody waiting is no fault: the write stands all the same.
                        let _ = answer.send(commit.and(result));
                    }),
                );
                written
            })
        });
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        queue.ok_or(StoreError::Closed)?.send(action).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Takes no more writes and waits for those it has.
    pub async fn stop(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.ended().await;
    }

    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl WriterTask {
    async fn run(mut self, mut waiting: mpsc::Receiver<WriteRequest>) {
        let mut group = Vec::with_capacity(MAX_GROUP_SIZE);
        let mut seldom = LogThrottle::default();
        loop {
            tokio::select! {
                biased;
                gathered = waiting.recv_many(&mut group, MAX_GROUP_SIZE) => if gathered == 0 { break },
                // Nothing is written: the disk may have room again all the same.
                () = tokio::time::sleep(IDLE_CHECK_INTERVAL), if self.reserve.is_short() => {
                    self.reclaim_space(SHRINK).await;
                    continue;
                }
            }
            if self.reserve.is_short() {
                self.reclaim_space(CHECKPOINT).await;
            }
            let begun = Instant::now();
            let mut changes = Vec::new();
            let mut replies = Vec::with_capacity(group.len());
            let outcome = self.carry_out(&mut group, &mut changes, &mut replies).await;
            match &outcome {
                Ok(()) => {
                    changes.push(ChangeEvent::Metric(MetricEvent::Commit { took: begun.elapsed() }));
                    for change in changes {
                        self.listeners.publish(change);
                    }
                }
                Err(error) => {
                    if let Some(unsaid) = seldom.allow() {
                        tracing::error!(%error, unsaid, "writing to the database failed");
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
            tracing::warn!(%error, "closing the database failed; the next start replays its log");
        }
    }

    /// Carries the group out in one transaction. Every action leaves its reply, whatever fails.
    async fn carry_out(
        &mut self,
        group: &mut Vec<WriteRequest>,
        changes: &mut Vec<ChangeEvent>,
        replies: &mut Vec<Reply>,
    ) -> Result<(), StoreError> {
        let mut room = self.reserve.measure();
        if let Err(damaged) = self.ground.check() {
            room.refuse(damaged);
        }
        let ground = self.ground.clone();
        let outcome = match self.open().await {
            Ok(conn) => commit(conn, &ground, group.drain(..), changes, &mut room, replies).await,
            Err(error) => {
                for action in group.drain(..) {
                    replies.push(action(Err(error.clone())).await.1);
                }
                Err(error)
            }
        };
        // Asked after the commit, so that nothing is promised that went into a file that was gone before it.
        outcome.and_then(|()| self.ground.files.verify_unchanged())
    }

    /// The connection that is there, or a new one.
    async fn open(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        let open = match self.conn.take() {
            Some(open) => {
                if let Err(moved) = self.ground.files.verify_unchanged() {
                    // As long as it is open, what is in it can be rescued.
                    self.conn = Some(open);
                    return Err(moved);
                }
                open
            }
            None => {
                self.ground.files.verify_same_database()?;
                let open = self.options.connect().await?;
                self.ground.files.record_opened()?;
                open
            }
        };
        Ok(self.conn.insert(open))
    }

    /// Makes ready for the next group after one that failed.
    async fn reconnect_after(&mut self, error: &StoreError) {
        self.ground.record_error(error);
        if matches!(error, StoreError::Full) {
            self.reserve.release();
        }
        // A full disk or a failed write may have ended the transaction behind the connection's back. What it then believes
        // of itself is not worth knowing: the next group has a new one. One to a file that was taken away is the only way
        // to that file.
        if !matches!(error, StoreError::Moved { .. })
            && let Some(conn) = self.conn.take()
            && let Err(error) = conn.close().await
        {
            tracing::debug!(%error, "closing the failed connection failed");
        }
    }

    /// Makes the most of the room that there is.
    async fn reclaim_space(&mut self, how: &'static str) {
        self.reserve.measure();
        let done = match self.open().await {
            Ok(conn) => sqlx::raw_sql(how).execute(conn).await.map(drop).map_err(StoreError::from),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::debug!(%error, "no room could be made in the database");
            self.reconnect_after(&error).await;
        }
    }
}

/// Carries the group out in one transaction. Every action leaves its reply, whatever fails.
async fn commit(
    conn: &mut SqliteConnection,
    ground: &DatabaseHealth,
    group: impl Iterator<Item = WriteRequest>,
    changes: &mut Vec<ChangeEvent>,
    room: &mut DiskBudget,
    replies: &mut Vec<Reply>,
) -> Result<(), StoreError> {
    let mut transaction = conn.begin_with(BEGIN).await.map_err(StoreError::from);
    for (number, action) in group.enumerate() {
        let reply = match transaction.as_mut() {
            Ok(open) => match run_in_savepoint(open, ground, number == 0, action, changes, room).await {
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
    // It takes the last savepoint with it.
    transaction?.commit().await.map_err(StoreError::from)
}

/// Each statement is a trip to the connection's thread and back, which takes longer than most of them do: so a
/// savepoint begins with the transaction or with the end of the one before.
const BEGIN: &str = "BEGIN IMMEDIATE; SAVEPOINT one";
const NEXT: &str = "RELEASE one; SAVEPOINT one";
const UNDO: &str = "ROLLBACK TO one";

/// Carries one write out in a savepoint of its own.
async fn run_in_savepoint(
    transaction: &mut Transaction<'_, Sqlite>,
    ground: &DatabaseHealth,
    first: bool,
    action: WriteRequest,
    changes: &mut Vec<ChangeEvent>,
    room: &mut DiskBudget,
) -> (Reply, Result<(), StoreError>) {
    let known = changes.len();
    if !first && let Err(error) = sqlx::query(NEXT).execute(&mut **transaction).await.map_err(StoreError::from) {
        return (action(Err(error.clone())).await.1, Err(error));
    }
    let (written, reply) = action(Ok(&mut StoreTx { conn: &mut *transaction, changes, room })).await;
    let Err(error) = written else { return (reply, Ok(())) };
    ground.record_error(&error);
    changes.truncate(known);
    // Where there is nothing left to undo, SQLite has rolled all of it back, for the reason that this write was told.
    let undone = sqlx::query(UNDO).execute(&mut **transaction).await;
    (reply, undone.map(drop).map_err(|_| error))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn start(conn: SqliteConnection, options: SqliteConnectOptions, path: &Path) -> Writer {
        let ground = Arc::new(DatabaseHealth::new(path));
        let reserve = DiskReserve::open(path, 0);
        let changes = tokio::sync::broadcast::channel(8).0;
        let listeners = Arc::new(EventBus { changes, facts: std::sync::OnceLock::new() });
        Writer::start(WriterTask { conn: Some(conn), options, ground, reserve, listeners })
    }

    async fn writer() -> Writer {
        let options = SqliteConnectOptions::new().in_memory(true);
        let mut conn = options.connect().await.unwrap();
        sqlx::query("CREATE TABLE t (x INTEGER UNIQUE)").execute(&mut conn).await.unwrap();
        start(conn, options, Path::new(":memory:"))
    }

    async fn insert(writer: &Writer, x: i64) -> Result<i64, StoreError> {
        writer
            .write(move |w| {
                Box::pin(async move {
                    sqlx::query("INSERT INTO t VALUES (?)").bind(x).execute(&mut *w.conn).await?;
                    Ok(sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut *w.conn).await?)
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
        // A limit of this connection, as a disk would be full for it.
        sqlx::query("PRAGMA max_page_count = 20").execute(&mut conn).await.unwrap();
        let writer = start(conn, options, &path);
        let large = || {
            writer.write(|w| {
                Box::pin(async move {
                    sqlx::query("INSERT INTO t VALUES (0, zeroblob(1000000))").execute(&mut *w.conn).await?;
                    Ok(())
                })
            })
        };
        let small = |x: i64| {
            writer.write(move |w| {
                Box::pin(async move {
                    sqlx::query("INSERT INTO t (x) VALUES (?)").bind(x).execute(&mut *w.conn).await?;
                    Ok(())
                })
            })
        };
        let (before, large_once, behind) = tokio::join!(small(1), large(), small(2));
        assert!(matches!(large_once, Err(StoreError::Full)), "{large_once:?}");
        // The others of its group were rolled back with it, and are told the same.
        assert!(matches!(before, Err(StoreError::Full)) && matches!(behind, Err(StoreError::Full)));
        small(1).await.unwrap();
        large().await.unwrap();
    }

    #[tokio::test]
    async fn of_a_write_that_fails_half_way_nothing_stays() {
        let writer = writer().await;
        let half = writer.write(|w| {
            Box::pin(async move {
                sqlx::query("INSERT INTO t VALUES (7)").execute(&mut *w.conn).await?;
                w.changes.push(ChangeEvent::Instance("never".into()));
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
            // One look hands the write over; then its caller loses interest.
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
