//! Checkpointer: copies the WAL into the database beside the writer, so that no commit waits for it.
//!
//! SQLite's own checkpoint runs inside a commit, and every accepted file of that commit waits until up to eight megabytes
//! are copied and synced. A checkpoint of another connection blocks no writer, but it seldom reaches the end of a WAL
//! that grows meanwhile, and only a WAL that was copied to its end is used again from its start. So the writer copies
//! the short rest itself, between two groups.

use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};
use tokio::task::JoinHandle;

use crate::store::engine::health::DatabaseHealth;

/// The length of the WAL, in pages, from which it is copied; SQLite's default.
const MIN_PAGES: i64 = 1000;

/// The length of the WAL, in pages, from which each commit copies it: the limit while readers or a full disk prevent a
/// checkpoint beside the writer.
pub(crate) const MAX_PAGES: &str = "4000";

/// The length is read after this many groups of writes,
const GROUPS_PER_CHECK: u32 = 16;

/// or after this many bytes of content.
const BYTES_PER_CHECK: u64 = 1 << 20;

/// Copies the WAL when it has grown. Belongs to the writer task.
pub(crate) struct Checkpointer {
    options: SqliteConnectOptions,
    health: Arc<DatabaseHealth>,
    groups: u32,
    bytes: u64,
    running: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Creates the checkpointer of a database; `options` are those of a writing connection.
    pub fn new(options: SqliteConnectOptions, health: Arc<DatabaseHealth>) -> Checkpointer {
        Checkpointer { options, health, groups: 0, bytes: 0, running: None }
    }

    /// Begins or ends a checkpoint if it is time for it. The writer calls this between two groups; `bytes` is the
    /// content that the last one wrote.
    ///
    /// # Errors
    /// A database error. No data is lost by it: the WAL only stays longer.
    pub async fn after_group(&mut self, conn: &mut SqliteConnection, bytes: u64) -> Result<(), sqlx::Error> {
        match &self.running {
            Some(task) if !task.is_finished() => return Ok(()),
            Some(_) => {
                self.running = None;
                // What was written meanwhile.
                sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut *conn).await?;
                return Ok(());
            }
            None => {}
        }
        self.groups += 1;
        self.bytes += bytes;
        if self.groups < GROUPS_PER_CHECK && self.bytes < BYTES_PER_CHECK {
            return Ok(());
        }
        (self.groups, self.bytes) = (0, 0);
        let pages: i64 = sqlx::query("PRAGMA wal_checkpoint(NOOP)").fetch_one(conn).await?.try_get("log")?;
        if pages >= MIN_PAGES {
            let (options, health) = (self.options.clone(), self.health.clone());
            self.running = Some(tokio::spawn(async move {
                if let Err(error) = checkpoint(&options, &health).await {
                    tracing::debug!(%error, "the WAL could not be copied beside the writer");
                }
            }));
        }
        Ok(())
    }

    /// Waits for a checkpoint that is under way.
    pub async fn stop(&mut self) {
        if let Some(task) = self.running.take() {
            // A panic of the task was reported, and concerns nothing that was written.
            let _ = task.await;
        }
    }
}

/// Copies what the WAL has into the database, through a connection of its own.
async fn checkpoint(options: &SqliteConnectOptions, health: &DatabaseHealth) -> Result<(), sqlx::Error> {
    // A file that was put in the database's place must not be changed.
    if health.files.verify_unchanged().is_err() {
        return Ok(());
    }
    let mut conn = options.clone().connect().await?;
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut conn).await?;
    conn.close().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::connection::writer_options;

    #[tokio::test]
    async fn the_wal_is_used_again_without_a_checkpoint_in_a_commit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let options = writer_options(&path).create_if_missing(true).pragma("wal_autocheckpoint", "0");
        let mut conn = options.connect().await.unwrap();
        sqlx::query("CREATE TABLE t (x BLOB)").execute(&mut conn).await.unwrap();
        let health = Arc::new(DatabaseHealth::new(&path));
        health.files.record_opened().unwrap();
        let mut checkpointer = Checkpointer::new(options, health);
        // 125 pages each: without a checkpoint the WAL would have 25,000 of them.
        for _ in 0..200 {
            sqlx::query("INSERT INTO t VALUES (zeroblob(1000000))").execute(&mut conn).await.unwrap();
            checkpointer.after_group(&mut conn, 1_000_000).await.unwrap();
            while checkpointer.running.as_ref().is_some_and(|task| !task.is_finished()) {
                tokio::task::yield_now().await;
            }
        }
        checkpointer.stop().await;
        let wal = std::fs::metadata(crate::store::engine::database_paths::wal_path(&path)).unwrap().len();
        assert!(wal < 50_000_000, "{wal}");
    }

    #[tokio::test]
    async fn a_replaced_database_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let options = writer_options(&path).create_if_missing(true);
        let mut conn = options.connect().await.unwrap();
        sqlx::query("CREATE TABLE t (x BLOB); INSERT INTO t VALUES (1)").execute(&mut conn).await.unwrap();
        let health = DatabaseHealth::new(&path);
        health.files.record_opened().unwrap();
        std::fs::rename(&path, folder.path().join("moved.db")).unwrap();
        std::fs::write(&path, "another file").unwrap();
        checkpoint(&options, &health).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"another file");
        conn.close().await.unwrap();
    }
}
