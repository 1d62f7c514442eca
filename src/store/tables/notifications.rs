//! Outbox of notifications: a row is written in the transaction that ends a job, and deleted when its notification was
//! delivered.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::clock::{after, from_ms};
use crate::domain::JobId;
use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;

/// A notification that is still to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingNotification {
    /// The job that ended.
    pub job: JobId,
    /// When it ended. A job that is retried ends again.
    pub enqueued_at: Timestamp,
    /// Failed attempts.
    pub attempts: u32,
}

impl FromRow<'_, SqliteRow> for PendingNotification {
    fn from_row(row: &SqliteRow) -> Result<PendingNotification, sqlx::Error> {
        Ok(PendingNotification {
            job: JobId(row.try_get("job_id")?),
            enqueued_at: from_ms(row.try_get("enqueued_at")?),
            attempts: row.try_get("attempts")?,
        })
    }
}

/// The notifications that are due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueNotifications {
    /// Those that are due, the one that is due longest first.
    pub due: Vec<PendingNotification>,
    /// When the next one is due; none where no other is pending.
    pub next_due_at: Option<Timestamp>,
}

impl StoreTx<'_> {
    /// Queues ends of jobs and alerts for notification from now on.
    pub(crate) async fn enable_notifications(&mut self) -> Result<(), StoreError> {
        sqlx::query("INSERT OR IGNORE INTO notification_enabled (id) VALUES (1)").execute(&mut *self.conn).await?;
        Ok(())
    }

    /// Queues no ends of jobs and no alerts from now on, and deletes the queued ones.
    pub(crate) async fn disable_notifications(&mut self) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM notification_enabled").execute(&mut *self.conn).await?;
        sqlx::query("DELETE FROM pending_notification").execute(&mut *self.conn).await?;
        sqlx::query("DELETE FROM pending_alert").execute(&mut *self.conn).await?;
        Ok(())
    }

    /// Queues the notification of a job's end, where notifications are enabled.
    pub(crate) async fn enqueue_notification(&mut self, id: JobId, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT OR REPLACE INTO pending_notification (job_id, enqueued_at, attempts, next_at)
             SELECT ?1, ?2, 0, ?2 FROM notification_enabled",
        )
        .bind(id.0)
        .bind(now.as_millisecond())
        .execute(&mut *self.conn)
        .await?;
        Ok(())
    }

    /// Deletes a notification. If the job has ended again in the meantime, its new row stays.
    pub(crate) async fn notification_delivered(&mut self, notification: PendingNotification) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM pending_notification WHERE job_id = ? AND enqueued_at = ?")
            .bind(notification.job.0)
            .bind(notification.enqueued_at.as_millisecond())
            .execute(&mut *self.conn)
            .await?;
        Ok(())
    }

    /// Records a failed attempt; the next one is at `next_at`.
    pub(crate) async fn notification_failed(
        &mut self,
        notification: PendingNotification,
        next_at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE pending_notification SET attempts = attempts + 1, next_at = ? WHERE job_id = ? AND enqueued_at = ?",
        )
        .bind(next_at.as_millisecond())
        .bind(notification.job.0)
        .bind(notification.enqueued_at.as_millisecond())
        .execute(&mut *self.conn)
        .await?;
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns at most `limit` notifications that are due at `now`. A delay longer than `longest` counts as over.
    pub(crate) async fn due_notifications(
        &mut self,
        now: Timestamp,
        longest: Duration,
        limit: u32,
    ) -> Result<DueNotifications, StoreError> {
        let (from, to) = (now.as_millisecond(), after(now, longest).as_millisecond());
        let due = sqlx::query_as(
            "SELECT job_id, enqueued_at, attempts FROM pending_notification WHERE next_at <= ? OR next_at > ?
             ORDER BY next_at LIMIT ?",
        )
        .bind(from)
        .bind(to)
        .bind(limit)
        .fetch_all(&mut *self.conn)
        .await?;
        let next: Option<i64> =
            sqlx::query_scalar("SELECT min(next_at) FROM pending_notification WHERE next_at > ? AND next_at <= ?")
                .bind(from)
                .bind(to)
                .fetch_one(&mut *self.conn)
                .await?;
        Ok(DueNotifications { due, next_due_at: next.map(from_ms) })
    }

    /// Returns how many notifications and alerts are still to be delivered.
    pub(crate) async fn pending_notifications(&mut self) -> Result<u64, StoreError> {
        let pending: i64 = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM pending_notification) + (SELECT count(*) FROM pending_alert)",
        )
        .fetch_one(&mut *self.conn)
        .await?;
        Ok(pending.cast_unsigned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::test_util::{add, leads, store};

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn an_end_and_its_notification_are_one_transaction() {
        let store = store().await;
        let due = async |now| {
            let DueNotifications { due, next_due_at } = store.due_notifications(from_ms(now), HOUR, 9).await.unwrap();
            (due, next_due_at)
        };
        let earlier = add(&store, leads(), 1).await;
        store.cancel(earlier, from_ms(1_000)).await.unwrap();
        store.enable_notifications().await.unwrap();
        assert_eq!(due(2_000).await, (vec![], None));
        let id = add(&store, leads(), 1).await;
        store.cancel(id, from_ms(2_000)).await.unwrap();
        let notification = PendingNotification { job: id, enqueued_at: from_ms(2_000), attempts: 0 };
        assert_eq!(due(2_000).await, (vec![notification], None));
        store.notification_failed(notification, from_ms(5_000)).await.unwrap();
        assert_eq!(due(3_000).await, (vec![], Some(from_ms(5_000))));
        assert_eq!(due(5_000).await.0, [PendingNotification { attempts: 1, ..notification }]);
        assert_eq!(due(-9_000_000).await.0.len(), 1, "the clock was set back");
        store.notification_delivered(notification).await.unwrap();
        assert_eq!(store.pending_notifications().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_second_end_is_notified_despite_an_old_response() {
        let store = store().await;
        store.enable_notifications().await.unwrap();
        let id = add(&store, leads(), 1).await;
        store.cancel(id, from_ms(2_000)).await.unwrap();
        let first = store.due_notifications(from_ms(2_000), HOUR, 9).await.unwrap().due;
        store.retry(id, from_ms(3_000)).await.unwrap();
        store.cancel(id, from_ms(4_000)).await.unwrap();
        store.notification_delivered(first[0]).await.unwrap();
        assert_eq!(store.pending_notifications().await.unwrap(), 1);
        store.disable_notifications().await.unwrap();
        assert_eq!(store.pending_notifications().await.unwrap(), 0);
    }
}
