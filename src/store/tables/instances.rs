//! Instances: pauses, observed limits and backoff of each instance, and the depth of its queue.

use jiff::Timestamp;
use sqlx::{Row, SqliteConnection, SqliteExecutor};

use crate::clock::from_ms;
use crate::domain::instance::{InstanceState, Pause, PauseKind};
use crate::domain::{BatchKey, Event, JobId, ParseEnumError};
use crate::store::engine::writer::StoreTx;
use crate::store::error::StoreError;
use crate::store::tables::row_mapping::{size_column, time_column};
use crate::store::{ChangeEvent, Store};

/// The queue of one instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Jobs of which no batch has been uploaded.
    pub pending_jobs: u64,
    /// Batches that wait for their upload, those of running jobs included.
    pub pending_batches: u64,
    /// Jobs that have begun and not ended.
    pub running_jobs: u64,
    /// When the oldest pending job was accepted.
    pub oldest_pending_at: Option<Timestamp>,
}

impl Store {
    /// Returns the state of an instance; the default for one that has no row.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn instance(&self, name: &str) -> Result<InstanceState, StoreError> {
        let mut conn = self.readers().acquire().await?;
        instance(&mut conn, name).await
    }

    /// Pauses an instance; see [`InstanceState::with_pause`].
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn pause(
        &self,
        name: &str,
        kind: PauseKind,
        reason: &str,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let pause = Pause { kind, reason: reason.to_owned(), at: now, until };
        self.update_instance(name, move |instance| instance.with_pause(pause)).await
    }

    /// Ends a pause; see [`InstanceState::without_pause`].
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn resume(&self, name: &str, kind: Option<PauseKind>) -> Result<(), StoreError> {
        self.update_instance(name, move |instance| instance.without_pause(kind)).await
    }

    /// Records that Marketo is not reachable, not even for a token: no upload before `until`.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn record_service_failure(&self, name: &str, until: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        self.update_instance(name, move |instance| instance.after_service_failure(until, now)).await
    }

    async fn update_instance<F>(&self, name: &str, change: F) -> Result<(), StoreError>
    where
        F: FnOnce(&InstanceState) -> InstanceState + Send + 'static,
    {
        let name = name.to_owned();
        self.write("update_instance", move |tx| {
            Box::pin(async move {
                let before = instance(&mut *tx.conn, &name).await?;
                save_changes(tx, &name, &before, &change(&before)).await?;
                tx.changes.push(ChangeEvent::Instance(name));
                Ok(())
            })
        })
        .await
    }

    /// Returns how many jobs and batches of an instance are pending or running.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn queue_depth(&self, name: &str) -> Result<QueueDepth, StoreError> {
        let row = sqlx::query(
            "SELECT count(*) FILTER (WHERE state = 'pending') AS pending,
                    count(*) FILTER (WHERE state = 'running') AS running,
                    min(created_at) FILTER (WHERE state = 'pending') AS oldest,
                    (SELECT count(*) FROM batch b JOIN job j ON j.id = b.job_id
                     WHERE b.state = 'pending' AND j.instance = ?1) AS batches
             FROM job WHERE instance = ?1 AND state IN ('pending', 'running')",
        )
        .bind(name)
        .fetch_one(self.readers())
        .await?;
        Ok(QueueDepth {
            pending_jobs: size_column(&row, "pending")?,
            pending_batches: size_column(&row, "batches")?,
            running_jobs: size_column(&row, "running")?,
            oldest_pending_at: time_column(&row, "oldest")?,
        })
    }

    /// Returns the number of unended jobs of each instance that has any, instances that were removed from the configuration
    /// included.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn unended_by_instance(&self) -> Result<Vec<(String, u64)>, StoreError> {
        Ok(unended_by_instance(self.readers()).await?)
    }
}

/// Reads the number of unended jobs of each instance that has any.
pub(crate) async fn unended_by_instance(reader: impl SqliteExecutor<'_>) -> Result<Vec<(String, u64)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT instance, count(*) AS jobs FROM job WHERE state IN ('pending', 'running') GROUP BY instance",
    )
    .fetch_all(reader)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("instance")?, size_column(row, "jobs")?))).collect()
}

/// Reads the state of an instance.
pub(crate) async fn instance(conn: &mut SqliteConnection, name: &str) -> Result<InstanceState, StoreError> {
    let row = sqlx::query("SELECT * FROM instance WHERE name = ?").bind(name).fetch_optional(conn).await?;
    let Some(row) = row else { return Ok(InstanceState::default()) };
    let pause = match row.try_get::<Option<&str>, _>("pause")? {
        None => None,
        Some(kind) => Some(Pause {
            kind: kind.parse().map_err(|error: ParseEnumError| sqlx::Error::Decode(Box::new(error)))?,
            reason: row.try_get("pause_reason")?,
            at: from_ms(row.try_get("paused_at")?),
            until: time_column(&row, "pause_until")?,
        }),
    };
    let suspended = match time_column(&row, "suspended_at")? {
        None => None,
        Some(at) => {
            Some(Pause { kind: PauseKind::Operator, reason: row.try_get("suspended_reason")?, at, until: None })
        }
    };
    Ok(InstanceState {
        pause,
        suspended_pause: suspended,
        observed_slot_limit: row.try_get("observed_slot_limit")?,
        slot_probe_at: time_column(&row, "slot_probe_at")?,
        service_failures: row.try_get("service_failures")?,
        backoff_until: time_column(&row, "backoff_until")?,
        uploads_ended: size_column(&row, "uploads_ended")?,
        last_success: size_column(&row, "last_success")?,
        last_failed: match row.try_get::<Option<i64>, _>("failed_job")? {
            None => None,
            Some(job) => Some(BatchKey { job: JobId(job), part: row.try_get("failed_part")? }),
        },
    })
}

async fn save_changes(
    tx: &mut StoreTx<'_>,
    name: &str,
    before: &InstanceState,
    after: &InstanceState,
) -> Result<(), StoreError> {
    if before == after {
        return Ok(());
    }
    let ms = |time: Option<Timestamp>| time.map(Timestamp::as_millisecond);
    let (pause, suspended) = (after.pause.as_ref(), after.suspended_pause.as_ref());
    sqlx::query(
        "INSERT INTO instance (name, pause, pause_reason, paused_at, pause_until, suspended_reason, suspended_at,
                               observed_slot_limit, slot_probe_at, service_failures, backoff_until, uploads_ended, last_success, failed_job,
                               failed_part)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (name) DO UPDATE
         SET pause = excluded.pause, pause_reason = excluded.pause_reason, paused_at = excluded.paused_at,
             pause_until = excluded.pause_until, suspended_reason = excluded.suspended_reason,
             suspended_at = excluded.suspended_at, observed_slot_limit = excluded.observed_slot_limit, slot_probe_at = excluded.slot_probe_at,
             service_failures = excluded.service_failures, backoff_until = excluded.backoff_until,
             uploads_ended = excluded.uploads_ended, last_success = excluded.last_success,
             failed_job = excluded.failed_job, failed_part = excluded.failed_part",
    )
    .bind(name)
    .bind(pause.map(|pause| pause.kind.as_str()))
    .bind(pause.map(|pause| pause.reason.as_str()))
    .bind(ms(pause.map(|pause| pause.at)))
    .bind(ms(pause.and_then(|pause| pause.until)))
    .bind(suspended.map(|pause| pause.reason.as_str()))
    .bind(ms(suspended.map(|pause| pause.at)))
    .bind(after.observed_slot_limit)
    .bind(ms(after.slot_probe_at))
    .bind(after.service_failures)
    .bind(ms(after.backoff_until))
    .bind(after.uploads_ended.cast_signed())
    .bind(after.last_success.cast_signed())
    .bind(after.last_failed.map(|key| key.job.0))
    .bind(after.last_failed.map(|key| key.part))
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// Updates the instance's state after an event of one of its batches, in the transaction of that event.
pub(crate) async fn update_from_event(
    tx: &mut StoreTx<'_>,
    key: BatchKey,
    event: &Event,
    now: Timestamp,
) -> Result<(), StoreError> {
    if !event.ends_upload() {
        return Ok(());
    }
    let (name, in_flight) = in_flight(tx, key).await?;
    let before = instance(&mut *tx.conn, &name).await?;
    let after = before.after_event(key, event, in_flight, now);
    save_changes(tx, &name, &before, &after).await?;
    sqlx::query("UPDATE batch SET last_upload = ? WHERE job_id = ? AND part = ?")
        .bind(after.uploads_ended.cast_signed())
        .bind(key.job.0)
        .bind(key.part)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

/// Returns the instance of a batch, and how many of the instance's batches occupy a slot.
async fn in_flight(tx: &mut StoreTx<'_>, key: BatchKey) -> Result<(String, u32), StoreError> {
    let row = sqlx::query(
        "SELECT j.instance, (SELECT count(*) FROM batch b JOIN job o ON o.id = b.job_id
                             WHERE b.state IN ('uploading', 'queued', 'importing', 'collecting', 'held')
                               AND b.state NOT IN ('collecting', 'held') AND o.instance = j.instance) AS n
         FROM job j WHERE j.id = ?",
    )
    .bind(key.job.0)
    .fetch_one(&mut *tx.conn)
    .await?;
    Ok((row.try_get("instance")?, row.try_get("n")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{DeferReason, FailureScope, RemoteStatus};
    use crate::store::test_util::{add, leads, store};
    use std::time::Duration;

    #[tokio::test]
    async fn a_persons_pause_outlasts_a_quota_and_a_resume_lifts_all() {
        let store = store().await;
        store.pause("default", PauseKind::Quota, "607", Some(from_ms(99)), from_ms(1)).await.unwrap();
        store.pause("default", PauseKind::Operator, "asked for", None, from_ms(2)).await.unwrap();
        store.pause("default", PauseKind::Quota, "607", Some(from_ms(99)), from_ms(3)).await.unwrap();
        let pause = store.instance("default").await.unwrap().pause.unwrap();
        assert_eq!((pause.kind, pause.at, pause.until), (PauseKind::Quota, from_ms(3), Some(from_ms(99))));
        store.resume("default", Some(PauseKind::Quota)).await.unwrap();
        let pause = store.instance("default").await.unwrap().pause.unwrap();
        assert_eq!((pause.kind, pause.at, pause.reason.as_str()), (PauseKind::Operator, from_ms(2), "asked for"));
        store.resume("default", None).await.unwrap();
        assert_eq!(store.instance("default").await.unwrap(), InstanceState::default());
    }

    #[tokio::test]
    async fn what_waits_is_counted_by_instance() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 3).await, part: 2 };
        add(&store, leads(), 1).await;
        add(&store, crate::store::tables::submissions::NewJob { instance: "other".into(), ..leads() }, 1).await;
        store.record_event(key, Event::UploadBegan, None, from_ms(1)).await.unwrap();
        let depth = store.queue_depth("default").await.unwrap();
        let oldest_pending_at = Some(from_ms(1_000));
        assert_eq!(depth, QueueDepth { pending_jobs: 1, pending_batches: 3, running_jobs: 1, oldest_pending_at });
        assert_eq!(store.queue_depth("none").await.unwrap(), QueueDepth::default());
        assert_eq!(store.unended_by_instance().await.unwrap(), [("default".into(), 2), ("other".into(), 1)]);
    }

    #[tokio::test]
    async fn a_full_queue_sets_the_observed_limit_until_one_more_fits() {
        let store = store().await;
        let id = add(&store, leads(), 4).await;
        let go = async |part, event| {
            store.record_event(BatchKey { job: id, part }, event, None, from_ms(5)).await.unwrap();
        };
        let accepted = |id: &str| Event::Accepted { marketo_batch_id: id.into(), status: RemoteStatus::Queued };
        for part in 1..=3 {
            go(part, Event::UploadBegan).await;
        }
        go(1, accepted("1")).await;
        go(2, accepted("2")).await;
        assert_eq!(store.instance("default").await.unwrap().observed_slot_limit, None);
        let full = Event::Requeued {
            defer_reason: DeferReason::QueueFull,
            reason: "1016".into(),
            not_before: Some(from_ms(900)),
        };
        go(3, full).await;
        let instance = store.instance("default").await.unwrap();
        assert_eq!((instance.observed_slot_limit, instance.slot_probe_at), (Some(2), Some(from_ms(900))));
        // The batch itself may be uploaded as soon as a slot is free.
        assert_eq!(store.batch(BatchKey { job: id, part: 3 }).await.unwrap().1.not_before, None);
        go(3, Event::UploadBegan).await;
        go(3, accepted("3")).await;
        let instance = store.instance("default").await.unwrap();
        assert_eq!((instance.observed_slot_limit, instance.slot_probe_at), (Some(3), Some(from_ms(5))));
    }

    #[tokio::test]
    async fn what_an_outage_teaches_is_durable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.db");
        let store = Store::open(&path).await.unwrap();
        let id = add(&store, leads(), 3).await;
        let key = |part| BatchKey { job: id, part };
        let accepted = Event::Accepted { marketo_batch_id: "1".into(), status: RemoteStatus::Queued };
        let scope = FailureScope::Instance { backoff_until: from_ms(900), tried_alone_for: Duration::from_secs(7) };
        let refused = Event::Refused { reason: "611".into(), not_before: from_ms(900), scope };
        for (part, event) in [(1, accepted), (2, refused.clone()), (3, refused)] {
            store.record_event(key(part), Event::UploadBegan, None, from_ms(5)).await.unwrap();
            store.record_event(key(part), event, None, from_ms(6)).await.unwrap();
        }
        store.close().await;
        drop(store);
        let store = Store::open(&path).await.unwrap();
        let instance = store.instance("default").await.unwrap();
        assert_eq!((instance.uploads_ended, instance.last_success), (3, 1));
        assert_eq!((instance.last_failed, instance.service_failures), (Some(key(3)), 2));
        let tried = store.batch(key(2)).await.unwrap().1.tried;
        assert_eq!((tried.attempts, tried.last_upload, tried.alone), (0, Some(2), Duration::from_secs(7)));
        store.close().await;
    }

    #[tokio::test]
    async fn service_failures_count_until_an_upload_is_accepted() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 1).await, part: 1 };
        for at in [1, 150] {
            store.record_event(key, Event::UploadBegan, None, from_ms(at)).await.unwrap();
            let until = from_ms(at + 50);
            let back =
                Event::Requeued { defer_reason: DeferReason::Service, reason: "503".into(), not_before: Some(until) };
            store.record_event(key, back, None, from_ms(at)).await.unwrap();
        }
        let instance = store.instance("default").await.unwrap();
        assert_eq!((instance.service_failures, instance.backoff_until), (2, Some(from_ms(200))));
        store.record_event(key, Event::UploadBegan, None, from_ms(300)).await.unwrap();
        let accepted = Event::Accepted { marketo_batch_id: "1".into(), status: RemoteStatus::Queued };
        store.record_event(key, accepted, None, from_ms(301)).await.unwrap();
        let instance = store.instance("default").await.unwrap();
        assert_eq!((instance.service_failures, instance.backoff_until), (0, None));
    }

    #[tokio::test]
    async fn simultaneous_upload_failures_count_once() {
        let store = store().await;
        let id = add(&store, leads(), 3).await;
        let go = async |part, event, at| {
            store.record_event(BatchKey { job: id, part }, event, None, from_ms(at)).await.unwrap();
        };
        for part in 1..=3 {
            go(part, Event::UploadBegan, 1).await;
        }
        for (part, until) in [(1, 100), (2, 200), (3, 300)] {
            let reason = String::from("503");
            go(
                part,
                Event::Requeued { defer_reason: DeferReason::Service, reason, not_before: Some(from_ms(until)) },
                50,
            )
            .await;
        }
        let instance = store.instance("default").await.unwrap();
        assert_eq!((instance.service_failures, instance.backoff_until), (1, Some(from_ms(100))));
        go(1, Event::UploadBegan, 100).await;
        go(1, Event::Rejected { reason: "1006".into() }, 101).await;
        assert_eq!(store.instance("default").await.unwrap().service_failures, 1, "a gateway may have sent that");
        go(2, Event::UploadBegan, 102).await;
        let accepted = Event::Accepted { marketo_batch_id: "1".into(), status: RemoteStatus::Queued };
        go(2, accepted, 103).await;
        assert_eq!(store.instance("default").await.unwrap().service_failures, 0);
    }
}
