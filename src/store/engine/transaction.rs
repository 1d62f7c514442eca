//! Transactions: what a read and what a write may use. The operations on them are defined in `tables`.

use std::ops::{Deref, DerefMut};

use sqlx::SqliteConnection;

use crate::store::engine::disk_reserve::DiskBudget;
use crate::store::error::StoreError;
use crate::store::events::{ChangeEvent, InstanceChange, MetricEvent, WakeEvent};

/// What is rolled back if a write of a group fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UndoScope {
    /// The transaction: the write is the first one in it. A savepoint would make SQLite copy each page before its change.
    Transaction,
    /// Savepoint `one`, which stays open.
    Savepoint,
}

impl UndoScope {
    /// Undoes a write that failed with `cause`. A transaction is open afterwards.
    ///
    /// # Errors
    /// `cause` if SQLite has rolled back the transaction itself because of it; or why no other transaction begins.
    pub(super) async fn undo(self, conn: &mut SqliteConnection, cause: StoreError) -> Result<(), StoreError> {
        let rollback = match self {
            UndoScope::Transaction => "ROLLBACK",
            UndoScope::Savepoint => "ROLLBACK TO one",
        };
        sqlx::query(rollback).execute(&mut *conn).await.map_err(|_| cause)?;
        if self == UndoScope::Transaction {
            sqlx::query("BEGIN IMMEDIATE").execute(conn).await?;
        }
        Ok(())
    }
}

/// A connection to read from. Within a transaction all its reads see one commit.
pub(crate) struct ReadTx<'c> {
    pub(crate) conn: &'c mut SqliteConnection,
}

impl<'c> ReadTx<'c> {
    /// Reads through `conn`.
    pub(crate) fn new(conn: &'c mut SqliteConnection) -> ReadTx<'c> {
        ReadTx { conn }
    }
}

/// The transaction of one write. It reads like a [`ReadTx`].
pub(crate) struct StoreTx<'c> {
    /// The writing connection, within a transaction.
    read: ReadTx<'c>,
    /// Events that are published after the commit.
    changes: &'c mut Vec<ChangeEvent>,
    /// Bytes of content that may be written.
    pub(crate) budget: &'c mut DiskBudget,
    /// How many events are of earlier writes.
    published_before: usize,
    undo: UndoScope,
}

/// A part of a write that has begun.
pub(crate) struct PartStart {
    published_before: usize,
}

/// What becomes of a part of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartEnd {
    /// It belongs to the write.
    Keep,
    /// It is undone.
    Undo,
}

impl<'c> StoreTx<'c> {
    /// Writes through `conn`; the events of the write are added to `changes`.
    pub(crate) fn new(
        conn: &'c mut SqliteConnection,
        changes: &'c mut Vec<ChangeEvent>,
        budget: &'c mut DiskBudget,
        undo: UndoScope,
    ) -> StoreTx<'c> {
        let published_before = changes.len();
        StoreTx { read: ReadTx::new(conn), changes, budget, published_before, undo }
    }

    /// Undoes what the write has done so far, so that it can begin again. `cause` is why.
    ///
    /// # Errors
    /// `cause` or another database error: the transaction has been rolled back as a whole.
    pub(crate) async fn restart(&mut self, cause: StoreError) -> Result<(), StoreError> {
        self.changes.truncate(self.published_before);
        self.undo.undo(&mut *self.read.conn, cause).await
    }

    /// Begins a part of the write that can be undone alone. Parts do not nest.
    ///
    /// # Errors
    /// A database error.
    pub(crate) async fn begin_part(&mut self) -> Result<PartStart, StoreError> {
        sqlx::query("SAVEPOINT part").execute(&mut *self.read.conn).await?;
        Ok(PartStart { published_before: self.changes.len() })
    }

    /// Ends a part of the write.
    ///
    /// # Errors
    /// A database error: the transaction has been rolled back as a whole.
    pub(crate) async fn end_part(&mut self, part: PartStart, end: PartEnd) -> Result<(), StoreError> {
        let sql = match end {
            PartEnd::Keep => "RELEASE part",
            PartEnd::Undo => {
                self.changes.truncate(part.published_before);
                "ROLLBACK TO part; RELEASE part"
            }
        };
        sqlx::query(sql).execute(&mut *self.read.conn).await?;
        Ok(())
    }

    /// Publishes `change` after the commit.
    pub(crate) fn publish(&mut self, change: ChangeEvent) {
        self.changes.push(change);
    }

    /// Wakes the scheduler of an instance after the commit.
    pub(crate) fn wake(&mut self, instance: &str, change: InstanceChange) {
        self.publish(ChangeEvent::Wake(WakeEvent { instance: instance.to_owned(), change }));
    }

    /// Publishes a metric event after the commit.
    pub(crate) fn count(&mut self, event: MetricEvent) {
        self.publish(ChangeEvent::Metric(event));
    }
}

impl<'c> Deref for StoreTx<'c> {
    type Target = ReadTx<'c>;

    fn deref(&self) -> &ReadTx<'c> {
        &self.read
    }
}

impl<'c> DerefMut for StoreTx<'c> {
    fn deref_mut(&mut self) -> &mut ReadTx<'c> {
        &mut self.read
    }
}
