//! Events of batches: applies an event to a batch, its job and its instance, and writes the history, in one
//! transaction.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;

use crate::domain::row_counts::RowCounts;
use crate::domain::shared_import::EventReach;
use crate::domain::{BatchKey, BatchState, Event, JobId, JobState, job_state};
use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;
use crate::store::events::{ChangeEvent, InstanceChange, MetricEvent};
use crate::store::tables::batches::BatchBefore;
use crate::store::tables::duplicate_batch_ids::DuplicateId;
use crate::store::tables::history::NewHistoryEntry;
use crate::store::tables::row_mapping::parse_column;

impl StoreTx<'_> {
    /// Records an event of a batch and returns the batch's new state. `request_id` is Marketo's, where a response
    /// caused the event.
    pub(crate) async fn record_event(
        &mut self,
        key: BatchKey,
        event: Event,
        request_id: Option<String>,
        now: Timestamp,
    ) -> Result<BatchState, StoreError> {
        self.apply_event(key, &event, request_id.as_deref(), now).await
    }

    /// Applies an event to its batch, and to the job and the instance of the batch; where the batch shares an import,
    /// to the other batches that share it too.
    pub(crate) async fn apply_event(
        &mut self,
        key: BatchKey,
        event: &Event,
        request_id: Option<&str>,
        now: Timestamp,
    ) -> Result<BatchState, StoreError> {
        let shared = self.shared_import_of(key).await?;
        let own = shared.as_ref().map(|shared| event.within_shared_import(shared.batches));
        let record = EventRecord { event: own.as_ref().unwrap_or(event), request_id, now };
        let role = if shared.is_some() { ImportRole::Lead } else { ImportRole::Alone };
        let before = self.batch_progress(key).await?;
        let change = self.apply_to_batch(BatchBefore { key, progress: before }, &record, role).await?;
        let duplicate = match event {
            Event::Accepted { marketo_batch_id: id, .. } => {
                self.check_batch_id(key, id, now).await?.map(|other| DuplicateId { key, other, id })
            }
            // Others that share the import still wait for it.
            Event::Abandoned { counts_until } if shared.as_ref().is_none_or(|shared| shared.sharing == 1) => {
                self.insert_abandoned(key, *counts_until, now).await?;
                None
            }
            _ => None,
        };
        let instance = self.instance_of(key.job).await?;
        self.wake(&instance, InstanceChange::Batch(key));
        self.count(MetricEvent::from_batch_event(instance.clone(), event));
        if let (Some(shared), true) = (&shared, change.reaches(event)) {
            if let Event::ImportEnded { counts, .. } = event {
                self.set_shared_counts(shared.id, counts).await?;
            }
            // Read at once: there may be a thousand, and each statement delays all other writes.
            for before in self.progress_of_sharing(shared.id).await? {
                let member = before.key;
                if member == key {
                    continue;
                }
                self.apply_to_batch(before, &record, ImportRole::Member).await?;
                if let Some(duplicate) = duplicate {
                    self.mark_duplicate_id(DuplicateId { key: member, ..duplicate }, now).await?;
                }
            }
        }
        let upload = self.update_instance_after(&instance, key, event, now).await?;
        if let Some(shared) = &shared {
            if let Some(upload) = upload {
                self.set_last_upload_of_sharing(shared.id, upload).await?;
            }
            self.leave_shared_import(shared.id).await?;
        }
        Ok(change.after)
    }

    /// Applies an event to one batch and to its job.
    async fn apply_to_batch(
        &mut self,
        before: BatchBefore,
        record: &EventRecord<'_>,
        role: ImportRole,
    ) -> Result<StateChange, StoreError> {
        let EventRecord { event, request_id, now } = *record;
        let BatchBefore { key, progress: before } = before;
        let batch = match role {
            ImportRole::Member => before.after_shared_event(event, now)?,
            ImportRole::Alone | ImportRole::Lead => before.after_event(event, now)?,
        };
        self.save_progress(key, &batch).await?;
        // A poll without a change gets no entry: one in five seconds would hide the others.
        let is_news = match event {
            Event::Polled { .. } => batch.state != before.state,
            Event::UnknownStatus { reason, .. } => self.is_new_entry(key, event.name(), reason, now).await?,
            _ => true,
        };
        if is_news {
            let message = event.message().or(batch.message.as_deref());
            let entry = NewHistoryEntry::of_batch(key, now, event.name(), batch.shown_state());
            self.insert_history(NewHistoryEntry { message, request_id, ..entry }).await?;
        }
        if matches!(event, Event::Retried) {
            self.forget_shared_import(key).await?;
        }
        // One alert for an import: all its batches are held for the same reason.
        let is_held = batch.shown_state() == BatchState::Held && before.shown_state() != BatchState::Held;
        if is_held && role != ImportRole::Member {
            self.alert_of_held_batch(key, batch.message.as_deref().unwrap_or_default(), now).await?;
        }
        if is_news || batch.counts != before.counts || batch.message != before.message {
            self.publish(ChangeEvent::Batch(key));
        }
        // The rows of a shared import that has ended are counted when its reports are divided.
        let counted = match event {
            Event::ImportEnded { counts, .. } if role == ImportRole::Alone => Some(counts),
            Event::ImportLost { counts, .. } => Some(counts),
            _ => None,
        };
        if let Some(counts) = counted {
            let mut rows = RowCounts::complete(self.rows_sent(key).await?, *counts);
            // An import that failed as a whole has imported no row that it does not count.
            if matches!(event, Event::ImportLost { .. }) {
                rows.unaccounted = Some(0);
            }
            self.record_discrepancy(key, &rows, now).await?;
            let instance = self.instance_of(key.job).await?;
            self.count(MetricEvent::Rows { instance, rows });
        }
        self.apply_batch_rules(key, event, batch.state, now).await?;
        self.update_job_state(key.job, now).await?;
        Ok(StateChange { before: before.state, after: batch.state })
    }

    /// Stores an abandoned import, which occupies a slot until `until`.
    async fn insert_abandoned(&mut self, key: BatchKey, until: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM abandoned WHERE until <= ?")
            .bind(now.as_millisecond())
            .execute(&mut *self.conn)
            .await?;
        sqlx::query(
            "INSERT INTO abandoned (instance, marketo_batch_id, until)
             SELECT j.instance, coalesce(b.marketo_batch_id, ''), ?
             FROM batch b JOIN job j ON j.id = b.job_id WHERE b.job_id = ? AND b.part = ?",
        )
        .bind(until.as_millisecond())
        .bind(key.job.0)
        .bind(key.part)
        .execute(&mut *self.conn)
        .await?;
        Ok(())
    }

    /// Writes a history entry where Marketo's counts of an ended import differ from the rows that were sent.
    pub(crate) async fn record_discrepancy(
        &mut self,
        key: BatchKey,
        rows: &RowCounts,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(discrepancy) = rows.discrepancy() else { return Ok(()) };
        let entry = NewHistoryEntry::of_batch(key, now, "counts-differ", BatchState::Collecting);
        self.insert_history(NewHistoryEntry { message: Some(&discrepancy), ..entry }).await
    }

    /// Derives the job's state from its batches. When the job ends, queues its notification and writes the history.
    async fn update_job_state(&mut self, id: JobId, now: Timestamp) -> Result<(), StoreError> {
        let derived = self.derive_job_state(id).await?;
        let state = derived.state;
        if state == derived.before {
            return Ok(());
        }
        let error = derived.error.as_deref().filter(|_| state.is_terminal());
        let changed = sqlx::query(
            "UPDATE job SET state = ?1, error = ?2, finished_at = ?3,
                            started_at = CASE WHEN ?1 = 'running' THEN coalesce(started_at, ?4) ELSE started_at END
             WHERE id = ?5
             RETURNING instance, created_at, EXISTS (SELECT 1 FROM notification_enabled) AS is_notified",
        )
        .bind(state.as_str())
        .bind(error)
        .bind(state.is_terminal().then_some(now.as_millisecond()))
        .bind(now.as_millisecond())
        .bind(id.0)
        .fetch_one(&mut *self.conn)
        .await?;
        if state.is_terminal() {
            let took = now.as_millisecond() - changed.try_get::<i64, _>("created_at")?;
            let took = Duration::from_millis(took.max(0).cast_unsigned());
            self.count(MetricEvent::Ended { instance: changed.try_get("instance")?, state, took });
            if changed.try_get("is_notified")? {
                self.enqueue_notification(id, now).await?;
            }
            let entry = NewHistoryEntry::of_job(id, now, "ended", state);
            self.insert_history(NewHistoryEntry { message: error, ..entry }).await?;
        }
        self.publish(ChangeEvent::Job(id));
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns the name of the instance of a job.
    pub(crate) async fn instance_of(&mut self, id: JobId) -> Result<String, StoreError> {
        Ok(sqlx::query_scalar("SELECT instance FROM job WHERE id = ?").bind(id.0).fetch_one(&mut *self.conn).await?)
    }

    async fn derive_job_state(&mut self, id: JobId) -> Result<DerivedState, StoreError> {
        let rows = sqlx::query(
            "SELECT b.part, b.state, b.message, j.state AS job_state, j.stop_reason
             FROM job j JOIN batch b ON b.job_id = j.id WHERE j.id = ? ORDER BY b.byte_from",
        )
        .bind(id.0)
        .fetch_all(&mut *self.conn)
        .await?;
        let first = rows.first().ok_or(StoreError::NoJob(id))?;
        let mut states = Vec::with_capacity(rows.len());
        let mut error = None;
        for row in &rows {
            let state: BatchState = parse_column(row, "state")?;
            if state == BatchState::Failed && error.is_none() {
                let message = row.try_get::<Option<String>, _>("message")?.unwrap_or_default();
                let part: u32 = row.try_get("part")?;
                error = Some(if rows.len() == 1 { message } else { format!("part {part}: {message}") });
            }
            states.push(state);
        }
        let (before, state) = (parse_column(first, "job_state")?, job_state(states));
        Ok(match first.try_get("stop_reason")? {
            // Its batches were cancelled by a rule, and not by a command.
            Some(reason) if matches!(state, JobState::Failed | JobState::Cancelled) => {
                DerivedState { before, state: JobState::Failed, error: Some(reason) }
            }
            _ => DerivedState { before, state, error },
        })
    }
}

/// An event that is recorded for each of the batches that it concerns.
#[derive(Clone, Copy)]
struct EventRecord<'a> {
    event: &'a Event,
    /// Marketo's, where a response caused the event.
    request_id: Option<&'a str>,
    now: Timestamp,
}

/// How a batch shares its import.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ImportRole {
    /// It does not.
    Alone,
    /// The event was recorded for it.
    Lead,
    /// The event was recorded for another one.
    Member,
}

/// The states of a batch before and after an event.
struct StateChange {
    before: BatchState,
    after: BatchState,
}

impl StateChange {
    /// Returns whether the event changes the other batches that share the import too.
    fn reaches(&self, event: &Event) -> bool {
        match event.reach() {
            EventReach::Batch | EventReach::Lead => false,
            EventReach::Import => !matches!(event, Event::Polled { .. }) || self.before != self.after,
        }
    }
}

/// What the batches of a job say about it.
struct DerivedState {
    /// The job's stored state.
    before: JobState,
    state: JobState,
    /// The message of the first failed batch.
    error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::domain::{Counts, DeferReason, FailureScope, RemoteStatus};
    use crate::store::tables::commands::CommandOutcome;
    use crate::store::test_util::{accepted, add, ended, leads, store};

    #[tokio::test]
    async fn a_batch_and_its_job_go_through_all_states() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 1).await, part: 1 };
        let mut listener = store.subscribe();
        let importing =
            Event::Polled { status: RemoteStatus::Importing, counts: Counts::default(), waited: Duration::ZERO };
        for (at, event) in
            [(1, Event::UploadBegan), (2, accepted("3404")), (3, importing), (4, ended(0, 1)), (5, Event::Collected)]
        {
            store.record_event(key, event, Some(format!("r{at}")), from_ms(at)).await.unwrap();
        }
        let (job, batch) = store.batch(key).await.unwrap();
        assert_eq!(
            (job.state, job.started_at, job.finished_at),
            (JobState::Complete, Some(from_ms(1)), Some(from_ms(5)))
        );
        assert_eq!((job.rows.total, job.rows.failed, batch.state), (1, Some(1), BatchState::Complete));
        assert_eq!((batch.marketo_batch_id.as_deref(), batch.importing_at), (Some("3404"), Some(from_ms(3))));
        let history = store.history(key.job).await.unwrap();
        let events: Vec<_> = history.iter().map(|entry| entry.event.as_str()).collect();
        assert_eq!(events, ["received", "upload-began", "accepted", "polled", "import-ended", "collected", "ended"]);
        assert_eq!(history[2].request_id.as_deref(), Some("r2"));
        let mut received = Vec::new();
        while let Ok(change) = listener.try_recv() {
            received.push(change);
        }
        assert_eq!(
            received.iter().filter(|change| **change == ChangeEvent::Job(key.job)).count(),
            2,
            "running, complete"
        );
        assert_eq!(received.iter().filter(|change| **change == ChangeEvent::Batch(key)).count(), 5);
    }

    #[tokio::test]
    async fn an_invalid_transition_changes_nothing() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 1).await, part: 1 };
        let before = store.job(key.job).await.unwrap();
        let error = store.record_event(key, Event::Collected, None, from_ms(1)).await.unwrap_err();
        assert!(matches!(error, StoreError::Illegal(_)));
        assert_eq!(store.job(key.job).await.unwrap(), before);
        assert_eq!(store.history(key.job).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_put_back_restores_the_attempt_and_a_refusal_does_not() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 1).await, part: 1 };
        store.record_event(key, Event::UploadBegan, None, from_ms(1)).await.unwrap();
        let requeued = Event::Requeued {
            defer_reason: DeferReason::ListBusy,
            reason: "list".into(),
            not_before: Some(from_ms(9)),
        };
        store.record_event(key, requeued, None, from_ms(2)).await.unwrap();
        let (job, batch) = store.batch(key).await.unwrap();
        assert_eq!((batch.attempts, batch.not_before, job.state), (0, Some(from_ms(9)), JobState::Pending));
        store.record_event(key, Event::UploadBegan, None, from_ms(9)).await.unwrap();
        store
            .record_event(
                key,
                Event::Refused { reason: "611".into(), not_before: from_ms(20), scope: FailureScope::Batch },
                None,
                from_ms(10),
            )
            .await
            .unwrap();
        assert_eq!(store.batch(key).await.unwrap().1.attempts, 1);
    }

    #[tokio::test]
    async fn a_failed_batch_fails_its_job_after_the_others_ended() {
        let store = store().await;
        let id = add(&store, leads(), 2).await;
        let (one, two) = (BatchKey { job: id, part: 1 }, BatchKey { job: id, part: 2 });
        store.record_event(one, Event::UploadBegan, None, from_ms(1)).await.unwrap();
        store
            .record_event(one, Event::Rejected { reason: "1006: no such field".into() }, None, from_ms(2))
            .await
            .unwrap();
        assert_eq!(store.job(id).await.unwrap().state, JobState::Running);
        store.record_event(two, Event::UploadBegan, None, from_ms(3)).await.unwrap();
        store.record_event(two, accepted("9"), None, from_ms(4)).await.unwrap();
        store.record_event(two, ended(1, 0), None, from_ms(5)).await.unwrap();
        store.record_event(two, Event::Collected, None, from_ms(6)).await.unwrap();
        let job = store.job(id).await.unwrap();
        assert_eq!((job.state, job.error.as_deref()), (JobState::Failed, Some("part 1: 1006: no such field")));
        let settled = store.retry(id, from_ms(7)).await.unwrap();
        assert_eq!(settled, CommandOutcome { moved: 1, state: JobState::Running });
        let job = store.job(id).await.unwrap();
        assert_eq!((job.error, job.finished_at, job.batches[1].state), (None, None, BatchState::Complete));
    }

    #[tokio::test]
    async fn cancel_leaves_batches_that_marketo_has() {
        let store = store().await;
        let id = add(&store, leads(), 2).await;
        let one = BatchKey { job: id, part: 1 };
        store.record_event(one, Event::UploadBegan, None, from_ms(1)).await.unwrap();
        store.record_event(one, accepted("9"), None, from_ms(2)).await.unwrap();
        assert_eq!(store.cancel(id, from_ms(3)).await.unwrap(), CommandOutcome { moved: 1, state: JobState::Running });
        assert!(store.cancel(id, from_ms(4)).await.unwrap_err().to_string().contains("can't be called back"));
        store.record_event(one, ended(1, 0), None, from_ms(5)).await.unwrap();
        store.record_event(one, Event::Collected, None, from_ms(6)).await.unwrap();
        assert_eq!(store.job(id).await.unwrap().state, JobState::Cancelled);
        assert!(store.cancel(id, from_ms(7)).await.unwrap_err().to_string().contains("has ended"));
        assert_eq!(store.retry(id, from_ms(8)).await.unwrap().moved, 1);
    }

    #[tokio::test]
    async fn a_settled_batch_is_polled_from_there() {
        let store = store().await;
        let id = add(&store, leads(), 2).await;
        let (one, two) = (BatchKey { job: id, part: 1 }, BatchKey { job: id, part: 2 });
        for key in [one, two] {
            store.record_event(key, Event::UploadBegan, None, from_ms(1)).await.unwrap();
        }
        store.record_event(two, accepted("3405"), None, from_ms(2)).await.unwrap();
        let early = store.settle(one, "3404".into(), from_ms(2)).await.unwrap_err().to_string();
        assert_eq!(early, format!("part 1 of job {id} is not held: it is uploading"));
        let held = Event::Held { reason: "502".into(), unconfirmed_until: from_ms(9_999), scope: FailureScope::Daemon };
        store.record_event(one, held, None, from_ms(3)).await.unwrap();
        let taken = store.settle(one, "3405".into(), from_ms(4)).await.unwrap_err().to_string();
        assert_eq!(taken, format!("Marketo's batch 3405 is part 2 of job {id}"));
        assert_eq!(
            store.snapshot("default", from_ms(4), 10, std::time::Duration::MAX).await.unwrap().unconfirmed_until,
            [from_ms(9_999)]
        );
        store.settle(one, "3404".into(), from_ms(5)).await.unwrap();
        let (_, batch) = store.batch(one).await.unwrap();
        assert_eq!((batch.state, batch.accepted_at), (BatchState::Queued, Some(from_ms(5))));
        assert_eq!(batch.marketo_batch_id.as_deref(), Some("3404"));
        assert_eq!(
            store.snapshot("default", from_ms(5), 10, std::time::Duration::MAX).await.unwrap().unconfirmed_until,
            []
        );
        assert_eq!(store.history(id).await.unwrap().last().unwrap().event, "settled");
    }
}
