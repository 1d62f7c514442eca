//! Events of batches: applies an event to a batch, its job and its instance, and writes the history, in one transaction.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;

use crate::domain::batch::{BatchProgress, QueryFailures};
use crate::domain::row_counts::RowCounts;
use crate::domain::{BatchKey, BatchState, Counts, DeferReason, Event, JobId, job_state};
use crate::store::engine::writer::StoreTx;
use crate::store::error::StoreError;
use crate::store::events::MetricEvent;
use crate::store::tables::jobs::write_history;
use crate::store::tables::notifications::enqueue;
use crate::store::tables::row_mapping::{optional_size_column, parse_column, size_column, time_column};
use crate::store::tables::submissions::PartRange;
use crate::store::tables::{duplicate_batch_ids, history, instances, submissions};
use crate::store::{ChangeEvent, Store};

/// The result of [`Store::record_query_failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedQueryFailure {
    /// Failures in a row, this one included.
    pub failures: QueryFailures,
    /// Whether the history got an entry: its last one did not say the same.
    pub is_news: bool,
}

impl Store {
    /// Records an event of a batch and returns the batch's new state. The batch, the history, the job's state and the
    /// instance's state change in one transaction. `request_id` is Marketo's, where a response caused the event.
    ///
    /// # Errors
    /// [`StoreError::Illegal`] where the state machine has no such transition; nothing is changed then.
    pub async fn record_event(
        &self,
        key: BatchKey,
        event: Event,
        request_id: Option<String>,
        now: Timestamp,
    ) -> Result<BatchState, StoreError> {
        self.write("record_event", move |tx| {
            Box::pin(async move { apply_event(tx, key, &event, request_id.as_deref(), now).await })
        })
        .await
    }

    /// Splits a batch that Marketo found too large (413): it keeps the first half, and the second becomes a new batch of the
    /// same job, with the next free number.
    ///
    /// # Errors
    /// [`StoreError::Illegal`] if the batch is not being uploaded.
    pub async fn split_batch(
        &self,
        key: BatchKey,
        halves: [PartRange; 2],
        reason: String,
        request_id: Option<String>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write("split_batch", move |tx| {
            Box::pin(async move {
                let [first, second] = &halves;
                apply_event(tx, key, &Event::Split { reason }, request_id.as_deref(), now).await?;
                sqlx::query("UPDATE batch SET byte_from = ?, byte_to = ?, rows = ? WHERE job_id = ? AND part = ?")
                    .bind(first.from.cast_signed())
                    .bind(first.to.cast_signed())
                    .bind(first.rows.cast_signed())
                    .bind(key.job.0)
                    .bind(key.part)
                    .execute(&mut *tx.conn)
                    .await?;
                let last: u32 = sqlx::query_scalar("SELECT max(part) FROM batch WHERE job_id = ?")
                    .bind(key.job.0)
                    .fetch_one(&mut *tx.conn)
                    .await?;
                submissions::insert_batch(tx, key.job, last + 1, second).await
            })
        })
        .await
    }

    /// Records that a query about an import (its status, its reports) failed or was rejected; it is sent again at
    /// `not_before`. The batch's state stays. A reason that the last history entry has already gets no new entry.
    ///
    /// # Errors
    /// [`StoreError::NoBatch`] where the batch has no import that could be queried.
    pub async fn record_query_failure(
        &self,
        key: BatchKey,
        reason: String,
        refused: bool,
        not_before: Timestamp,
        request_id: Option<String>,
        now: Timestamp,
    ) -> Result<RecordedQueryFailure, StoreError> {
        self.write("record_query_failure", move |tx| {
            Box::pin(async move {
                let before = load(tx, key).await?;
                let queried = [BatchState::Queued, BatchState::Importing, BatchState::Collecting];
                if !queried.contains(&before.state) {
                    return Err(StoreError::NoBatch(key));
                }
                let mut batch = before.after_query_failure(refused, not_before, now);
                // Of an import that has ended, Marketo's last message is kept.
                if batch.state != BatchState::Collecting {
                    batch.message = Some(reason.clone());
                }
                save(tx, key, &batch).await?;
                let is_news = history::is_news(tx, key, "query-failed", &reason, now).await?;
                if is_news {
                    let (part, state, id) = (Some(key.part), shown_state(&batch).as_str(), request_id.as_deref());
                    write_history(tx, key.job, part, now, "query-failed", state, Some(&reason), id).await?;
                }
                tx.changes.push(ChangeEvent::Batch(key));
                let fact = MetricEvent::query_failed(instance_of(tx, key.job).await?, &reason);
                tx.changes.push(ChangeEvent::Metric(fact));
                Ok(RecordedQueryFailure { failures: batch.query_failures, is_news })
            })
        })
        .await
    }

    /// Sets the sizes in bytes of a batch's stored failure and warning files; none where there is no file. `cuts` are
    /// history messages about reports of which only the beginning is stored.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn set_report_sizes(
        &self,
        key: BatchKey,
        failures_bytes: Option<u64>,
        warnings_bytes: Option<u64>,
        cuts: Vec<String>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write("set_report_sizes", move |tx| {
            Box::pin(async move {
                sqlx::query("UPDATE batch SET failures_bytes = ?, warnings_bytes = ? WHERE job_id = ? AND part = ?")
                    .bind(failures_bytes.map(u64::cast_signed))
                    .bind(warnings_bytes.map(u64::cast_signed))
                    .bind(key.job.0)
                    .bind(key.part)
                    .execute(&mut *tx.conn)
                    .await?;
                for cut in &cuts {
                    let (part, state) = (Some(key.part), BatchState::Collecting.as_str());
                    write_history(tx, key.job, part, now, "report-cut", state, Some(cut), None).await?;
                }
                Ok(())
            })
        })
        .await
    }
}

/// Applies an event within a transaction; see [`Store::record_event`].
pub(crate) async fn apply_event(
    tx: &mut StoreTx<'_>,
    key: BatchKey,
    event: &Event,
    request_id: Option<&str>,
    now: Timestamp,
) -> Result<BatchState, StoreError> {
    let before = load(tx, key).await?;
    let batch = before.after_event(event, now)?;
    save(tx, key, &batch).await?;
    // A poll without a change gets no entry: one in five seconds would hide the others.
    let news = match event {
        Event::Polled { .. } => batch.state != before.state,
        Event::UnknownStatus { reason, .. } => history::is_news(tx, key, event.name(), reason, now).await?,
        _ => true,
    };
    if news {
        let (part, state) = (Some(key.part), shown_state(&batch).as_str());
        let message = event.message().or(batch.message.as_deref());
        write_history(tx, key.job, part, now, event.name(), state, message, request_id).await?;
    }
    match event {
        Event::Accepted { marketo_batch_id, .. } => {
            duplicate_batch_ids::check_batch_id(tx, key, marketo_batch_id, now).await?
        }
        Event::Abandoned { counts_until } => abandon(tx, key, *counts_until, now).await?,
        _ => {}
    }
    if news || batch.counts != before.counts || batch.message != before.message {
        tx.changes.push(ChangeEvent::Batch(key));
    }
    if let Event::ImportEnded { counts, .. } | Event::ImportLost { counts, .. } = event {
        let rows = RowCounts::complete(rows_sent(tx, key).await?, *counts);
        check_counts(tx, key, event, rows, now).await?;
    }
    publish_metrics(tx, key, event).await?;
    update_job_state(tx, key.job, now).await?;
    instances::update_from_event(tx, key, event, now).await?;
    Ok(batch.state)
}

/// Returns the state to show: an overdue import is held, whatever its status on Marketo.
fn shown_state(batch: &BatchProgress) -> BatchState {
    if batch.overdue_at.is_some() { BatchState::Held } else { batch.state }
}

/// Stores an abandoned import, which occupies a slot until `until`.
async fn abandon(tx: &mut StoreTx<'_>, key: BatchKey, until: Timestamp, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM abandoned WHERE until <= ?").bind(now.as_millisecond()).execute(&mut *tx.conn).await?;
    sqlx::query(
        "INSERT INTO abandoned (instance, marketo_batch_id, until)
         SELECT j.instance, coalesce(b.marketo_batch_id, ''), ?
         FROM batch b JOIN job j ON j.id = b.job_id WHERE b.job_id = ? AND b.part = ?",
    )
    .bind(until.as_millisecond())
    .bind(key.job.0)
    .bind(key.part)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// Compares Marketo's counts of an ended import with the rows that were sent. A difference goes into the history.
async fn check_counts(
    tx: &mut StoreTx<'_>,
    key: BatchKey,
    event: &Event,
    mut rows: RowCounts,
    now: Timestamp,
) -> Result<(), StoreError> {
    // An import that failed as a whole has imported no row that it does not count.
    if matches!(event, Event::ImportLost { .. }) {
        rows.unaccounted = Some(0);
    } else if let Some(discrepancy) = rows.discrepancy() {
        let state = BatchState::Collecting.as_str();
        write_history(tx, key.job, Some(key.part), now, "counts-differ", state, Some(&discrepancy), None).await?;
    }
    let instance = instance_of(tx, key.job).await?;
    tx.changes.push(ChangeEvent::Metric(MetricEvent::Rows { instance, rows }));
    Ok(())
}

async fn rows_sent(tx: &mut StoreTx<'_>, key: BatchKey) -> Result<u64, StoreError> {
    let rows: i64 = sqlx::query_scalar("SELECT rows FROM batch WHERE job_id = ? AND part = ?")
        .bind(key.job.0)
        .bind(key.part)
        .fetch_one(&mut *tx.conn)
        .await?;
    Ok(rows.cast_unsigned())
}

/// Publishes the metric event.
async fn publish_metrics(tx: &mut StoreTx<'_>, key: BatchKey, event: &Event) -> Result<(), StoreError> {
    let instance = instance_of(tx, key.job).await?;
    tx.changes.push(ChangeEvent::Metric(MetricEvent::from_batch_event(instance, event)));
    Ok(())
}

async fn instance_of(tx: &mut StoreTx<'_>, id: JobId) -> Result<String, StoreError> {
    Ok(sqlx::query_scalar("SELECT instance FROM job WHERE id = ?").bind(id.0).fetch_one(&mut *tx.conn).await?)
}

async fn load(tx: &mut StoreTx<'_>, key: BatchKey) -> Result<BatchProgress, StoreError> {
    let row = sqlx::query("SELECT * FROM batch WHERE job_id = ? AND part = ?")
        .bind(key.job.0)
        .bind(key.part)
        .fetch_optional(&mut *tx.conn)
        .await?
        .ok_or(StoreError::NoBatch(key))?;
    Ok(BatchProgress {
        state: parse_column(&row, "state")?,
        attempts: row.try_get("attempts")?,
        marketo_batch_id: row.try_get("marketo_batch_id")?,
        not_before: time_column(&row, "not_before")?,
        // Each event sets the defer reason, so the old one need not be read.
        wait: None,
        message: row.try_get("message")?,
        counts: Counts {
            processed: optional_size_column(&row, "processed")?,
            failed: optional_size_column(&row, "failed")?,
            warned: optional_size_column(&row, "warned")?,
        },
        uploaded_at: time_column(&row, "uploaded_at")?,
        accepted_at: time_column(&row, "accepted_at")?,
        importing_at: time_column(&row, "importing_at")?,
        polled_at: time_column(&row, "polled_at")?,
        ended_at: time_column(&row, "ended_at")?,
        query_failures: QueryFailures {
            all: row.try_get("query_failures")?,
            refusals: row.try_get("query_rejections")?,
        },
        waited: Duration::from_millis(size_column(&row, "waited_ms")?),
        overdue_at: time_column(&row, "overdue_at")?,
        unconfirmed_until: time_column(&row, "unconfirmed_until")?,
        unconfirmed_imports: row.try_get("unconfirmed_imports")?,
        last_upload: optional_size_column(&row, "last_upload")?,
        alone: Duration::from_millis(size_column(&row, "alone_ms")?),
        given_up: row.try_get("given_up")?,
    })
}

async fn save(tx: &mut StoreTx<'_>, key: BatchKey, batch: &BatchProgress) -> Result<(), StoreError> {
    let ms = |time: Option<Timestamp>| time.map(Timestamp::as_millisecond);
    let count = |count: Option<u64>| count.map(u64::cast_signed);
    sqlx::query(
        "UPDATE batch SET state = ?, attempts = ?, marketo_batch_id = ?, not_before = ?, wait = ?, message = ?,
                          processed = ?, failed = ?, warned = ?, uploaded_at = ?, accepted_at = ?, importing_at = ?,
                          polled_at = ?, ended_at = ?, query_failures = ?, query_rejections = ?, unconfirmed_until = ?, unconfirmed_imports = ?,
                          last_upload = ?, alone_ms = ?, given_up = ?,
                          waited_ms = ?, overdue_at = ?
         WHERE job_id = ? AND part = ?",
    )
    .bind(batch.state.as_str())
    .bind(batch.attempts)
    .bind(&batch.marketo_batch_id)
    .bind(ms(batch.not_before))
    .bind(batch.wait.map(DeferReason::as_str))
    .bind(&batch.message)
    .bind(count(batch.counts.processed))
    .bind(count(batch.counts.failed))
    .bind(count(batch.counts.warned))
    .bind(ms(batch.uploaded_at))
    .bind(ms(batch.accepted_at))
    .bind(ms(batch.importing_at))
    .bind(ms(batch.polled_at))
    .bind(ms(batch.ended_at))
    .bind(batch.query_failures.all)
    .bind(batch.query_failures.refusals)
    .bind(ms(batch.unconfirmed_until))
    .bind(batch.unconfirmed_imports)
    .bind(count(batch.last_upload))
    .bind(i64::try_from(batch.alone.as_millis()).unwrap_or(i64::MAX))
    .bind(batch.given_up)
    .bind(i64::try_from(batch.waited.as_millis()).unwrap_or(i64::MAX))
    .bind(ms(batch.overdue_at))
    .bind(key.job.0)
    .bind(key.part)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// Derives the job's state from its batches. When the job ends, queues its notification and writes the history.
async fn update_job_state(tx: &mut StoreTx<'_>, id: JobId, now: Timestamp) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT part, state, message FROM batch WHERE job_id = ? ORDER BY byte_from")
        .bind(id.0)
        .fetch_all(&mut *tx.conn)
        .await?;
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
    let state = job_state(states);
    let ended = state.is_terminal();
    let done = sqlx::query(
        "UPDATE job SET state = ?, error = ?, finished_at = ?,
                        started_at = CASE WHEN ? = 'running' THEN coalesce(started_at, ?) ELSE started_at END
         WHERE id = ? AND state <> ? RETURNING instance, created_at",
    )
    .bind(state.as_str())
    .bind(error.as_deref().filter(|_| ended))
    .bind(ended.then_some(now.as_millisecond()))
    .bind(state.as_str())
    .bind(now.as_millisecond())
    .bind(id.0)
    .bind(state.as_str())
    .fetch_optional(&mut *tx.conn)
    .await?;
    if let Some(row) = done {
        if ended {
            let took = now.as_millisecond() - row.try_get::<i64, _>("created_at")?;
            let took = std::time::Duration::from_millis(took.max(0).cast_unsigned());
            tx.changes.push(ChangeEvent::Metric(MetricEvent::Ended {
                instance: row.try_get("instance")?,
                state,
                took,
            }));
            enqueue(tx, id, now).await?;
            write_history(tx, id, None, now, "ended", state.as_str(), error.as_deref(), None).await?;
        }
        tx.changes.push(ChangeEvent::Job(id));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::domain::{FailureScope, JobState, RemoteStatus};
    use crate::store::tables::commands::CommandOutcome;
    use crate::store::test_util::{add, leads, store};

    fn accepted(id: &str) -> Event {
        Event::Accepted { marketo_batch_id: id.into(), status: RemoteStatus::Queued }
    }

    fn ended(processed: u64, failed: u64) -> Event {
        let counts = Counts { processed: Some(processed), failed: Some(failed), warned: None };
        Event::ImportEnded { counts, message: "done".into() }
    }

    #[tokio::test]
    async fn a_batch_walks_to_its_end_and_takes_its_job_along() {
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
    async fn an_illegal_move_changes_nothing() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 1).await, part: 1 };
        let before = store.job(key.job).await.unwrap();
        let error = store.record_event(key, Event::Collected, None, from_ms(1)).await.unwrap_err();
        assert!(matches!(error, StoreError::Illegal(_)));
        assert_eq!(store.job(key.job).await.unwrap(), before);
        assert_eq!(store.history(key.job).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_put_back_gives_the_attempt_back_and_a_refusal_keeps_it() {
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
    async fn a_split_batch_becomes_two_and_costs_no_attempt() {
        let store = store().await;
        let id = add(&store, leads(), 3).await;
        let key = BatchKey { job: id, part: 2 };
        let whole = store.batch(key).await.unwrap().1;
        let middle = whole.byte_from + 3;
        let part = |from, to| PartRange { from, to, rows: 1 };
        let parts = [part(whole.byte_from, middle), part(middle, whole.byte_to)];
        assert!(
            store.split_batch(key, parts.clone(), "413".into(), None, from_ms(1)).await.is_err(),
            "it is not uploading"
        );
        store.record_event(key, Event::UploadBegan, None, from_ms(1)).await.unwrap();
        store.split_batch(key, parts, "413".into(), None, from_ms(2)).await.unwrap();
        let job = store.job(id).await.unwrap();
        let spans: Vec<_> = job.batches.iter().map(|batch| (batch.part, batch.byte_from, batch.byte_to)).collect();
        let (first, last) = (&job.batches[0], &job.batches[3]);
        assert_eq!(
            spans,
            [
                (1, first.byte_from, whole.byte_from),
                (2, whole.byte_from, middle),
                (4, middle, whole.byte_to),
                (3, whole.byte_to, last.byte_to)
            ]
        );
        assert_eq!((job.batches[1].state, job.batches[1].attempts), (BatchState::Pending, 0));
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
        assert!(matches!(store.settle(one, "3404".into(), from_ms(2)).await, Err(StoreError::Illegal(_))));
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

    #[tokio::test]
    async fn questions_that_fail_are_counted_until_one_is_answered() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 1).await, part: 1 };
        store.record_event(key, Event::UploadBegan, None, from_ms(1)).await.unwrap();
        store.record_event(key, accepted("9"), None, from_ms(2)).await.unwrap();
        for (refused, all, refusals) in [(false, 1, 0), (true, 2, 1), (false, 3, 1)] {
            let failures =
                store.record_query_failure(key, "w".into(), refused, from_ms(50), None, from_ms(3)).await.unwrap();
            assert_eq!(failures.failures, QueryFailures { all, refusals });
        }
        let (_, batch) = store.batch(key).await.unwrap();
        assert_eq!(batch.query_failures, QueryFailures { all: 3, refusals: 1 });
        assert_eq!((batch.state, batch.not_before, batch.attempts), (BatchState::Queued, Some(from_ms(50)), 1));
        let polled = Event::Polled { status: RemoteStatus::Queued, counts: Counts::default(), waited: Duration::ZERO };
        store.record_event(key, polled, None, from_ms(60)).await.unwrap();
        assert_eq!(
            store
                .record_query_failure(key, "502".into(), false, from_ms(70), None, from_ms(61))
                .await
                .unwrap()
                .failures
                .all,
            1
        );
        // The time of the last status query is not changed by a query of the reports.
        store.record_event(key, ended(1, 1), None, from_ms(80)).await.unwrap();
        store.record_query_failure(key, "404".into(), true, from_ms(95), None, from_ms(90)).await.unwrap();
        assert_eq!(store.batch(key).await.unwrap().1.polled_at, Some(from_ms(80)));
    }
}
