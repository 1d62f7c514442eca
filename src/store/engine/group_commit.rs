//! Group commit: runs the writes of a group in one transaction.
//!
//! Each write behind the first has a savepoint, so a failed one does not undo the others.

use std::sync::Arc;

use sqlx::{Connection, Sqlite, SqliteConnection, Transaction};

use crate::store::engine::disk_reserve::DiskBudget;
use crate::store::engine::health::DatabaseHealth;
use crate::store::engine::transaction::{StoreTx, UndoScope};
use crate::store::engine::write_request::{Reply, WriteOutcome, WriteRequest};
use crate::store::error::StoreError;
use crate::store::events::ChangeEvent;

const BEGIN: &str = "BEGIN IMMEDIATE";
const FIRST_SAVEPOINT: &str = "SAVEPOINT one";

/// Each call of the connection's thread takes longer than most statements. So the savepoint of a write is begun together
/// with the release of the one before.
const NEXT_SAVEPOINT: &str = "RELEASE one; SAVEPOINT one";

/// What a group of writes may use, and what it leaves.
pub(crate) struct WriteGroup {
    health: Arc<DatabaseHealth>,
    budget: DiskBudget,
    /// Events to publish if the commit has succeeded.
    pub changes: Vec<ChangeEvent>,
    /// The reply of each write, also after an error.
    pub replies: Vec<Reply>,
    /// What the transaction has.
    content: TransactionContent,
}

/// What a transaction has so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TransactionContent {
    Nothing,
    /// One write, without a savepoint.
    FirstWrite,
    /// Several writes, and the savepoint of the last one.
    Savepoint,
}

impl WriteGroup {
    /// Creates a group that has run no write.
    pub fn new(health: Arc<DatabaseHealth>, budget: DiskBudget) -> WriteGroup {
        WriteGroup { health, budget, changes: Vec::new(), replies: Vec::new(), content: TransactionContent::Nothing }
    }

    /// Returns the bytes of content that the writes stored.
    pub fn content_bytes(&self) -> u64 {
        self.budget.reserved()
    }

    /// Runs the writes in one transaction and commits it.
    ///
    /// # Errors
    /// An error of the transaction as a whole. That of a single write goes to its caller only.
    pub async fn commit(
        &mut self,
        conn: &mut SqliteConnection,
        writes: &mut Vec<WriteRequest>,
    ) -> Result<(), StoreError> {
        let mut transaction = conn.begin_with(BEGIN).await.map_err(StoreError::from);
        for write in writes.drain(..) {
            match transaction.as_mut() {
                Ok(open) => {
                    if let Err(error) = self.run_in_scope(open, write).await {
                        transaction = Err(error);
                    }
                }
                Err(error) => {
                    let error = error.clone();
                    self.refuse(write, error).await;
                }
            }
        }
        // The commit includes the last savepoint.
        transaction?.commit().await.map_err(StoreError::from)
    }

    /// Lets a write fail with `error`, without running it.
    pub async fn refuse(&mut self, write: WriteRequest, error: StoreError) {
        self.replies.push(write(Err(error)).await.reply);
    }

    /// Begins what is rolled back if the next write fails. A write must return each error of the database: after some,
    /// SQLite rolls back the transaction itself, and a savepoint would begin another one without the writes before it.
    async fn begin_undo_scope(&mut self, conn: &mut SqliteConnection) -> Result<UndoScope, StoreError> {
        let sql = match self.content {
            TransactionContent::Nothing => return Ok(UndoScope::Transaction),
            TransactionContent::FirstWrite => FIRST_SAVEPOINT,
            TransactionContent::Savepoint => NEXT_SAVEPOINT,
        };
        sqlx::query(sql).execute(conn).await?;
        self.content = TransactionContent::Savepoint;
        Ok(UndoScope::Savepoint)
    }

    /// Runs one write in such a scope.
    async fn run_in_scope(
        &mut self,
        transaction: &mut Transaction<'_, Sqlite>,
        write: WriteRequest,
    ) -> Result<(), StoreError> {
        let published_before = self.changes.len();
        let undo = match self.begin_undo_scope(transaction).await {
            Ok(undo) => undo,
            Err(error) => {
                self.refuse(write, error.clone()).await;
                return Err(error);
            }
        };
        let mut tx = StoreTx::new(transaction, &mut self.changes, &mut self.budget, undo);
        let WriteOutcome { result, reply } = write(Ok(&mut tx)).await;
        self.replies.push(reply);
        let Err(error) = result else {
            if undo == UndoScope::Transaction {
                self.content = TransactionContent::FirstWrite;
            }
            debug_assert!(wakes_its_instances(&self.changes[published_before..]), "a change wakes no scheduler");
            return Ok(());
        };
        self.health.record_error(&error);
        self.changes.truncate(published_before);
        // If there is nothing to roll back to, SQLite has rolled back the whole transaction because of this error.
        undo.undo(transaction, error).await
    }
}

/// Returns whether a write that changed jobs, batches or instances wakes a scheduler.
fn wakes_its_instances(changes: &[ChangeEvent]) -> bool {
    let is_silent = |change: &ChangeEvent| matches!(change, ChangeEvent::Wake(_) | ChangeEvent::Metric(_));
    changes.iter().all(is_silent) || changes.iter().any(|change| matches!(change, ChangeEvent::Wake(_)))
}
