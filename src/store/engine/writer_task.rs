//! Writer task: owns the one writing connection and commits queued writes in groups.
//!
//! Writes that are queued at the same time share one transaction, and so one sync of the disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::mpsc;

use crate::log_throttle::LogThrottle;
use crate::store::engine::checkpointer::Checkpointer;
use crate::store::engine::disk_reserve::DiskReserve;
use crate::store::engine::disk_state::{DiskRoom, DiskState};
use crate::store::engine::group_commit::WriteGroup;
use crate::store::engine::health::DatabaseHealth;
use crate::store::engine::write_request::WriteRequest;
use crate::store::error::StoreError;
use crate::store::event_bus::EventBus;
use crate::store::events::{ChangeEvent, MetricEvent};

/// The most writes in one transaction. With more, the first one would wait too long.
const MAX_GROUP_SIZE: usize = 256;

/// How often the free space is measured while the reserve is incomplete and nothing is written.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Copies the WAL into the database, so that its space is used again. Otherwise it would grow to eight megabytes and more
/// before its checkpoint, and there may be no space for that.
const CHECKPOINT: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// Returns some unused pages of the database to the file system.
const SHRINK: &str = "PRAGMA incremental_vacuum(256); PRAGMA wal_checkpoint(PASSIVE)";

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
    /// Whether the disk is full.
    pub disk: Arc<DiskState>,
    /// The subscribers to commits.
    pub events: Arc<EventBus>,
}

impl WriterTask {
    /// Carries out the writes that it receives, until the queue is closed.
    pub async fn run(mut self, mut waiting: mpsc::Receiver<WriteRequest>) {
        let mut writes = Vec::with_capacity(MAX_GROUP_SIZE);
        let mut throttle = LogThrottle::default();
        let mut checkpointer = Checkpointer::new(self.options.clone(), self.health.clone());
        loop {
            tokio::select! {
                biased;
                gathered = waiting.recv_many(&mut writes, MAX_GROUP_SIZE) => if gathered == 0 { break },
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
            let (group, outcome) = self.run_group(&mut writes).await;
            let bytes = group.content_bytes();
            match &outcome {
                Ok(()) => {
                    for change in group.changes {
                        self.events.publish(change);
                    }
                    self.events.publish(ChangeEvent::Metric(MetricEvent::Commit { took: started.elapsed() }));
                }
                Err(error) => {
                    if let Some(suppressed) = throttle.allow() {
                        tracing::error!(%error, suppressed, "writing to the database failed");
                    }
                    self.reconnect_after(error).await;
                }
            }
            for reply in group.replies {
                reply(outcome.clone());
            }
            if let Some(conn) = self.conn.as_mut()
                && let Err(error) = checkpointer.after_group(conn, bytes).await
            {
                tracing::debug!(%error, "the WAL could not be copied");
            }
        }
        checkpointer.stop().await;
        if let Some(conn) = self.conn
            && let Err(error) = conn.close().await
        {
            tracing::warn!(%error, "closing the database failed; the next start replays the WAL");
        }
    }

    /// Runs the writes in one transaction.
    async fn run_group(&mut self, writes: &mut Vec<WriteRequest>) -> (WriteGroup, Result<(), StoreError>) {
        let mut budget = self.reserve.measure();
        let room = DiskRoom::of(&budget);
        self.disk.record_measurement(room);
        if let Err(damaged) = self.health.check() {
            budget.refuse(damaged);
        }
        let mut group = WriteGroup::new(self.health.clone(), budget);
        let outcome = match self.open().await {
            Ok(conn) => group.commit(conn, writes).await,
            Err(error) => {
                for write in writes.drain(..) {
                    group.refuse(write, error.clone()).await;
                }
                Err(error)
            }
        };
        // Checked after the commit, so that no write is acknowledged that went into a file that was already deleted.
        let outcome = outcome.and_then(|()| self.health.files.verify_unchanged());
        if outcome.is_ok() {
            self.disk.record_success(room);
        }
        (group, outcome)
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
            self.disk.record_full();
            self.reserve.release();
        }
        // After a full disk or a failed write, SQLite may have ended the transaction without the connection's
        // knowledge. So the next group gets a new connection. A connection to a deleted file is kept, as the only
        // access to that file.
        if !matches!(error, StoreError::Moved { .. })
            && let Some(conn) = self.conn.take()
            && let Err(error) = conn.close().await
        {
            tracing::debug!(%error, "closing the failed connection failed");
        }
    }

    /// Measures the disk, and runs `sql` to make space in the database's files.
    async fn reclaim_space(&mut self, sql: &'static str) {
        let room = DiskRoom::of(&self.reserve.measure());
        self.disk.record_measurement(room);
        let done = match self.open().await {
            Ok(conn) => sqlx::raw_sql(sql).execute(conn).await.map(drop).map_err(StoreError::from),
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => self.disk.record_success(room),
            Err(error) => {
                tracing::debug!(%error, "no space could be made in the database");
                self.reconnect_after(&error).await;
            }
        }
    }
}
