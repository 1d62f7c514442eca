//! Transactions: what a read and what a write may use. The operations on them are defined in `tables`.

use std::ops::{Deref, DerefMut};

use sqlx::SqliteConnection;

use crate::store::engine::disk_reserve::DiskBudget;
use crate::store::events::{ChangeEvent, MetricEvent};

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
    /// The writing connection, within a savepoint.
    read: ReadTx<'c>,
    /// Events that are published after the commit.
    changes: &'c mut Vec<ChangeEvent>,
    /// Bytes of content that may be written.
    pub(crate) budget: &'c mut DiskBudget,
}

impl<'c> StoreTx<'c> {
    /// Writes through `conn`; the events of the write are added to `changes`.
    pub(crate) fn new(
        conn: &'c mut SqliteConnection,
        changes: &'c mut Vec<ChangeEvent>,
        budget: &'c mut DiskBudget,
    ) -> StoreTx<'c> {
        StoreTx { read: ReadTx::new(conn), changes, budget }
    }

    /// Publishes `change` after the commit.
    pub(crate) fn publish(&mut self, change: ChangeEvent) {
        self.changes.push(change);
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
