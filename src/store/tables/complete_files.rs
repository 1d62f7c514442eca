//! Complete files: creates the jobs of files that are received whole, many of them with one call of the connection.
//!
//! Each call of the connection's thread takes longer than SQLite takes for a row, so a job of its own for each call
//! would spend nearly all its time on the way.

use std::collections::HashSet;

use jiff::Timestamp;
use sqlx::Row;

use crate::domain::{BatchKey, JobId, JobState};
use crate::store::engine::transaction::StoreTx;
use crate::store::error::StoreError;
use crate::store::models::Job;
use crate::store::new_job::{Inserted, JobLayout, NewJob};
use crate::store::tables::chunks::CompressedChunk;
use crate::store::tables::column_values::ColumnValues;
use crate::store::tables::idempotency_keys::{FileKey, KeyedJob};
use crate::store::tables::job_columns::with_new_job;
use crate::store::tables::submissions::{accepted_message, created_job};

/// How many jobs one call inserts, most first. There are few sizes so that the connection keeps the statement of each,
/// and SQLite allows 32,766 parameters in one.
const JOBS_IN_CALL: [usize; 4] = [64, 16, 4, 1];

/// SQL of the id of a new job; the parameter counts from 1 within the call. Ids only rise, as the sequence says, which
/// does not change within a statement.
const NEW_ID: &str = "(SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'job') + ?";

/// SQL of the id of a job that was inserted by the same call; the parameter counts from 0 at the last one.
const INSERTED_ID: &str = "(SELECT seq FROM sqlite_sequence WHERE name = 'job') - ?";

/// A file that is a single chunk, to become a job.
pub(crate) struct CompleteFile {
    /// The parameters.
    pub new: NewJob,
    /// What was found by reading it.
    pub layout: JobLayout,
    /// Its content.
    pub chunk: CompressedChunk,
    /// When it was received.
    pub now: Timestamp,
}

impl StoreTx<'_> {
    /// Adds a job for each file and returns the results in the order of the files.
    ///
    /// # Errors
    /// A database error, after which none of the jobs may be kept. What prevents the job of one file only is the result
    /// of that file.
    pub(crate) async fn add_jobs(
        &mut self,
        files: &[CompleteFile],
    ) -> Result<Vec<Result<Inserted, StoreError>>, StoreError> {
        let mut results: Vec<Option<Result<Inserted, StoreError>>> = files.iter().map(|_| None).collect();
        let mut waiting: Vec<usize> = (0..files.len()).collect();
        while !waiting.is_empty() {
            // A second file with one key waits for the job of the first one.
            let mut keys = HashSet::new();
            let (now, later): (Vec<usize>, Vec<usize>) =
                waiting.into_iter().partition(|&at| FileKey::of(&files[at].new).is_none_or(|key| keys.insert(key)));
            let known = self.jobs_by_key(now.iter().filter_map(|&at| FileKey::of(&files[at].new)).collect()).await?;
            let mut accepted = Vec::new();
            for at in now {
                let file = &files[at];
                match FileKey::of(&file.new).and_then(|key| known.get(&key)) {
                    Some(earlier) => results[at] = Some(self.existing_job(earlier, file).await?),
                    None => match self.budget.reserve_for_file(file.chunk.data.len() as u64) {
                        Ok(()) => accepted.push(at),
                        Err(error) => results[at] = Some(Err(error)),
                    },
                }
            }
            for (at, job) in self.insert_jobs(files, &accepted).await? {
                results[at] = Some(Ok(Inserted::Created(job)));
            }
            waiting = later;
        }
        Ok(results.into_iter().map(|result| result.expect("each file has a result")).collect())
    }

    /// Returns the job that has the key of `file`, if it is about the same content.
    async fn existing_job(
        &mut self,
        earlier: &KeyedJob,
        file: &CompleteFile,
    ) -> Result<Result<Inserted, StoreError>, StoreError> {
        let job = self.job(earlier.id).await?;
        Ok(earlier.check(job, &file.new, &file.layout).map(Inserted::Existing))
    }

    /// Inserts the jobs of those of the files whose numbers are `accepted`. Returns each number with its job.
    async fn insert_jobs(
        &mut self,
        files: &[CompleteFile],
        accepted: &[usize],
    ) -> Result<Vec<(usize, Job)>, StoreError> {
        let mut jobs = Vec::with_capacity(accepted.len());
        let mut rest = accepted;
        while !rest.is_empty() {
            let size = JOBS_IN_CALL.into_iter().find(|&size| size <= rest.len()).expect("one is not too many");
            let (now, later) = rest.split_at(size);
            let call: Vec<&CompleteFile> = now.iter().map(|&at| &files[at]).collect();
            let first = self.insert_in_one_call(&call).await?;
            for ((id, at), file) in (first..).zip(now).zip(call) {
                jobs.push((*at, self.finish_job(JobId(id), file).await?));
            }
            rest = later;
        }
        Ok(jobs)
    }

    /// Inserts the row of each job, its content, its first batch and its first history entry. Returns the id of the
    /// first job; those of the others follow it.
    async fn insert_in_one_call(&mut self, files: &[&CompleteFile]) -> Result<i64, StoreError> {
        let mut rows = ColumnValues::default();
        for (number, file) in (1_i64..).zip(files) {
            rows = with_new_job(rows.set_expression("id", NEW_ID, number), &file.new, &file.layout, file.now);
        }
        rows = rows.end_insert("job");
        let count = i64::try_from(files.len()).expect("a call has few files");
        let from_last = || (0..count).rev().zip(files);
        for (number, CompleteFile { chunk, .. }) in from_last() {
            rows = rows
                .set_expression("job_id", INSERTED_ID, number)
                .set("kind", "file")
                .set("part", 0)
                .set("byte_from", chunk.from.cast_signed())
                .set("bytes", i64::try_from(chunk.bytes).unwrap_or(i64::MAX))
                .set("packed", chunk.data.as_slice())
                .end_row();
        }
        rows = rows.end_insert("chunk");
        for (number, file) in from_last() {
            let Some(part) = file.layout.parts.first() else { continue };
            rows = rows
                .set_expression("job_id", INSERTED_ID, number)
                .set("part", 1)
                .set("instance", file.new.instance.as_str())
                .set("state", "pending")
                .set("byte_from", part.from.cast_signed())
                .set("byte_to", part.to.cast_signed())
                .set("rows", part.rows.cast_signed())
                .set("first_line", part.first_line.map(u64::cast_signed))
                .end_row();
        }
        rows = rows.end_insert("batch");
        for (number, file) in from_last() {
            rows = rows
                .set_expression("job_id", INSERTED_ID, number)
                .set("at", file.now.as_millisecond())
                .set("event", "received")
                .set("state", JobState::Pending.as_str())
                .set("message", accepted_message(&file.new))
                .end_row();
        }
        let query = rows.end_insert("history").into_query("SELECT seq FROM sqlite_sequence WHERE name = 'job'");
        // `fetch_one` would stop at the first row of any statement.
        let found = query.fetch_all(&mut *self.conn).await?;
        let last: i64 = found.last().ok_or(sqlx::Error::RowNotFound)?.try_get("seq")?;
        Ok(last - count + 1)
    }

    /// Inserts what few jobs have, and publishes the job.
    async fn finish_job(&mut self, id: JobId, file: &CompleteFile) -> Result<Job, StoreError> {
        for (part, rows) in (1_u32..).zip(&file.layout.parts).skip(1) {
            self.insert_batch(BatchKey { job: id, part }, rows).await?;
        }
        self.insert_warnings(id, &file.layout, file.now).await?;
        self.publish_accepted(id, &file.new, &file.layout);
        Ok(created_job(id, file.new.clone(), &file.layout, file.now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::domain::Source;
    use crate::store::handle::Store;
    use crate::store::new_job::PartRange;
    use crate::store::tables::chunks::StoredFile;
    use crate::store::test_util::{leads, store};

    /// A file with content, rows and warnings of its own.
    fn numbered(number: u64) -> (Vec<u8>, JobLayout) {
        let mut bytes = b"email\n".to_vec();
        let mut parts = Vec::new();
        for part in 0..=number % 3 {
            let from = bytes.len() as u64;
            bytes.extend_from_slice(format!("{number}.{part}@example.com\n").as_bytes());
            parts.push(PartRange { from, to: bytes.len() as u64, rows: 1, first_line: Some(part + 2) });
        }
        let layout = JobLayout {
            bytes: bytes.len() as u64,
            header: (0, 6),
            rows: parts.len() as u64,
            parts,
            sha256: Some([u8::try_from(number).unwrap(); 32]),
            packing: None,
            warnings: (0..number % 2).map(|_| format!("warning {number}")).collect(),
        };
        (bytes, layout)
    }

    async fn add(store: &Store, new: NewJob, number: u64) -> Result<Inserted, StoreError> {
        let (bytes, layout) = numbered(number);
        let now = from_ms(i64::try_from(number).unwrap());
        store.add(new, layout, CompressedChunk::compress(0, &bytes).unwrap(), now).await
    }

    fn created(result: Result<Inserted, StoreError>) -> Job {
        match result {
            Ok(Inserted::Created(job)) => job,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn jobs_that_are_added_together_keep_their_own_data() {
        let store = store().await;
        let new = |number: u64| NewJob {
            filename: format!("{number}.csv"),
            idempotency_key: (number.is_multiple_of(2)).then(|| format!("key {number}")),
            ..leads()
        };
        // More than one call inserts, and the first one is under way while the others arrive.
        let results = futures_util::future::join_all((0..150).map(|number| add(&store, new(number), number))).await;
        for (number, result) in (0..).zip(results) {
            let job = created(result);
            assert_eq!(job.filename, format!("{number}.csv"));
            assert_eq!(store.job(job.id).await.unwrap(), job, "the returned job equals the stored one");
            let mut content = store.content(StoredFile::submitted(job.id), 0..job.bytes);
            assert_eq!(content.next().await.unwrap().unwrap(), numbered(number).0);
            let history = store.history(job.id).await.unwrap();
            assert_eq!(history.len() as u64, 1 + number % 2, "job {number}");
            assert_eq!(history[0].at, job.created_at);
        }
        assert_eq!(store.jobs(None, 200, None).await.unwrap().len(), 150);
    }

    #[tokio::test]
    async fn one_key_in_files_that_are_added_together_is_one_job() {
        let store = store().await;
        let keyed = || NewJob { idempotency_key: Some("k".into()), ..leads() };
        let client = || NewJob { source: Source::Client { client_id: "crm".into() }, ..keyed() };
        let (first, same, other, clients) = tokio::join!(
            add(&store, keyed(), 1),
            add(&store, keyed(), 1),
            add(&store, keyed(), 2),
            add(&store, client(), 3)
        );
        let first = created(first);
        assert!(matches!(same, Ok(Inserted::Existing(job)) if job.id == first.id));
        assert!(matches!(other, Err(StoreError::KeyReused(_))));
        assert_ne!(created(clients).id, first.id);
        assert!(matches!(add(&store, keyed(), 1).await, Ok(Inserted::Existing(job)) if job.id == first.id));
        assert_eq!(store.jobs(None, 9, None).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_file_that_fails_does_not_undo_others() {
        let store = store().await;
        // A job that is not there breaks a rule of the table.
        let wrong = || NewJob { retry_of: Some(JobId(99)), ..leads() };
        let (a, b, c, d) = tokio::join!(
            add(&store, leads(), 1),
            add(&store, wrong(), 2),
            add(&store, leads(), 3),
            add(&store, wrong(), 4)
        );
        assert!(b.is_err() && d.is_err());
        for (result, number) in [(a, 1), (c, 3)] {
            let job = created(result);
            let mut content = store.content(StoredFile::submitted(job.id), 0..job.bytes);
            assert_eq!(content.next().await.unwrap().unwrap(), numbered(number).0);
        }
        assert_eq!(store.jobs(None, 9, None).await.unwrap().len(), 2);
        created(add(&store, leads(), 5).await);
    }

    #[tokio::test]
    async fn files_whose_callers_are_dropped_are_added() {
        let store = store().await;
        {
            let (first, second) = (add(&store, leads(), 1), add(&store, leads(), 2));
            tokio::pin!(first, second);
            // The first polls queue them; then the callers stop waiting.
            assert!(futures_util::poll!(first.as_mut()).is_pending());
            assert!(futures_util::poll!(second.as_mut()).is_pending());
        }
        created(add(&store, leads(), 3).await);
        assert_eq!(store.jobs(None, 9, None).await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn files_are_refused_after_the_store_is_closed() {
        let store = store().await;
        store.close().await;
        for number in 0..2 {
            assert!(matches!(add(&store, leads(), number).await, Err(StoreError::Closed)));
        }
    }
}
