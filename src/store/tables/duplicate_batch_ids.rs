//! Duplicate batch ids: marks batches for which Marketo gave the same id. To which of them the import's counts and
//! reports belong is unknown.

use jiff::Timestamp;
use sqlx::Row;

use crate::domain::{BatchKey, BatchState, IMPORT_LIFETIME, JobId};
use crate::store::engine::transaction::StoreTx;
use crate::store::error::StoreError;
use crate::store::events::ChangeEvent;
use crate::store::tables::history::NewHistoryEntry;
use crate::store::tables::row_mapping::{duration_value, parse_column};

impl StoreTx<'_> {
    /// Checks the id that Marketo gave to the upload of `key`. If another upload of the instance got the same id within
    /// the time for which Marketo knows an id, both batches are marked. Their counts are unknown from then on. Returns
    /// the batch of the other upload.
    pub(crate) async fn check_batch_id(
        &mut self,
        key: BatchKey,
        id: &str,
        now: Timestamp,
    ) -> Result<Option<BatchKey>, StoreError> {
        // The history has the ids of earlier uploads too. The last entry is that of this upload.
        let rows = sqlx::query(
            "SELECT h.job_id, h.part FROM history h JOIN job j ON j.id = h.job_id
             WHERE h.message = ?1 AND h.event IN ('accepted', 'settled') AND h.at > ?2
               AND h.id <> (SELECT max(id) FROM history WHERE job_id = ?3)
               AND j.instance = (SELECT instance FROM job WHERE id = ?3)
             GROUP BY h.job_id, h.part ORDER BY min(h.id)",
        )
        .bind(id)
        .bind(now.as_millisecond().saturating_sub(duration_value(IMPORT_LIFETIME)))
        .bind(key.job.0)
        .fetch_all(&mut *self.conn)
        .await?;
        let mut first = None;
        for row in &rows {
            let other = BatchKey { job: JobId(row.try_get("job_id")?), part: row.try_get("part")? };
            first = first.or(Some(other));
            if other != key {
                self.mark_duplicate_id(DuplicateId { key: other, other: key, id }, now).await?;
            }
        }
        if let Some(other) = first {
            self.mark_duplicate_id(DuplicateId { key, other, id }, now).await?;
        }
        Ok(first)
    }

    /// Marks a batch for which Marketo gave the id of another upload.
    pub(crate) async fn mark_duplicate_id(
        &mut self,
        duplicate: DuplicateId<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let DuplicateId { key, other, id } = duplicate;
        // A batch that has another import by now is not affected.
        let marked = sqlx::query(
            "UPDATE batch SET id_given_twice = 1 WHERE job_id = ? AND part = ? AND marketo_batch_id = ?
             RETURNING state, (SELECT state FROM job WHERE id = job_id) IN ('complete', 'failed', 'cancelled') AS ended",
        )
        .bind(key.job.0)
        .bind(key.part)
        .bind(id)
        .fetch_optional(&mut *self.conn)
        .await?;
        let Some(marked) = marked else { return Ok(()) };
        let other_upload = if key == other {
            "an earlier upload of this part".to_owned()
        } else {
            format!("part {} of job {}", other.part, other.job)
        };
        let text = format!(
            "Marketo gave its batchId {id} for {other_upload} too: to which of them the import's counts and reports belong is unknown"
        );
        let state: BatchState = parse_column(&marked, "state")?;
        let entry = NewHistoryEntry::of_batch(key, now, "id-given-twice", state);
        self.insert_history(NewHistoryEntry { message: Some(&text), ..entry }).await?;
        self.publish(ChangeEvent::Batch(key));
        if marked.try_get("ended")? {
            // Its notification gave its counts as known.
            self.enqueue_notification(key.job, now).await?;
            self.publish(ChangeEvent::Job(key.job));
        }
        tracing::error!(job = %key.job, part = key.part, marketo_batch_id = id, "{text}");
        Ok(())
    }
}

/// A batch whose id Marketo gave to another upload too.
#[derive(Clone, Copy)]
pub(crate) struct DuplicateId<'a> {
    /// The batch to mark.
    pub key: BatchKey,
    /// The batch of the other upload; the same one where it was uploaded twice.
    pub other: BatchKey,
    /// The id.
    pub id: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{after, from_ms};
    use crate::domain::{Counts, Event, RemoteStatus};
    use crate::store::handle::Store;
    use crate::store::new_job::NewJob;
    use crate::store::test_util::{add, leads, store};

    async fn upload(store: &Store, key: BatchKey, id: &str, at: Timestamp) {
        store.record_event(key, Event::UploadBegan, None, at).await.unwrap();
        let accepted = Event::Accepted { marketo_batch_id: id.into(), status: RemoteStatus::Queued };
        store.record_event(key, accepted, None, at).await.unwrap();
    }

    async fn complete(store: &Store, key: BatchKey) {
        let counts = Counts { processed: Some(1), failed: Some(0), warned: Some(0) };
        let ended = Event::ImportEnded { counts, message: "done".into() };
        store.record_event(key, ended, None, from_ms(50)).await.unwrap();
        store.record_event(key, Event::Collected, None, from_ms(51)).await.unwrap();
    }

    async fn lines(store: &Store, job: JobId) -> Vec<String> {
        let history = store.history(job).await.unwrap();
        let twice = history.into_iter().filter(|entry| entry.event == "id-given-twice");
        twice.filter_map(|entry| entry.message).collect()
    }

    #[tokio::test]
    async fn two_uploads_with_one_id_are_both_marked() {
        let store = store().await;
        let [one, two, three] =
            [add(&store, leads(), 1).await, add(&store, leads(), 1).await, add(&store, leads(), 1).await]
                .map(|job| BatchKey { job, part: 1 });
        upload(&store, one, "7", from_ms(1)).await;
        upload(&store, three, "8", from_ms(1)).await;
        complete(&store, one).await;
        assert!(store.job(one.job).await.unwrap().rows.is_accounted_for());
        upload(&store, two, "7", from_ms(2)).await;
        complete(&store, two).await;
        complete(&store, three).await;
        for (key, other) in [(one, two), (two, one)] {
            let job = store.job(key.job).await.unwrap();
            assert_eq!((job.rows.processed, job.rows.unaccounted), (None, None), "{key}");
            let messages = lines(&store, key.job).await;
            assert_eq!(messages.len(), 1, "{messages:?}");
            assert!(messages[0].contains(&format!("for part 1 of job {} too", other.job)), "{messages:?}");
        }
        assert!(store.job(three.job).await.unwrap().rows.is_accounted_for());
        assert_eq!(lines(&store, three.job).await, [""; 0]);
    }

    #[tokio::test]
    async fn an_id_of_another_instance_or_an_old_one_is_not_marked() {
        let store = store().await;
        let other = add(&store, NewJob { instance: "other".into(), ..leads() }, 1).await;
        let [one, two] = [add(&store, leads(), 1).await, add(&store, leads(), 1).await];
        let key = |job| BatchKey { job, part: 1 };
        upload(&store, key(other), "7", from_ms(1)).await;
        upload(&store, key(one), "7", from_ms(1)).await;
        upload(&store, key(two), "7", after(from_ms(2), IMPORT_LIFETIME)).await;
        for job in [other, one, two] {
            assert_eq!(lines(&store, job).await, [""; 0], "job {job}");
        }
    }

    #[tokio::test]
    async fn a_batch_that_gets_its_own_old_id_again_is_marked() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 1).await, part: 1 };
        upload(&store, key, "7", from_ms(1)).await;
        let lost = Event::ImportLost { counts: Counts::default(), reason: "no".into() };
        store.record_event(key, lost, None, from_ms(2)).await.unwrap();
        store.retry(key.job, from_ms(3)).await.unwrap();
        upload(&store, key, "7", from_ms(4)).await;
        complete(&store, key).await;
        assert_eq!(store.job(key.job).await.unwrap().rows.unaccounted, None);
        assert!(lines(&store, key.job).await[0].contains("an earlier upload of this part"));
    }
}
