//! Outbox of notifications: a row is written in the transaction that ends a job, and deleted when its notification was
//! delivered.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;

use crate::clock::{after, from_ms};
use crate::domain::JobId;
use crate::store::Store;
use crate::store::engine::writer::StoreTx;
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

impl Store {
    /// Sets whether ends of jobs are queued for notification from now on. Disabling it deletes the queued ones.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn enable_notifications(&self, enabled: bool) -> Result<(), StoreError> {
        self.write("enable_notifications", move |tx| {
            Box::pin(async move {
                if enabled {
                    sqlx::query("INSERT OR IGNORE INTO notification_enabled (id) VALUES (1)")
                        .execute(&mut *tx.conn)
                        .await?;
                } else {
                    sqlx::query("DELETE FROM notification_enabled").execute(&mut *tx.conn).await?;
                    sqlx::query("DELETE FROM pending_notification").execute(&mut *tx.conn).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Returns at most `limit` notifications that are due at `now`, and when the next one is. A delay longer than `longest`
    /// began before the clock was set back, and counts as over.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn due_notifications(
        &self,
        now: Timestamp,
        longest: Duration,
        limit: u32,
    ) -> Result<(Vec<PendingNotification>, Option<Timestamp>), StoreError> {
        let (from, to) = (now.as_millisecond(), after(now, longest).as_millisecond());
        let mut snapshot = self.readers().begin().await?;
        let rows = sqlx::query(
            "SELECT job_id, enqueued_at, attempts FROM pending_notification WHERE next_at <= ? OR next_at > ? ORDER BY next_at LIMIT ?",
        )
        .bind(from)
        .bind(to)
        .bind(limit)
        .fetch_all(&mut *snapshot)
        .await?;
        let next: Option<i64> =
            sqlx::query_scalar("SELECT min(next_at) FROM pending_notification WHERE next_at > ? AND next_at <= ?")
                .bind(from)
                .bind(to)
                .fetch_one(&mut *snapshot)
                .await?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            let job = JobId(row.try_get("job_id")?);
            Ok(PendingNotification {
                job,
                enqueued_at: from_ms(row.try_get("enqueued_at")?),
                attempts: row.try_get("attempts")?,
            })
        };
        Ok((rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?, next.map(from_ms)))
    }

    /// Deletes a notification that was delivered or given up. If the job has ended again in the meantime, its new row stays.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn notification_delivered(&self, notification: PendingNotification) -> Result<(), StoreError> {
        self.write("notification_delivered", move |tx| {
            Box::pin(async move {
                sqlx::query("DELETE FROM pending_notification WHERE job_id = ? AND enqueued_at = ?")
                    .bind(notification.job.0)
                    .bind(notification.enqueued_at.as_millisecond())
                    .execute(&mut *tx.conn)
                    .await?;
                Ok(())
            })
        })
        .await
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
        self.write("notification_failed", move |tx| {
                Box::pin(async move {
                    sqlx::query(
                        "UPDATE pending_notification SET attempts = attempts + 1, next_at = ? WHERE job_id = ? AND enqueued_at = ?",
                    )
                    .bind(next_at.as_millisecond())
                    .bind(notification.job.0)
                    .bind(notification.enqueued_at.as_millisecond())
                    .execute(&mut *tx.conn)
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Returns how many notifications are still to be delivered.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn pending_notifications(&self) -> Result<u64, StoreError> {
        let pending: i64 =
            sqlx::query_scalar("SELECT count(*) FROM pending_notification").fetch_one(self.readers()).await?;
        Ok(pending.cast_unsigned())
    }
}

/// Queues the notification of a job's end, where notifications are enabled.
pub(crate) async fn enqueue(tx: &mut StoreTx<'_>, id: JobId, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("INSERT OR REPLACE INTO pending_notification (job_id, enqueued_at, attempts, next_at) SELECT ?1, ?2, 0, ?2 FROM notification_enabled")
        .bind(id.0)
        .bind(now.as_millisecond())
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::test_util::{add, leads, store};

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn an_end_and_its_notification_are_one_transaction() {
        let store = store().await;
        let due = async |now| store.due_notifications(from_ms(now), HOUR, 9).await.unwrap();
        let earlier = add(&store, leads(), 1).await;
        store.cancel(earlier, from_ms(1_000)).await.unwrap();
        store.enable_notifications(true).await.unwrap();
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
        store.enable_notifications(true).await.unwrap();
        let id = add(&store, leads(), 1).await;
        store.cancel(id, from_ms(2_000)).await.unwrap();
        let (first, _) = store.due_notifications(from_ms(2_000), HOUR, 9).await.unwrap();
        store.retry(id, from_ms(3_000)).await.unwrap();
        store.cancel(id, from_ms(4_000)).await.unwrap();
        store.notification_delivered(first[0]).await.unwrap();
        assert_eq!(store.pending_notifications().await.unwrap(), 1);
        store.enable_notifications(false).await.unwrap();
        assert_eq!(store.pending_notifications().await.unwrap(), 0);
    }
}
