//! Outbox of alerts: a row is written in the transaction that records a pause or a held batch, and deleted when its
//! alert was delivered.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::clock::{after, from_ms};
use crate::domain::instance::{InstanceState, Pause, PauseKind};
use crate::domain::{BatchKey, JobId};
use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;
use crate::store::tables::row_mapping::{parse_column, time_column, time_value};

const INSTANCE_PAUSED: &str = "instance-paused";
const BATCH_HELD: &str = "batch-held";

/// An event other than a job's end that is reported to an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alert {
    /// A pause of an instance began.
    InstancePaused {
        /// Name of the instance.
        instance: String,
        /// The pause as it began.
        pause: Pause,
    },
    /// A batch became held.
    BatchHeld {
        /// The batch.
        key: BatchKey,
        /// Why it is held.
        reason: String,
        /// When it became held.
        at: Timestamp,
    },
}

/// An alert that is still to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingAlert {
    /// Its number in the outbox.
    pub id: i64,
    /// Content of the alert.
    pub alert: Alert,
    /// When it was queued.
    pub enqueued_at: Timestamp,
    /// Failed attempts.
    pub attempts: u32,
}

impl FromRow<'_, SqliteRow> for PendingAlert {
    fn from_row(row: &SqliteRow) -> Result<PendingAlert, sqlx::Error> {
        let at = from_ms(row.try_get("enqueued_at")?);
        let reason = row.try_get("reason")?;
        let alert = match row.try_get::<Option<i64>, _>("job_id")? {
            Some(job) => {
                let key = BatchKey { job: JobId(job), part: row.try_get("part")? };
                Alert::BatchHeld { key, reason, at }
            }
            None => {
                let kind: PauseKind = parse_column(row, "pause")?;
                let pause = Pause { kind, reason, at, until: time_column(row, "pause_until")? };
                Alert::InstancePaused { instance: row.try_get("instance")?, pause }
            }
        };
        Ok(PendingAlert { id: row.try_get("id")?, alert, enqueued_at: at, attempts: row.try_get("attempts")? })
    }
}

/// The alerts that are due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueAlerts {
    /// Those that are due, the one that is due longest first.
    pub due: Vec<PendingAlert>,
    /// When the next one is due; none where no other is pending.
    pub next_due_at: Option<Timestamp>,
}

impl StoreTx<'_> {
    /// Queues an alert where a pause begins: `before` has none of its kind, in effect or suspended. So workers that
    /// meet one cause at the same time cause one alert.
    pub(crate) async fn alert_of_pause(
        &mut self,
        instance: &str,
        before: &InstanceState,
        pause: &Pause,
    ) -> Result<(), StoreError> {
        let mut present = before.pause.iter().chain(&before.suspended_pause);
        if present.any(|present| present.kind == pause.kind) {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO pending_alert (event, instance, pause, pause_until, reason, enqueued_at, attempts, next_at)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, 0, ?6 FROM notification_enabled",
        )
        .bind(INSTANCE_PAUSED)
        .bind(instance)
        .bind(pause.kind.as_str())
        .bind(time_value(pause.until))
        .bind(&pause.reason)
        .bind(pause.at.as_millisecond())
        .execute(&mut *self.conn)
        .await?;
        Ok(())
    }

    /// Queues the alert of a batch that became held at `now`.
    pub(crate) async fn alert_of_held_batch(
        &mut self,
        key: BatchKey,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO pending_alert (event, job_id, part, reason, enqueued_at, attempts, next_at)
             SELECT ?1, ?2, ?3, ?4, ?5, 0, ?5 FROM notification_enabled",
        )
        .bind(BATCH_HELD)
        .bind(key.job.0)
        .bind(key.part)
        .bind(reason)
        .bind(now.as_millisecond())
        .execute(&mut *self.conn)
        .await?;
        Ok(())
    }

    /// Deletes an alert.
    pub(crate) async fn alert_delivered(&mut self, id: i64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM pending_alert WHERE id = ?").bind(id).execute(&mut *self.conn).await?;
        Ok(())
    }

    /// Records a failed attempt; the next one is at `next_at`.
    pub(crate) async fn alert_failed(&mut self, id: i64, next_at: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE pending_alert SET attempts = attempts + 1, next_at = ? WHERE id = ?")
            .bind(next_at.as_millisecond())
            .bind(id)
            .execute(&mut *self.conn)
            .await?;
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns at most `limit` alerts that are due at `now`. A delay longer than `longest` counts as over.
    pub(crate) async fn due_alerts(
        &mut self,
        now: Timestamp,
        longest: Duration,
        limit: u32,
    ) -> Result<DueAlerts, StoreError> {
        let (from, to) = (now.as_millisecond(), after(now, longest).as_millisecond());
        let due = sqlx::query_as(
            "SELECT id, instance, pause, pause_until, job_id, part, reason, enqueued_at, attempts
             FROM pending_alert WHERE next_at <= ? OR next_at > ? ORDER BY next_at, id LIMIT ?",
        )
        .bind(from)
        .bind(to)
        .bind(limit)
        .fetch_all(&mut *self.conn)
        .await?;
        let next: Option<i64> =
            sqlx::query_scalar("SELECT min(next_at) FROM pending_alert WHERE next_at > ? AND next_at <= ?")
                .bind(from)
                .bind(to)
                .fetch_one(&mut *self.conn)
                .await?;
        Ok(DueAlerts { due, next_due_at: next.map(from_ms) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Event, FailureScope};
    use crate::store::handle::Store;
    use crate::store::test_util::{accepted, add, leads, store};

    const HOUR: Duration = Duration::from_secs(3600);

    async fn due(store: &Store, now: i64) -> Vec<PendingAlert> {
        store.due_alerts(from_ms(now), HOUR, 9).await.unwrap().due
    }

    fn pause(kind: PauseKind, at: i64) -> Pause {
        Pause { kind, reason: kind.as_str().into(), at: from_ms(at), until: None }
    }

    #[tokio::test]
    async fn each_pause_has_one_alert_with_its_first_state() {
        let store = store().await;
        store.pause("default", pause(PauseKind::Quota, 1)).await.unwrap();
        store.enable_notifications().await.unwrap();
        store.resume("default", None).await.unwrap();
        let quota = Pause { until: Some(from_ms(90)), ..pause(PauseKind::Quota, 5) };
        let pauses = [
            quota.clone(),
            // A second worker, the same while it lasts, and an operator's behind it.
            pause(PauseKind::Quota, 6),
            pause(PauseKind::Operator, 7),
            pause(PauseKind::Operator, 8),
            pause(PauseKind::Credentials, 9),
        ];
        for pause in pauses {
            store.pause("default", pause).await.unwrap();
        }
        store.resume("default", None).await.unwrap();
        store.pause("default", pause(PauseKind::Quota, 10)).await.unwrap();
        let due_alerts: Vec<Alert> = due(&store, 20).await.into_iter().map(|pending| pending.alert).collect();
        let alert = |pause: Pause| Alert::InstancePaused { instance: "default".into(), pause };
        let kinds = [(PauseKind::Operator, 7), (PauseKind::Credentials, 9), (PauseKind::Quota, 10)];
        let later = kinds.map(|(kind, at)| alert(pause(kind, at)));
        assert_eq!(due_alerts, [alert(quota)].into_iter().chain(later).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_held_batch_has_one_alert_with_its_reason() {
        let store = store().await;
        store.enable_notifications().await.unwrap();
        let id = add(&store, leads(), 2).await;
        let key = |part| BatchKey { job: id, part };
        let held = Event::Held { reason: "cut".into(), unconfirmed_until: from_ms(99), scope: FailureScope::Batch };
        for (part, at, event) in [
            (1, 1, Event::UploadBegan),
            (1, 2, held),
            (2, 3, Event::UploadBegan),
            (2, 4, accepted("3404")),
            (2, 5, Event::Overdue { reason: "3d".into() }),
        ] {
            store.record_event(key(part), event, None, from_ms(at)).await.unwrap();
        }
        let due_alerts: Vec<Alert> = due(&store, 20).await.into_iter().map(|pending| pending.alert).collect();
        let alert =
            |part, reason: &str, at| Alert::BatchHeld { key: key(part), reason: reason.into(), at: from_ms(at) };
        assert_eq!(due_alerts, [alert(1, "cut", 2), alert(2, "3d", 5)]);
    }

    #[tokio::test]
    async fn an_alert_waits_after_a_failure_and_goes_once_delivered() {
        let store = store().await;
        store.enable_notifications().await.unwrap();
        for at in [1, 2] {
            store.pause(&format!("i{at}"), pause(PauseKind::Operator, at)).await.unwrap();
        }
        let first = due(&store, 5).await.remove(0);
        store.alert_failed(first.id, from_ms(50)).await.unwrap();
        store.alert_delivered(due(&store, 5).await[0].id).await.unwrap();
        let DueAlerts { due: none, next_due_at } = store.due_alerts(from_ms(5), HOUR, 9).await.unwrap();
        assert_eq!((none, next_due_at), (vec![], Some(from_ms(50))));
        assert_eq!(due(&store, 50).await, [PendingAlert { attempts: 1, ..first }]);
        assert_eq!(due(&store, -9_000_000).await.len(), 1, "the clock was set back");
        assert_eq!(store.pending_notifications().await.unwrap(), 1);
        store.disable_notifications().await.unwrap();
        assert_eq!(store.pending_notifications().await.unwrap(), 0);
    }
}
