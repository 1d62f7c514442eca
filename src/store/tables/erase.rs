//! Erasure: marks the content or the reports of a job as erased, then deletes their chunks.
//!
//! Once marked, the data is not read any more. The chunks are deleted a few at a time, so that the writer is not
//! blocked. Table `pending_erasure` lists what is left, and the next retention run continues after a crash.

use jiff::Timestamp;
use sqlx::Row;

use crate::domain::{JobId, JobState};
use crate::store::engine::transaction::StoreTx;
use crate::store::error::StoreError;
use crate::store::events::{ChangeEvent, InstanceChange};
use crate::store::models::{ErasableData, Job};
use crate::store::tables::history::NewHistoryEntry;
use crate::store::tables::row_mapping::parse_column;

/// How many compressed bytes one transaction deletes.
const BYTES_PER_TRANSACTION: i64 = 1 << 20;
/// How many chunks one transaction deletes.
const CHUNKS_PER_TRANSACTION: u32 = 64;

impl Job {
    /// Returns when `what` was erased, if it was.
    pub fn erased_at(&self, what: ErasableData) -> Option<Timestamp> {
        match what {
            ErasableData::Content => self.content_erased_at,
            ErasableData::Reports => self.reports_erased_at,
        }
    }

    /// Checks that `what` was not erased.
    ///
    /// # Errors
    /// [`StoreError::Erased`] where it was.
    pub fn still_has(&self, what: ErasableData) -> Result<(), StoreError> {
        match self.erased_at(what) {
            None => Ok(()),
            Some(at) => Err(StoreError::Erased { job: self.id, what, at }),
        }
    }

    /// Checks that the job has ended: data that is still to be sent is never erased.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it has not.
    pub fn can_be_erased(&self) -> Result<(), StoreError> {
        if self.state.is_terminal() {
            return Ok(());
        }
        let (id, state) = (self.id, self.state);
        Err(StoreError::Refused(format!("job {id} is {state}: it can be erased when it has ended, or was cancelled")))
    }
}

impl StoreTx<'_> {
    /// Marks the content and the reports of an ended job as erased, for `reason`.
    pub(crate) async fn mark_job_erased(
        &mut self,
        id: JobId,
        reason: &'static str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.job(id).await?.can_be_erased()?;
        for what in ErasableData::ALL {
            self.mark_erased(id, what, reason, now).await?;
        }
        Ok(())
    }

    /// Marks `what` of a job as erased. Returns false if it was already, or if the job has not ended.
    pub(crate) async fn mark_erased(
        &mut self,
        id: JobId,
        what: ErasableData,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = match what {
            ErasableData::Content => {
                "UPDATE job SET content_erased_at = ?
                 WHERE id = ? AND finished_at IS NOT NULL AND content_erased_at IS NULL RETURNING state"
            }
            ErasableData::Reports => {
                "UPDATE job SET reports_erased_at = ?
                 WHERE id = ? AND finished_at IS NOT NULL AND reports_erased_at IS NULL RETURNING state"
            }
        };
        let row = sqlx::query(sql).bind(now.as_millisecond()).bind(id.0).fetch_optional(&mut *self.conn).await?;
        let Some(row) = row else { return Ok(false) };
        let state: JobState = parse_column(&row, "state")?;
        sqlx::query("INSERT OR IGNORE INTO pending_erasure (job_id, what) VALUES (?, ?)")
            .bind(id.0)
            .bind(what.as_str())
            .execute(&mut *self.conn)
            .await?;
        let entry = NewHistoryEntry::of_job(id, now, what.event(), state);
        self.insert_history(NewHistoryEntry { message: Some(reason), ..entry }).await?;
        let instance = self.instance_of(id).await?;
        self.wake(&instance, InstanceChange::Other);
        self.publish(ChangeEvent::Job(id));
        Ok(true)
    }

    /// Deletes some chunks of data that is marked as erased, of one job or of all. Returns whether there is more.
    pub(crate) async fn erase_chunks(&mut self, of: Option<JobId>) -> Result<bool, StoreError> {
        let (mut bytes, mut chunks) = (BYTES_PER_TRANSACTION, CHUNKS_PER_TRANSACTION);
        while bytes > 0 && chunks > 0 {
            let next = sqlx::query("SELECT job_id, what FROM pending_erasure WHERE ?1 IS NULL OR job_id = ?1 LIMIT 1")
                .bind(of.map(|id| id.0))
                .fetch_optional(&mut *self.conn)
                .await?;
            let Some(next) = next else { return Ok(false) };
            let (id, what): (i64, String) = (next.try_get("job_id")?, next.try_get("what")?);
            // SQLite takes the length from the row's header, without reading the chunk.
            let found = sqlx::query(
                "SELECT rowid AS chunk, length(packed) AS bytes FROM chunk
                 WHERE job_id = ? AND (kind = 'file') = (? = 'content') LIMIT ?",
            )
            .bind(id)
            .bind(&what)
            .bind(chunks)
            .fetch_all(&mut *self.conn)
            .await?;
            if found.is_empty() && what == ErasableData::Reports.as_str() {
                let matches = self.delete_row_matches(JobId(id), chunks).await?;
                if matches > 0 {
                    chunks = chunks.saturating_sub(matches);
                    continue;
                }
            }
            if found.is_empty() {
                sqlx::query("DELETE FROM pending_erasure WHERE job_id = ? AND what = ?")
                    .bind(id)
                    .bind(&what)
                    .execute(&mut *self.conn)
                    .await?;
                chunks -= 1;
            }
            for chunk in found {
                sqlx::query("DELETE FROM chunk WHERE rowid = ?")
                    .bind(chunk.try_get::<i64, _>("chunk")?)
                    .execute(&mut *self.conn)
                    .await?;
                chunks -= 1;
                bytes -= chunk.try_get::<i64, _>("bytes")?;
                if bytes <= 0 {
                    break;
                }
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::domain::{BatchKey, Event};
    use crate::store::tables::chunks::CompressedChunk;
    use crate::store::tables::retention::EndedRange;
    use crate::store::test_util::{add, leads, store};

    fn ended(after: i64, until: i64) -> EndedRange {
        EndedRange { after: from_ms(after), until: from_ms(until), exhausted_until: from_ms(until) }
    }

    #[tokio::test]
    async fn content_of_exhausted_jobs_has_its_own_retention_time() {
        let store = store().await;
        let exhausted =
            Event::AttemptsExhausted { reason: "given up after 8 attempts".into(), unconfirmed_until: None };
        let mut ids = Vec::new();
        for (end, event) in [(2_500, exhausted), (2_600, Event::Rejected { reason: "1006".into() })] {
            let id = add(&store, leads(), 1).await;
            let key = BatchKey { job: id, part: 1 };
            store.record_event(key, Event::UploadBegan, None, from_ms(end)).await.unwrap();
            store.record_event(key, event, None, from_ms(end)).await.unwrap();
            ids.push(id);
        }
        let kept = async || store.find_exhausted_jobs("default", None).await.unwrap().first;
        assert_eq!((kept().await, store.find_exhausted_jobs("other", None).await.unwrap().jobs), (vec![ids[0]], 0));
        assert_eq!(store.find_exhausted_jobs("default", Some("crm")).await.unwrap().jobs, 0, "it is not this client's");
        let expired = async |exhausted_until| {
            let ended = EndedRange { exhausted_until: from_ms(exhausted_until), ..ended(0, 3_000) };
            (store.find_expired(ErasableData::Content, ended).await.unwrap().first, ended)
        };
        assert_eq!(expired(2_499).await.0, [ids[1]]);
        assert_eq!(expired(2_500).await.0, ids);
        let ended = expired(2_499).await.1;
        assert_eq!(store.mark_expired(ErasableData::Content, ended, "test", from_ms(9_000)).await.unwrap(), 1);
        assert!(store.job(ids[0]).await.unwrap().is_content_kept());
        store.retry(ids[0], from_ms(9_001)).await.unwrap();
        assert_eq!(kept().await, []);
        assert!(!store.job(ids[0]).await.unwrap().is_content_kept());
    }

    #[tokio::test]
    async fn only_jobs_that_ended_in_time_are_marked() {
        let store = store().await;
        for (end, erased) in
            [(None, false), (Some(2_000), false), (Some(2_001), true), (Some(3_000), true), (Some(3_001), false)]
        {
            let id = add(&store, leads(), 1).await;
            if let Some(end) = end {
                store.cancel(id, from_ms(end)).await.unwrap();
            }
            store.mark_expired(ErasableData::Content, ended(2_000, 3_000), "test", from_ms(9_000)).await.unwrap();
            assert_eq!(store.job(id).await.unwrap().content_erased_at.is_some(), erased, "{end:?}");
        }
    }

    #[tokio::test]
    async fn erase_and_retry_of_a_job_exclude_each_other() {
        let store = store().await;
        let (retried, erased) = (add(&store, leads(), 1).await, add(&store, leads(), 1).await);
        for id in [retried, erased] {
            store.cancel(id, from_ms(2_000)).await.unwrap();
        }
        store.retry(retried, from_ms(3_000)).await.unwrap();
        assert_eq!(
            store.mark_expired(ErasableData::Content, ended(0, 9_000), "test", from_ms(9_000)).await.unwrap(),
            1
        );
        assert!(store.job(retried).await.unwrap().content_erased_at.is_none());
        let error = store.retry(erased, from_ms(9_001)).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the content of job {erased} was erased at 1970-01-01T00:00:09Z"));
        assert_eq!(store.job(erased).await.unwrap().finished_at, Some(from_ms(2_000)), "it was not changed");
        let error = store.erase(retried, "test", from_ms(9_002)).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)), "{error}");
    }

    #[tokio::test]
    async fn a_large_file_is_erased_in_steps_without_other_jobs() {
        let store = store().await;
        let (large, other) = (add(&store, leads(), 1).await, add(&store, leads(), 1).await);
        let noise: Vec<u8> = (0..300_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
        for n in 0..3 {
            store.insert_chunks(large, vec![CompressedChunk::compress(1_000_000 + n, &noise).unwrap()]).await.unwrap();
        }
        for id in [large, other] {
            store.cancel(id, from_ms(2_000)).await.unwrap();
        }
        store.mark_expired(ErasableData::Content, ended(0, 2_000), "test", from_ms(3_000)).await.unwrap();
        let mut steps = 1;
        while store.erase_chunks(Some(large)).await.unwrap() {
            steps += 1;
        }
        assert!(steps > 2, "{steps}");
        let left = async || {
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM chunk").fetch_one(&store.shared.readers).await.unwrap()
        };
        assert_eq!(left().await, 1);
        while store.erase_chunks(None).await.unwrap() {}
        assert_eq!(left().await, 0);
    }

    #[tokio::test]
    async fn a_record_stays_while_its_data_or_imports_count() {
        let store = store().await;
        let id = add(&store, leads(), 1).await;
        store.cancel(id, from_ms(2_000)).await.unwrap();
        let dropped = async |now| store.delete_expired_records(ended(0, 5_000), from_ms(now)).await.unwrap().jobs;
        assert_eq!(dropped(9_000).await, 0, "its content is stored");
        store.erase(id, "test", from_ms(3_000)).await.unwrap();
        let execute = async |sql| {
            store
                .write("test", move |tx| {
                    Box::pin(async move { Ok(sqlx::query(sql).execute(&mut *tx.conn).await.map(drop)?) })
                })
                .await
                .unwrap();
        };
        execute("UPDATE batch SET unconfirmed_until = 9001, unconfirmed_imports = 1").await;
        assert_eq!(dropped(9_000).await, 0, "it has an unconfirmed import");
        execute("INSERT INTO pending_notification (job_id, enqueued_at, next_at) VALUES (1, 0, 0)").await;
        assert_eq!(dropped(9_001).await, 0, "its notification is pending");
        execute("DELETE FROM pending_notification").await;
        execute(
            "INSERT INTO pending_alert (event, job_id, part, reason, enqueued_at, next_at)
             VALUES ('batch-held', 1, 1, 'cut', 0, 0)",
        )
        .await;
        assert_eq!(dropped(9_001).await, 0, "its alert is pending");
        execute("DELETE FROM pending_alert").await;
        assert_eq!(dropped(9_001).await, 1);
        assert!(matches!(store.job(id).await, Err(StoreError::NoJob(_))));
        assert_eq!(add(&store, leads(), 1).await, JobId(id.0 + 1), "no id is used twice");
    }

    #[tokio::test]
    async fn a_retry_after_erased_reports_stores_new_ones() {
        let store = store().await;
        let id = add(&store, leads(), 1).await;
        store.cancel(id, from_ms(2_000)).await.unwrap();
        store.mark_expired(ErasableData::Reports, ended(0, 2_000), "test", from_ms(3_000)).await.unwrap();
        assert_eq!(store.job(id).await.unwrap().reports_erased_at, Some(from_ms(3_000)));
        store.retry(id, from_ms(4_000)).await.unwrap();
        assert_eq!(store.job(id).await.unwrap().reports_erased_at, None);
        assert!(!store.erase_chunks(Some(id)).await.unwrap());
    }
}
