//! Alerts of pauses and held batches, and the state of the disk.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::tables::alerts::DueAlerts;

impl Store {
    /// Returns at most `limit` alerts that are due at `now`, and when the next one is. A delay longer than `longest`
    /// began before the clock was set back, and counts as over.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn due_alerts(&self, now: Timestamp, longest: Duration, limit: u32) -> Result<DueAlerts, StoreError> {
        let mut conn = self.read_transaction().await?;
        ReadTx::new(&mut conn).due_alerts(now, longest, limit).await
    }

    /// Deletes an alert that was delivered or given up.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn alert_delivered(&self, id: i64) -> Result<(), StoreError> {
        self.write("alert_delivered", move |tx| Box::pin(tx.alert_delivered(id))).await
    }

    /// Records a failed attempt; the next one is at `next_at`.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn alert_failed(&self, id: i64, next_at: Timestamp) -> Result<(), StoreError> {
        self.write("alert_failed", move |tx| Box::pin(tx.alert_failed(id, next_at))).await
    }

    /// Returns since when the database's disk is full, now and after each change; none while it is not.
    pub fn watch_full_disk(&self) -> watch::Receiver<Option<Timestamp>> {
        self.shared.disk.watch()
    }
}
