//! Batch rules of jobs: cancels the batches that are not uploaded yet once a rule stops their job.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::domain::batch_rules::{BatchRules, StopCause, StopReason};
use crate::domain::{BatchKey, BatchState, Event, JobId, JobState};
use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;
use crate::store::tables::history::NewHistoryEntry;
use crate::store::tables::row_mapping::size_column;

/// The condition under which a pending batch of job `j` need not wait for another batch of its job. The argument is the
/// batch's name in the statement.
macro_rules! no_batch_before {
    ($batch:literal) => {
        concat!(
            "(j.in_order = 0
              OR NOT EXISTS (SELECT 1 FROM batch e WHERE e.job_id = j.id AND e.state <> 'complete' AND e.byte_from < ",
            $batch,
            ".byte_from)) AND (j.canary IS NULL OR ",
            $batch,
            ".part = 1 OR NOT EXISTS (SELECT 1 FROM batch e WHERE e.job_id = j.id AND e.state <> 'complete' AND e.part = 1))"
        )
    };
}
pub(crate) use no_batch_before;

/// Reads the rules of a job.
pub(crate) fn read_rules(row: &SqliteRow) -> Result<BatchRules, sqlx::Error> {
    Ok(BatchRules {
        in_order: row.try_get("in_order")?,
        canary: row.try_get::<Option<i64>, _>("canary")?.map(i64::cast_unsigned),
        max_failed_percent: row.try_get("max_failed_percent")?,
    })
}

impl StoreTx<'_> {
    /// Cancels the pending batches of a job that a rule stops because of `event`, or stopped before. `state` is the
    /// state of the batch after the event.
    pub(crate) async fn apply_batch_rules(
        &mut self,
        key: BatchKey,
        event: &Event,
        state: BatchState,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let has_failed = state == BatchState::Failed;
        let has_ended = matches!(event, Event::ImportEnded { .. });
        if !has_failed && !has_ended && state != BatchState::Pending {
            return Ok(());
        }
        let row = sqlx::query("SELECT in_order, canary, max_failed_percent, stop_cause FROM job WHERE id = ?")
            .bind(key.job.0)
            .fetch_one(&mut *self.conn)
            .await?;
        let (rules, is_stopped) = (read_rules(&row)?, row.try_get::<Option<&str>, _>("stop_cause")?.is_some());
        if !is_stopped {
            let reason = if has_failed {
                rules.stop_after_failure(key.part)
            } else if has_ended && rules.max_failed_percent.is_some() {
                let (failed, rows) = self.failed_rows_of_ended_imports(key.job).await?;
                rules.stop_after_import(failed, rows)
            } else {
                None
            };
            let Some(reason) = reason else { return Ok(()) };
            if !self.stop_job(key.job, &reason, now).await? {
                return Ok(());
            }
        }
        let pending: Vec<u32> =
            sqlx::query_scalar("SELECT part FROM batch WHERE job_id = ? AND state = 'pending' ORDER BY byte_from")
                .bind(key.job.0)
                .fetch_all(&mut *self.conn)
                .await?;
        for part in pending {
            let batch = BatchKey { part, ..key };
            // The event causes no further stop, so the recursion ends here.
            Box::pin(self.apply_event(batch, &Event::Cancelled, None, now)).await?;
        }
        Ok(())
    }

    /// Records that no further batch of a job is uploaded. Returns false, and changes nothing, where none is left to
    /// upload.
    async fn stop_job(&mut self, id: JobId, reason: &StopReason, now: Timestamp) -> Result<bool, StoreError> {
        let stopped = sqlx::query(
            "UPDATE job SET stop_cause = ?, stop_reason = ?
             WHERE id = ? AND EXISTS (SELECT 1 FROM batch WHERE job_id = job.id AND state IN ('pending', 'uploading'))",
        )
        .bind(reason.cause.as_str())
        .bind(&reason.text)
        .bind(id.0)
        .execute(&mut *self.conn)
        .await?;
        if stopped.rows_affected() == 0 {
            return Ok(false);
        }
        let entry = NewHistoryEntry::of_job(id, now, "stopped", JobState::Running);
        self.insert_history(NewHistoryEntry { message: Some(&reason.text), ..entry }).await?;
        Ok(true)
    }

    /// Ends the stop of a job that is retried. A threshold that stopped it is switched off.
    pub(crate) async fn end_stop(&mut self, id: JobId) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE job SET stop_cause = NULL, stop_reason = NULL,
                            max_failed_percent = iif(stop_cause = ?, NULL, max_failed_percent)
             WHERE id = ? AND stop_cause IS NOT NULL",
        )
        .bind(StopCause::Threshold.as_str())
        .bind(id.0)
        .execute(&mut *self.conn)
        .await?;
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns the failed rows and the sent rows of a job's imports that ended `Complete` with counts.
    async fn failed_rows_of_ended_imports(&mut self, id: JobId) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query(
            "SELECT coalesce(sum(failed), 0) AS failed, coalesce(sum(rows), 0) AS rows FROM batch
             WHERE job_id = ? AND state IN ('collecting', 'complete') AND failed IS NOT NULL AND id_given_twice = 0",
        )
        .bind(id.0)
        .fetch_one(&mut *self.conn)
        .await?;
        Ok((size_column(&row, "failed")?, size_column(&row, "rows")?))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::from_ms;
    use crate::domain::FailureScope;
    use crate::store::batch_changes::BatchSplit;
    use crate::store::new_job::{NewJob, PartRange};
    use crate::store::test_util::{Fixture, accepted, add, ended, leads, store};

    const SECOND: Duration = Duration::from_secs(1);

    async fn candidates(store: &Fixture) -> Vec<u32> {
        let snapshot = store.snapshot("default", from_ms(1), 10, SECOND).await.unwrap();
        snapshot.candidates.iter().map(|candidate| candidate.key.part).collect()
    }

    async fn record(store: &Fixture, key: BatchKey, event: Event) {
        store.record_event(key, event, None, from_ms(1)).await.unwrap();
    }

    async fn upload(store: &Fixture, key: BatchKey) {
        record(store, key, Event::UploadBegan).await;
        record(store, key, accepted(&key.part.to_string())).await;
    }

    /// Brings a batch of one row to its end; the row failed or not.
    async fn complete(store: &Fixture, key: BatchKey, failed: u64) {
        upload(store, key).await;
        record(store, key, ended(1 - failed, failed)).await;
        record(store, key, Event::Collected).await;
    }

    fn part(job: JobId, part: u32) -> BatchKey {
        BatchKey { job, part }
    }

    async fn states(store: &Fixture, job: JobId) -> Vec<BatchState> {
        store.job(job).await.unwrap().batches.iter().map(|batch| batch.state).collect()
    }

    fn refused() -> Event {
        let scope = FailureScope::Instance { backoff_until: from_ms(9), tried_alone_for: Duration::ZERO };
        Event::Refused { reason: "611".into(), not_before: from_ms(1), scope }
    }

    #[tokio::test]
    async fn batches_in_order_are_candidates_one_after_the_other() {
        let store = store().await;
        let job = add(&store, NewJob { in_order: true, ..leads() }, 3).await;
        assert_eq!(candidates(&store).await, [1]);
        // While uploads fail, batches that were not tried come first, but not before those that they wait for.
        record(&store, part(job, 1), Event::UploadBegan).await;
        record(&store, part(job, 1), refused()).await;
        let snapshot = store.snapshot("default", from_ms(1), 1, SECOND).await.unwrap();
        assert_eq!(snapshot.candidates.len(), 1);
        assert_eq!((snapshot.candidates[0].key, snapshot.has_untried_batch), (part(job, 1), true));
        complete(&store, part(job, 1), 1).await;
        assert_eq!(candidates(&store).await, [2]);
        upload(&store, part(job, 2)).await;
        assert_eq!(candidates(&store).await, [0; 0]);
        record(&store, part(job, 2), ended(1, 0)).await;
        assert_eq!(candidates(&store).await, [0; 0], "its reports are not stored yet");
        record(&store, part(job, 2), Event::Collected).await;
        assert_eq!(candidates(&store).await, [3]);
    }

    #[tokio::test]
    async fn others_wait_for_the_canary_only() {
        let store = store().await;
        let job = add(&store, NewJob { canary: Some(1), ..leads() }, 3).await;
        assert_eq!(candidates(&store).await, [1]);
        complete(&store, part(job, 1), 0).await;
        assert_eq!(candidates(&store).await, [2, 3]);
    }

    #[tokio::test]
    async fn failed_batch_cancels_those_that_wait_for_it() {
        use BatchState::{Cancelled, Complete, Failed};
        let store = store().await;
        let job = add(&store, NewJob { in_order: true, ..leads() }, 3).await;
        complete(&store, part(job, 1), 0).await;
        record(&store, part(job, 2), Event::UploadBegan).await;
        record(&store, part(job, 2), Event::Rejected { reason: "1003".into() }).await;
        assert_eq!(states(&store, job).await, [Complete, Failed, Cancelled]);
        let ended = store.job(job).await.unwrap();
        assert_eq!(ended.state, JobState::Failed);
        assert_eq!(ended.error.unwrap(), "part 2 failed, and the batches behind it wait for it (in_order)");
        // A retry sends the rest, in order again.
        store.retry(job, from_ms(2)).await.unwrap();
        assert_eq!(candidates(&store).await, [2]);
        complete(&store, part(job, 2), 0).await;
        complete(&store, part(job, 3), 0).await;
        assert_eq!(store.job(job).await.unwrap().state, JobState::Complete);
    }

    #[tokio::test]
    async fn too_many_failed_rows_stop_the_job_once() {
        use BatchState::{Cancelled, Complete, Queued};
        let store = store().await;
        let job = add(&store, NewJob { max_failed_percent: Some(50), ..leads() }, 4).await;
        complete(&store, part(job, 1), 0).await;
        upload(&store, part(job, 3)).await;
        complete(&store, part(job, 2), 1).await;
        assert_eq!(candidates(&store).await, [4], "half of them is not more than 50 percent");
        record(&store, part(job, 4), Event::UploadBegan).await;
        record(&store, part(job, 3), ended(0, 1)).await;
        record(&store, part(job, 3), Event::Collected).await;
        // The upload that was under way failed: it is not repeated.
        record(&store, part(job, 4), refused()).await;
        assert_eq!(states(&store, job).await, [Complete, Complete, Complete, Cancelled]);
        let stopped = store.job(job).await.unwrap();
        assert_eq!(stopped.state, JobState::Failed);
        let error = stopped.error.unwrap();
        assert!(error.starts_with("2 of the 3 rows of its complete batches failed"), "{error}");
        let history = store.history(job).await.unwrap();
        assert_eq!(history.iter().filter(|entry| entry.event == "stopped").count(), 1);
        // A retry switches the threshold off.
        store.retry(job, from_ms(2)).await.unwrap();
        assert_eq!(candidates(&store).await, [4]);
        upload(&store, part(job, 4)).await;
        assert_eq!(states(&store, job).await[3], Queued);
        record(&store, part(job, 4), ended(0, 1)).await;
        record(&store, part(job, 4), Event::Collected).await;
        assert_eq!(store.job(job).await.unwrap().state, JobState::Complete);
    }

    #[tokio::test]
    async fn threshold_is_no_failure_where_all_was_uploaded() {
        let store = store().await;
        let job = add(&store, NewJob { max_failed_percent: Some(0), ..leads() }, 1).await;
        complete(&store, part(job, 1), 1).await;
        let job = store.job(job).await.unwrap();
        assert_eq!((job.state, job.error), (JobState::Complete, None));
    }

    #[tokio::test]
    async fn no_half_of_a_split_batch_continues_in_a_stopped_job() {
        use BatchState::{Cancelled, Complete};
        let store = store().await;
        let job = add(&store, NewJob { max_failed_percent: Some(0), ..leads() }, 2).await;
        record(&store, part(job, 2), Event::UploadBegan).await;
        complete(&store, part(job, 1), 1).await;
        let row = |from, to| PartRange { from, to, rows: 1, first_line: None };
        let split = BatchSplit { halves: [row(8, 9), row(9, 10)], reason: "413".into(), request_id: None };
        store.split_batch(part(job, 2), split, from_ms(3)).await.unwrap();
        assert_eq!(states(&store, job).await, [Complete, Cancelled, Cancelled]);
        assert_eq!(store.job(job).await.unwrap().state, JobState::Failed);
    }
}
