//! Table `instance`: pauses, observed limits and backoff of each instance, and the depth of its queue.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::clock::from_ms;
use crate::domain::instance::{InstanceState, Pause, PauseKind};
use crate::domain::{BatchKey, Event, JobId};
use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;
use crate::store::events::{ChangeEvent, InstanceChange};
use crate::store::tables::column_values::ColumnValues;
use crate::store::tables::instance_lists::names_parameter;
use crate::store::tables::row_mapping::{optional_parse_column, size_column, time_column, time_value};

/// The queue of one instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Jobs of which no batch has been uploaded.
    pub pending_jobs: u64,
    /// Batches that wait for their upload, those of running jobs included.
    pub pending_batches: u64,
    /// Jobs that have begun and not ended.
    pub running_jobs: u64,
    /// Since when the oldest pending job could begin: its acceptance, or its earliest time. Jobs whose earliest time is
    /// still to come do not count.
    pub oldest_pending_at: Option<Timestamp>,
}

impl FromRow<'_, SqliteRow> for QueueDepth {
    fn from_row(row: &SqliteRow) -> Result<QueueDepth, sqlx::Error> {
        let running_jobs = size_column(row, "running")?;
        Ok(QueueDepth {
            pending_jobs: size_column(row, "unended")? - running_jobs,
            pending_batches: size_column(row, "batches")?,
            running_jobs,
            oldest_pending_at: time_column(row, "oldest")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for InstanceState {
    fn from_row(row: &SqliteRow) -> Result<InstanceState, sqlx::Error> {
        let pause = match optional_parse_column(row, "pause")? {
            None => None,
            Some(kind) => Some(Pause {
                kind,
                reason: row.try_get("pause_reason")?,
                at: from_ms(row.try_get("paused_at")?),
                until: time_column(row, "pause_until")?,
            }),
        };
        let suspended_pause = match time_column(row, "suspended_at")? {
            None => None,
            Some(at) => {
                Some(Pause { kind: PauseKind::Operator, reason: row.try_get("suspended_reason")?, at, until: None })
            }
        };
        Ok(InstanceState {
            pause,
            suspended_pause,
            observed_slot_limit: row.try_get("observed_slot_limit")?,
            slot_probe_at: time_column(row, "slot_probe_at")?,
            service_failures: row.try_get("service_failures")?,
            backoff_until: time_column(row, "backoff_until")?,
            uploads_ended: size_column(row, "uploads_ended")?,
            last_success: size_column(row, "last_success")?,
            last_failed: match row.try_get::<Option<i64>, _>("failed_job")? {
                None => None,
                Some(job) => Some(BatchKey { job: JobId(job), part: row.try_get("failed_part")? }),
            },
        })
    }
}

/// Returns the row of an instance.
fn instance_columns<'a>(name: &'a str, state: &'a InstanceState) -> ColumnValues {
    let (pause, suspended) = (state.pause.as_ref(), state.suspended_pause.as_ref());
    ColumnValues::default()
        .set("name", name)
        .set("pause", pause.map(|pause| pause.kind.as_str()))
        .set("pause_reason", pause.map(|pause| pause.reason.as_str()))
        .set("paused_at", time_value(pause.map(|pause| pause.at)))
        .set("pause_until", time_value(pause.and_then(|pause| pause.until)))
        .set("suspended_reason", suspended.map(|pause| pause.reason.as_str()))
        .set("suspended_at", time_value(suspended.map(|pause| pause.at)))
        .set("observed_slot_limit", state.observed_slot_limit)
        .set("slot_probe_at", time_value(state.slot_probe_at))
        .set("service_failures", state.service_failures)
        .set("backoff_until", time_value(state.backoff_until))
        .set("uploads_ended", state.uploads_ended.cast_signed())
        .set("last_success", state.last_success.cast_signed())
        .set("failed_job", state.last_failed.map(|key| key.job.0))
        .set("failed_part", state.last_failed.map(|key| key.part))
}

impl StoreTx<'_> {
    /// Adds a pause to an instance, and queues its alert where it is a new one.
    pub(crate) async fn pause_instance(&mut self, name: String, pause: Pause) -> Result<(), StoreError> {
        let before = self.instance(&name).await?;
        self.alert_of_pause(&name, &before, &pause).await?;
        self.change_instance(name, &before, &before.with_pause(pause)).await
    }

    /// Ends a pause of an instance; with `kind`, only one of that kind.
    pub(crate) async fn resume_instance(&mut self, name: String, kind: Option<PauseKind>) -> Result<(), StoreError> {
        let before = self.instance(&name).await?;
        self.change_instance(name, &before, &before.without_pause(kind)).await
    }

    /// Records that Marketo is not reachable: no upload of the instance before `until`.
    pub(crate) async fn record_service_failure(
        &mut self,
        name: String,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let before = self.instance(&name).await?;
        self.change_instance(name, &before, &before.after_service_failure(until, now)).await
    }

    async fn change_instance(
        &mut self,
        name: String,
        before: &InstanceState,
        after: &InstanceState,
    ) -> Result<(), StoreError> {
        self.save_instance(&name, before, after).await?;
        self.wake(&name, InstanceChange::Other);
        self.publish(ChangeEvent::Instance(name));
        Ok(())
    }

    async fn save_instance(
        &mut self,
        name: &str,
        before: &InstanceState,
        after: &InstanceState,
    ) -> Result<(), StoreError> {
        if before != after {
            instance_columns(name, after).upsert_into("instance", "name").execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    /// Updates the instance's state after an event of one of its batches, in the transaction of that event. Returns the
    /// number of the upload that the event ended, if it did.
    pub(crate) async fn update_instance_after(
        &mut self,
        name: &str,
        key: BatchKey,
        event: &Event,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        if !event.ends_upload() {
            return Ok(None);
        }
        let in_flight = self.count_occupied_slots(name).await?;
        let before = self.instance(name).await?;
        let after = before.after_event(key, event, in_flight, now);
        self.save_instance(name, &before, &after).await?;
        self.set_last_upload(key, after.uploads_ended).await?;
        Ok(Some(after.uploads_ended))
    }

    /// Stores the number of a batch's last upload in the instance's order.
    pub(crate) async fn set_last_upload(&mut self, key: BatchKey, upload: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE batch SET last_upload = ? WHERE job_id = ? AND part = ?")
            .bind(upload.cast_signed())
            .bind(key.job.0)
            .bind(key.part)
            .execute(&mut *self.conn)
            .await?;
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns the state of an instance; the default for one that has no row.
    pub(crate) async fn instance(&mut self, name: &str) -> Result<InstanceState, StoreError> {
        Ok(self.instances(&names_parameter([name])).await?.remove(name).unwrap_or_default())
    }

    /// Returns the state of each instance that has a row; `names` is a [`names_parameter`].
    pub(crate) async fn instances(&mut self, names: &str) -> Result<HashMap<String, InstanceState>, StoreError> {
        let rows = sqlx::query(
            "SELECT name, pause, pause_reason, paused_at, pause_until, suspended_reason, suspended_at, observed_slot_limit,
                    slot_probe_at, service_failures, backoff_until, uploads_ended, last_success, failed_job, failed_part
             FROM instance WHERE name IN (SELECT value FROM json_each(?))",
        )
        .bind(names)
        .fetch_all(&mut *self.conn)
        .await?;
        let states = rows.iter().map(|row| Ok((row.try_get("name")?, InstanceState::from_row(row)?)));
        Ok(states.collect::<Result<_, sqlx::Error>>()?)
    }

    /// Returns how many jobs and batches of each of these instances are pending or running; `names` is a
    /// [`names_parameter`].
    pub(crate) async fn queue_depths(
        &mut self,
        names: &str,
        now: Timestamp,
    ) -> Result<HashMap<String, QueueDepth>, StoreError> {
        // Counted in indexes alone, which are short to read. Ids rise with the time of acceptance, so of the jobs without
        // an earliest time the first one is the oldest.
        let rows = sqlx::query(
            "SELECT i.value AS instance,
                    (SELECT count(*) FROM job WHERE instance = i.value AND state IN ('pending', 'running')) AS unended,
                    (SELECT count(*) FROM job WHERE instance = i.value AND state = 'running') AS running,
                    (SELECT count(*) FROM batch WHERE instance = i.value AND state = 'pending') AS batches,
                    (SELECT min(due) FROM (
                       SELECT due FROM (SELECT j.created_at AS due FROM batch b CROSS JOIN job j ON j.id = b.job_id
                                      WHERE b.instance = i.value AND b.state = 'pending' AND j.state = 'pending'
                                        AND j.not_before IS NULL
                                      ORDER BY b.job_id LIMIT 1)
                       UNION ALL
                       SELECT max(created_at, not_before) FROM job
                       WHERE instance = i.value AND not_before IS NOT NULL AND state IN ('pending', 'running')
                         AND state = 'pending' AND not_before <= ?2)) AS oldest
             FROM json_each(?1) i",
        )
        .bind(names)
        .bind(now.as_millisecond())
        .fetch_all(&mut *self.conn)
        .await?;
        let depths = rows.iter().map(|row| Ok((row.try_get("instance")?, QueueDepth::from_row(row)?)));
        Ok(depths.collect::<Result<_, sqlx::Error>>()?)
    }

    /// Returns the number of unended jobs of each instance that has any.
    pub(crate) async fn unended_by_instance(&mut self) -> Result<Vec<(String, u64)>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT instance, count(*) AS jobs FROM job WHERE state IN ('pending', 'running') GROUP BY instance",
        )
        .fetch_all(&mut *self.conn)
        .await?;
        rows.iter().map(|row| Ok((row.try_get("instance")?, size_column(row, "jobs")?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{DeferReason, FailureScope, RemoteStatus};
    use crate::store::handle::Store;
    use crate::store::new_job::NewJob;
    use crate::store::test_util::{StatusAt, add, leads, status, store};
    use std::time::Duration;

    #[tokio::test]
    async fn a_persons_pause_outlasts_a_quota_and_a_resume_lifts_all() {
        let store = store().await;
        let quota = |at| {
            let (kind, reason) = (PauseKind::Quota, "607".to_owned());
            Pause { kind, reason, at: from_ms(at), until: Some(from_ms(99)) }
        };
        let asked_for = Pause { kind: PauseKind::Operator, reason: "asked for".into(), at: from_ms(2), until: None };
        store.pause("default", quota(1)).await.unwrap();
        store.pause("default", asked_for).await.unwrap();
        store.pause("default", quota(3)).await.unwrap();
        let pause = store.instance("default").await.unwrap().pause.unwrap();
        assert_eq!((pause.kind, pause.at, pause.until), (PauseKind::Quota, from_ms(3), Some(from_ms(99))));
        store.resume("default", Some(PauseKind::Quota)).await.unwrap();
        let pause = store.instance("default").await.unwrap().pause.unwrap();
        assert_eq!((pause.kind, pause.at, pause.reason.as_str()), (PauseKind::Operator, from_ms(2), "asked for"));
        store.resume("default", None).await.unwrap();
        assert_eq!(store.instance("default").await.unwrap(), InstanceState::default());
    }

    #[tokio::test]
    async fn waiting_jobs_are_counted_by_instance() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 3).await, part: 2 };
        add(&store, leads(), 1).await;
        add(&store, NewJob { instance: "other".into(), ..leads() }, 1).await;
        store.record_event(key, Event::UploadBegan, None, from_ms(1)).await.unwrap();
        let depth = status(&store, StatusAt::of("default")).await.depth;
        let oldest_pending_at = Some(from_ms(1_000));
        assert_eq!(depth, QueueDepth { pending_jobs: 1, pending_batches: 3, running_jobs: 1, oldest_pending_at });
        assert_eq!(status(&store, StatusAt::of("none")).await.depth, QueueDepth::default());

        let early = NewJob { instance: "third".into(), not_before: Some(from_ms(5_000)), ..leads() };
        add(&store, early, 1).await;
        let oldest = async |now| {
            let third = StatusAt { now: from_ms(now), ..StatusAt::of("third") };
            status(&store, third).await.depth.oldest_pending_at
        };
        assert_eq!([oldest(4_999).await, oldest(6_000).await], [None, Some(from_ms(5_000))]);
        store.cancel(JobId(4), from_ms(6_000)).await.unwrap();
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
    async fn the_backoff_of_an_outage_is_stored() {
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
                Event::Requeued {
                    defer_reason: DeferReason::Service,
                    reason: reason.into(),
                    not_before: Some(from_ms(until)),
                },
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
