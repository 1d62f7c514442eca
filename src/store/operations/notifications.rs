//! Notifications of ends of jobs.

use std::time::Duration;

use jiff::Timestamp;

use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::tables::notifications::{DueNotifications, PendingNotification};

impl Store {
    /// Queues ends of jobs and alerts for notification from now on.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn enable_notifications(&self) -> Result<(), StoreError> {
        self.write("enable_notifications", move |tx| Box::pin(tx.enable_notifications())).await
    }

    /// Queues no ends of jobs and no alerts for notification from now on, and deletes the queued ones.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn disable_notifications(&self) -> Result<(), StoreError> {
        self.write("disable_notifications", move |tx| Box::pin(tx.disable_notifications())).await
    }

    /// Returns at most `limit` notifications that are due at `now`, and when the next one is. A delay longer than
    /// `longest` began before the clock was set back, and counts as over.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn due_notifications(
        &self,
        now: Timestamp,
        longest: Duration,
        limit: u32,
    ) -> Result<DueNotifications, StoreError> {
        let mut conn = self.read_transaction().await?;
        ReadTx::new(&mut conn).due_notifications(now, longest, limit).await
    }

    /// Deletes a notification that was delivered or given up. If the job has ended again in the meantime, its new row
    /// stays.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn notification_delivered(&self, notification: PendingNotification) -> Result<(), StoreError> {
        self.write("notification_delivered", move |tx| Box::pin(tx.notification_delivered(notification))).await
    }

    /// Records a failed attempt; the next one is at `next_at`.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn notification_failed(
        &self,
        notification: PendingNotification,
        next_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.write("notification_failed", move |tx| Box::pin(tx.notification_failed(notification, next_at))).await
    }

    /// Returns how many notifications and alerts are still to be delivered.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn pending_notifications(&self) -> Result<u64, StoreError> {
        let mut conn = self.reader().await?;
        ReadTx::new(&mut conn).pending_notifications().await
    }
}
