//! How does something get onto the disk? One task owns the one writing connection and commits what has gathered.
//!
//! Writes that wait at the same time share one transaction and so one wait for the disk; each has a savepoint of its
//! own, so one that fails takes no other with it. A write, once handed over, is carried out whether or not its caller
//! still waits: a request that is dropped half-way can't leave half a change.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection, Transaction};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::facts::Listeners;
use super::{Change, Fact, StoreError};

/// How many writes may wait; a caller that finds the queue full waits for its place.
const QUEUE: usize = 1024;

/// The most writes of one transaction: past this the wait of the first outweighs the saving.
const GROUP: usize = 256;

/// What a write works on: the connection, and the list of what it changed.
pub(super) struct Writing<'c> {
    pub conn: &'c mut SqliteConnection,
    pub changes: &'c mut Vec<Change>,
}

/// Tells the caller how it ended, once the transaction has.
type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What a write came to, and its reply for after the commit.
type Written = (Result<(), StoreError>, Reply);

/// One write: carried out in the transaction, or told why there is none.
type Action = Box<dyn for<'c> FnOnce(Result<&'c mut Writing<'_>, StoreError>) -> BoxFuture<'c, Written> + Send>;

pub(super) struct Writer {
    queue: Mutex<Option<mpsc::Sender<Action>>>,
    ended: CancellationToken,
}

impl Writer {
    /// `options` are those that `conn` was opened with.
    pub fn start(conn: SqliteConnection, options: SqliteConnectOptions, listeners: Arc<Listeners>) -> Writer {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        tokio::spawn(async move {
            let _guard = guard;
            run(conn, options, waiting, listeners).await;
        });
        Writer { queue: Mutex::new(Some(queue)), ended }
    }

    /// Carries `write` out and returns what it gave, once it is on the disk.
    pub async fn write<T, F>(&self, write: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Writing<'_>) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let action: Action = Box::new(move |writing| {
            let work = writing.map(write);
            Box::pin(async move {
                let result = match work {
                    Ok(work) => work.await,
                    Err(error) => Err(error),
                };
                let written: Written = (
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

async fn run(
    conn: SqliteConnection,
    options: SqliteConnectOptions,
    mut waiting: mpsc::Receiver<Action>,
    listeners: Arc<Listeners>,
) {
    let mut conn = Some(conn);
    let mut group = Vec::with_capacity(GROUP);
    while waiting.recv_many(&mut group, GROUP).await > 0 {
        let begun = std::time::Instant::now();
        let mut changes = Vec::new();
        let mut replies = Vec::with_capacity(group.len());
        let outcome = match open(&mut conn, &options).await {
            Ok(conn) => commit(conn, group.drain(..), &mut changes, &mut replies).await,
            Err(error) => {
                for action in group.drain(..) {
                    replies.push(action(Err(error.clone())).await.1);
                }
                Err(error)
            }
        };
        if let Err(error) = &outcome {
            tracing::error!(%error, "writing to the database failed");
            // A full disk or a failed write may have ended the transaction behind the connection's back. What it then
            // believes of itself is not worth knowing: the next group has a new one.
            conn = None;
        } else {
            changes.push(Change::Fact(Fact::Commit { took: begun.elapsed() }));
            for change in changes {
                listeners.tell(change);
            }
        }
        for reply in replies {
            reply(outcome.clone());
        }
    }
    if let Some(conn) = conn
        && let Err(error) = conn.close().await
    {
        tracing::warn!(%error, "closing the database failed; the next start replays its log");
    }
}

/// The connection that is there, or a new one.
async fn open<'c>(
    conn: &'c mut Option<SqliteConnection>,
    options: &SqliteConnectOptions,
) -> Result<&'c mut SqliteConnection, StoreError> {
    let open = match conn.take() {
        Some(open) => open,
        None => options.connect().await?,
    };
    Ok(conn.insert(open))
}

/// Carries the group out in one transaction. Every action leaves its reply, whatever fails.
async fn commit(
    conn: &mut SqliteConnection,
    group: impl Iterator<Item = Action>,
    changes: &mut Vec<Change>,
    replies: &mut Vec<Reply>,
) -> Result<(), StoreError> {
    let mut transaction = conn.begin_with(BEGIN).await.map_err(StoreError::from);
    for (number, action) in group.enumerate() {
        let reply = match transaction.as_mut() {
            Ok(open) => match one(open, number == 0, action, changes).await {
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
async fn one(
    transaction: &mut Transaction<'_, Sqlite>,
    first: bool,
    action: Action,
    changes: &mut Vec<Change>,
) -> (Reply, Result<(), StoreError>) {
    let known = changes.len();
    if !first && let Err(error) = sqlx::query(NEXT).execute(&mut **transaction).await.map_err(StoreError::from) {
        return (action(Err(error.clone())).await.1, Err(error));
    }
    let (written, reply) = action(Ok(&mut Writing { conn: &mut *transaction, changes })).await;
    let Err(error) = written else { return (reply, Ok(())) };
    changes.truncate(known);
    // Where there is nothing left to undo, SQLite has rolled all of it back, for the reason that this write was told.
    let undone = sqlx::query(UNDO).execute(&mut **transaction).await;
    (reply, undone.map(drop).map_err(|_| error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody() -> Arc<Listeners> {
        let changes = tokio::sync::broadcast::channel(8).0;
        Arc::new(Listeners { changes, facts: std::sync::OnceLock::new() })
    }

    async fn writer() -> Writer {
        let options = SqliteConnectOptions::new().in_memory(true);
        let mut conn = options.connect().await.unwrap();
        sqlx::query("CREATE TABLE t (x INTEGER UNIQUE)").execute(&mut conn).await.unwrap();
        Writer::start(conn, options, nobody())
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
    async fn after_a_full_disk_it_says_so_and_writes_again_when_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(folder.path().join("t.db")).create_if_missing(true);
        let mut conn = options.connect().await.unwrap();
        sqlx::query("CREATE TABLE t (x INTEGER UNIQUE, y BLOB)").execute(&mut conn).await.unwrap();
        // A limit of this connection, as a disk would be full for it.
        sqlx::query("PRAGMA max_page_count = 20").execute(&mut conn).await.unwrap();
        let writer = Writer::start(conn, options, nobody());
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
                w.changes.push(Change::Instance("never".into()));
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
