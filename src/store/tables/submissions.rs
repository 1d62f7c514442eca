//! Submissions: creates a job from a file that is received chunk by chunk, with a final commit.

use jiff::Timestamp;

use crate::domain::row_counts::RowCounts;
use crate::domain::{BatchKey, JobId, JobState};
use crate::store::engine::transaction::StoreTx;
use crate::store::error::StoreError;
use crate::store::events::{ChangeEvent, InstanceChange, MetricEvent};
use crate::store::models::{Batch, Job};
use crate::store::new_job::{Inserted, JobLayout, NewJob, PartRange};
use crate::store::tables::chunks::CHUNK_BYTES;
use crate::store::tables::history::NewHistoryEntry;
use crate::store::tables::job_columns::{received_columns, receiving_job_columns};

impl StoreTx<'_> {
    /// Inserts the row of a job whose file is still to be received.
    pub(crate) async fn begin_submission(&mut self, new: NewJob, now: Timestamp) -> Result<JobId, StoreError> {
        // At least this much will follow.
        self.budget.reserve_for_file(CHUNK_BYTES as u64)?;
        let row = receiving_job_columns(&new, now);
        let done = row.insert_into("job").execute(&mut *self.conn).await?;
        Ok(JobId(done.last_insert_rowid()))
    }

    /// Turns a received file into a pending job, unless its idempotency key belongs to an earlier one. The parameters
    /// may differ from those at its beginning, because a client can send form fields behind the file.
    pub(crate) async fn commit_submission(
        &mut self,
        id: JobId,
        new: NewJob,
        layout: JobLayout,
        now: Timestamp,
    ) -> Result<Inserted, StoreError> {
        if let Some(same) = self.find_by_idempotency_key(&new, &layout).await? {
            return Ok(Inserted::Existing(same));
        }
        let row = received_columns(&new, &layout);
        let update = row.update("job", "WHERE id = ? AND state = 'receiving'").bind(id.0);
        if update.execute(&mut *self.conn).await?.rows_affected() == 0 {
            return Err(StoreError::NoJob(id));
        }
        self.insert_batches(id, &layout).await?;
        let message = accepted_message(&new);
        self.insert_history(NewHistoryEntry {
            message: Some(&message),
            ..NewHistoryEntry::of_job(id, now, "received", JobState::Pending)
        })
        .await?;
        self.insert_warnings(id, &layout, now).await?;
        self.publish_accepted(id, &new, &layout);
        self.job(id).await.map(Inserted::Created)
    }

    /// Inserts a pending batch.
    pub(crate) async fn insert_batch(&mut self, key: BatchKey, rows: &PartRange) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO batch (job_id, part, instance, state, byte_from, byte_to, rows, first_line)
             VALUES (?1, ?2, (SELECT instance FROM job WHERE id = ?1), 'pending', ?3, ?4, ?5, ?6)",
        )
        .bind(key.job.0)
        .bind(key.part)
        .bind(rows.from.cast_signed())
        .bind(rows.to.cast_signed())
        .bind(rows.rows.cast_signed())
        .bind(rows.first_line.map(u64::cast_signed))
        .execute(&mut *self.conn)
        .await?;
        Ok(())
    }

    async fn insert_batches(&mut self, job: JobId, layout: &JobLayout) -> Result<(), StoreError> {
        for (part, rows) in (1_u32..).zip(&layout.parts) {
            self.insert_batch(BatchKey { job, part }, rows).await?;
        }
        Ok(())
    }

    /// Adds the warnings about a file to the history of its job.
    pub(crate) async fn insert_warnings(
        &mut self,
        id: JobId,
        layout: &JobLayout,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for warning in &layout.warnings {
            let entry = NewHistoryEntry::of_job(id, now, "warned", JobState::Pending);
            self.insert_history(NewHistoryEntry { message: Some(warning), ..entry }).await?;
        }
        Ok(())
    }

    /// Publishes the events of a new job.
    pub(crate) fn publish_accepted(&mut self, id: JobId, new: &NewJob, layout: &JobLayout) {
        self.publish(ChangeEvent::Job(id));
        self.wake(&new.instance, InstanceChange::NewJob);
        self.count(MetricEvent::Accepted { instance: new.instance.clone(), bytes: layout.bytes });
    }
}

/// Returns the message of the history entry of a submission.
pub(crate) fn accepted_message(new: &NewJob) -> String {
    format!("from {}", new.source)
}

/// Returns the new job as reading it would give it, without two more queries.
pub(crate) fn created_job(id: JobId, new: NewJob, layout: &JobLayout, now: Timestamp) -> Job {
    let batch = |(part, rows): (u32, &PartRange)| Batch {
        first_line: rows.first_line,
        ..Batch::new(part, rows.rows, rows.from, rows.to)
    };
    let batch_rules = new.batch_rules();
    Job {
        id,
        state: JobState::Pending,
        target: new.target,
        instance: new.instance,
        filename: new.filename,
        format: new.format,
        priority: new.priority,
        group: new.group,
        bytes: layout.bytes,
        rows: RowCounts::uncounted(layout.rows),
        batches: (1..).zip(&layout.parts).map(batch).collect(),
        retry_of: new.retry_of,
        source: Some(new.source),
        not_before: new.not_before,
        batch_rules,
        packing: layout.packing,
        created_at: now,
        started_at: None,
        finished_at: None,
        content_erased_at: None,
        reports_erased_at: None,
        error: None,
        header: layout.header,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::domain::{Format, Source, Target};
    use crate::store::new_job::Inserted;
    use crate::store::tables::chunks::{CompressedChunk, StoredFile};
    use crate::store::test_util::{file, leads, store};

    fn keyed(key: &str) -> NewJob {
        NewJob { idempotency_key: Some(key.into()), ..leads() }
    }

    fn hashed(parts: u32, hash: u8) -> (CompressedChunk, JobLayout) {
        let (bytes, mut layout) = file(parts);
        layout.sha256 = Some([hash; 32]);
        (CompressedChunk::compress(0, &bytes).unwrap(), layout)
    }

    #[tokio::test]
    async fn each_target_is_read_back_as_stored() {
        let store = store().await;
        for target in [
            Target::Leads { lookup_field: Some("id".into()), list_id: Some(5), partition: Some("EU".into()) },
            Target::CustomObject { name: "car_c".into() },
            Target::ProgramMembers { program_id: 1044, status: "Member".into() },
        ] {
            let (bytes, layout) = file(2);
            let new = NewJob { target: target.clone(), group: Some("g".into()), priority: -3, ..leads() };
            let chunk = CompressedChunk::compress(0, &bytes).unwrap();
            let Inserted::Created(job) = store.add(new, layout, chunk, from_ms(5)).await.unwrap() else { panic!() };
            assert_eq!(job.target, target);
            assert_eq!((job.state, job.priority, job.group.as_deref()), (JobState::Pending, -3, Some("g")));
            assert_eq!((job.rows.total, job.batches.len(), job.created_at), (2, 2, from_ms(5)));
            assert_eq!(store.job(job.id).await.unwrap(), job, "the returned job equals the stored one");
            let mut content = store.content(StoredFile::submitted(job.id), 0..job.bytes);
            assert_eq!(content.next().await.unwrap().unwrap(), bytes);
            assert_eq!(store.history(job.id).await.unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_streamed_file_becomes_a_job_at_its_end() {
        let store = store().await;
        let id = store.begin_submission(leads(), from_ms(1)).await.unwrap();
        let (bytes, layout) = file(1);
        store.insert_chunks(id, vec![CompressedChunk::compress(0, &bytes).unwrap()]).await.unwrap();
        assert_eq!(
            store.snapshot("default", from_ms(2), 10, std::time::Duration::MAX).await.unwrap().candidates.len(),
            0
        );
        store.commit_submission(id, leads(), layout, from_ms(3)).await.unwrap();
        assert_eq!(
            store.snapshot("default", from_ms(4), 10, std::time::Duration::MAX).await.unwrap().candidates.len(),
            1
        );
        // It is a job now, so the abort does nothing.
        store.abort_submission(id).await.unwrap();
        assert_eq!(store.job(id).await.unwrap().state, JobState::Pending);
    }

    #[tokio::test]
    async fn an_interrupted_submission_leaves_nothing() {
        let store = store().await;
        let id = store.begin_submission(leads(), from_ms(1)).await.unwrap();
        store.insert_chunks(id, vec![CompressedChunk::compress(0, b"email\n").unwrap()]).await.unwrap();
        store.abort_submission(id).await.unwrap();
        assert!(matches!(store.job(id).await, Err(StoreError::NoJob(_))));
        let left: i64 =
            sqlx::query_scalar("SELECT count(*) FROM chunk").fetch_one(&store.shared.readers).await.unwrap();
        assert_eq!(left, 0);
    }

    #[tokio::test]
    async fn an_idempotency_key_accepts_only_the_same_content() {
        let store = store().await;
        let (chunk, layout) = hashed(1, 7);
        let Inserted::Created(first) = store.add(keyed("k"), layout, chunk, from_ms(1)).await.unwrap() else {
            panic!()
        };
        let (chunk, layout) = hashed(1, 7);
        let Inserted::Existing(again) = store.add(keyed("k"), layout, chunk, from_ms(2)).await.unwrap() else {
            panic!()
        };
        assert_eq!(again.id, first.id);
        let (chunk, layout) = hashed(1, 8);
        let error = store.add(keyed("k"), layout, chunk, from_ms(3)).await.unwrap_err();
        assert!(matches!(error, StoreError::KeyReused(_)));
        let (chunk, layout) = hashed(1, 7);
        let other = NewJob { target: Target::CustomObject { name: "car_c".into() }, ..keyed("k") };
        assert!(matches!(store.add(other, layout, chunk, from_ms(3)).await, Err(StoreError::KeyReused(_))));
    }

    #[tokio::test]
    async fn each_client_has_its_own_idempotency_keys() {
        let store = store().await;
        let from = |client: &str| NewJob { source: Source::Client { client_id: client.into() }, ..keyed("k") };
        let mut ids = Vec::new();
        for (new, hash) in [(from("crm"), 1), (from("web"), 2), (keyed("k"), 3)] {
            let (chunk, layout) = hashed(1, hash);
            let Inserted::Created(job) = store.add(new.clone(), layout, chunk, from_ms(1)).await.unwrap() else {
                panic!()
            };
            assert_eq!(job.source, Some(new.source.clone()));
            let (chunk, layout) = hashed(1, hash);
            let Inserted::Existing(same) = store.add(new, layout, chunk, from_ms(2)).await.unwrap() else { panic!() };
            assert_eq!(same.id, job.id);
            ids.push(job.id.0);
        }
        assert_eq!(ids, [1, 2, 3]);
    }

    #[tokio::test]
    async fn form_fields_behind_the_file_take_effect() {
        let store = store().await;
        let id = store.begin_submission(leads(), from_ms(1)).await.unwrap();
        let (bytes, layout) = file(1);
        store.insert_chunks(id, vec![CompressedChunk::compress(0, &bytes).unwrap()]).await.unwrap();
        let target = Target::Leads { lookup_field: Some("id".into()), list_id: Some(7), partition: Some("EU".into()) };
        let new = NewJob { target: target.clone(), format: Format::Tsv, ..leads() };
        let Inserted::Created(job) = store.commit_submission(id, new, layout, from_ms(2)).await.unwrap() else {
            panic!()
        };
        assert_eq!((job.target, job.format), (target, Format::Tsv));
    }

    #[tokio::test]
    async fn concurrent_files_with_one_key_become_one_job() {
        let store = store().await;
        let mut ids = Vec::new();
        for _ in 0..2 {
            let id = store.begin_submission(keyed("k"), from_ms(1)).await.unwrap();
            store.insert_chunks(id, vec![CompressedChunk::compress(0, &file(1).0).unwrap()]).await.unwrap();
            ids.push(id);
        }
        let finish = |id| store.commit_submission(id, keyed("k"), hashed(1, 1).1, from_ms(2));
        let (first, second) = tokio::join!(finish(ids[0]), finish(ids[1]));
        let (Inserted::Created(made), Inserted::Existing(same)) = (first.unwrap(), second.unwrap()) else { panic!() };
        assert_eq!(made.id, same.id);
        assert!(matches!(store.job(ids[1]).await, Err(StoreError::NoJob(_))));
    }
}
