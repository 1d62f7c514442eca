//! Submissions: creates a job from a file, in one transaction or chunk by chunk with a final commit.

use jiff::Timestamp;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Row, Sqlite};

use crate::domain::row_counts::RowCounts;
use crate::domain::{Format, JobId, JobState, Source, Target};
use crate::store::engine::writer::StoreTx;
use crate::store::error::StoreError;
use crate::store::events::MetricEvent;
use crate::store::models::{Batch, Job};
use crate::store::tables::chunks::{CHUNK_BYTES, CompressedChunk};
use crate::store::tables::jobs;
use crate::store::tables::target_columns::TargetColumns;
use crate::store::{ChangeEvent, Store};

/// The parameters of a new job.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The name of its instance.
    pub instance: String,
    /// Where its rows go on Marketo.
    pub target: Target,
    /// The name of the file.
    pub filename: String,
    /// How the file separates its fields.
    pub format: Format,
    /// Higher goes first.
    pub priority: i64,
    /// Jobs of one group are imported one after another, in the order of their ids.
    pub group: Option<String>,
    /// A second submission with the same key and content returns the first job.
    pub idempotency_key: Option<String>,
    /// The job whose failed rows this one sends again.
    pub retry_of: Option<JobId>,
    /// Who submits it.
    pub source: Source,
}

/// What was found by reading the file.
#[derive(Clone, Debug)]
pub struct JobLayout {
    /// Size of the file in bytes.
    pub bytes: u64,
    /// The header's range in bytes, with its line end and without a byte-order mark.
    pub header: (u64, u64),
    /// Rows of the file, without the header.
    pub rows: u64,
    /// The ranges of its batches, in order; at least one.
    pub parts: Vec<PartRange>,
    /// The hash of the whole content; needed with an idempotency key.
    pub sha256: Option<[u8; 32]>,
    /// Findings that do not prevent the import; each becomes a history entry.
    pub warnings: Vec<String>,
}

/// The rows of one batch: the bytes `from..to` of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRange {
    /// The first byte.
    pub from: u64,
    /// The byte behind the last one.
    pub to: u64,
    /// How many rows these bytes are.
    pub rows: u64,
}

/// The result of a submission.
#[derive(Debug)]
pub enum Inserted {
    /// A new job.
    Created(Job),
    /// The job that an earlier submission with the same idempotency key and content created.
    Existing(Job),
}

impl Store {
    /// Adds a job of a file that is a single chunk, in one transaction. On return the job is on the disk.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`] where the idempotency key belongs to another job, or [`StoreError::Full`].
    pub async fn add(
        &self,
        new: NewJob,
        layout: JobLayout,
        chunk: CompressedChunk,
        now: Timestamp,
    ) -> Result<Inserted, StoreError> {
        self.write("add", move |tx| {
            Box::pin(async move {
                if let Some(same) = find_by_idempotency_key(tx, &new, &layout).await? {
                    return Ok(Inserted::Existing(same));
                }
                let id = insert_with_content(tx, &new, &layout, chunk, now).await?;
                insert_batches(tx, id, &layout).await?;
                write_warnings(tx, id, &layout, now).await?;
                publish_accepted(tx, id, &new, &layout);
                Ok(Inserted::Created(to_record(id, new, &layout, now)))
            })
        })
        .await
    }

    /// Begins the submission of a file in several chunks. Until [`Store::commit_submission`] it is no job.
    ///
    /// # Errors
    /// [`StoreError::Full`], or another error of writing the database.
    pub async fn begin_submission(&self, new: NewJob, now: Timestamp) -> Result<JobId, StoreError> {
        self.write("begin_submission", move |tx| Box::pin(async move { begin(tx, &new, now).await })).await
    }

    /// Turns the received chunks into a job, unless its idempotency key belongs to an earlier job. Then the caller has to
    /// call [`Store::abort_submission`].
    ///
    /// # Errors
    /// As [`Store::add`]; the caller has to abort the submission then too.
    pub async fn commit_submission(
        &self,
        id: JobId,
        new: NewJob,
        layout: JobLayout,
        now: Timestamp,
    ) -> Result<Inserted, StoreError> {
        self.write("commit_submission", move |tx| {
            Box::pin(async move {
                if let Some(same) = find_by_idempotency_key(tx, &new, &layout).await? {
                    return Ok(Inserted::Existing(same));
                }
                finish(tx, id, &new, &layout, now).await.map(Inserted::Created)
            })
        })
        .await
    }
}

/// Inserts the row of table `job`; [`bind_row`] binds its values.
macro_rules! insert_row {
    () => {
        "INSERT INTO job (instance, state, target, lookup_field, list_id, partition_name, object_name, program_id,
                          member_status, filename, format, priority, job_group, retry_of, created_at, bytes,
                          header_from, header_to, rows, idempotency_key, content_sha256, source, source_name)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    };
}

/// Binds the values of `insert_row!`. Without a layout the job is `receiving`, and [`finish`] sets the missing values.
fn bind_row<'q>(
    sql: &'static str,
    new: &'q NewJob,
    layout: Option<&'q JobLayout>,
    now: Timestamp,
) -> Query<'q, Sqlite, SqliteArguments> {
    let TargetColumns { lookup_field, list_id, partition, object, program, status } =
        TargetColumns::from_target(&new.target);
    let (source, source_name) = new.source.to_columns();
    sqlx::query(sql)
        .bind(&new.instance)
        .bind(if layout.is_some() { JobState::Pending } else { JobState::Receiving }.as_str())
        .bind(new.target.kind())
        .bind(lookup_field)
        .bind(list_id)
        .bind(partition)
        .bind(object)
        .bind(program)
        .bind(status)
        .bind(&new.filename)
        .bind(new.format.as_str())
        .bind(new.priority)
        .bind(&new.group)
        .bind(new.retry_of.map(|id| id.0))
        .bind(now.as_millisecond())
        .bind(layout.map_or(0, |layout| layout.bytes.cast_signed()))
        .bind(layout.map_or(0, |layout| layout.header.0.cast_signed()))
        .bind(layout.map_or(0, |layout| layout.header.1.cast_signed()))
        .bind(layout.map_or(0, |layout| layout.rows.cast_signed()))
        // Two submissions with one key may be received at the same time. The first one that is complete gets the key.
        .bind(layout.and(new.idempotency_key.as_deref()))
        .bind(layout.and_then(|layout| layout.sha256.as_ref()).map(<[u8; 32]>::as_slice))
        .bind(source)
        .bind(source_name)
}

async fn begin(tx: &mut StoreTx<'_>, new: &NewJob, now: Timestamp) -> Result<JobId, StoreError> {
    // At least this much will follow.
    tx.budget.reserve_for_file(CHUNK_BYTES as u64)?;
    let done = bind_row(insert_row!(), new, None, now).execute(&mut *tx.conn).await?;
    Ok(JobId(done.last_insert_rowid()))
}

/// Inserts the job's row, its content and its first history entry with one call of the connection's thread: such calls are
/// nearly all the cost of a submission. Ids only rise, so `max(id)` is the id of the first statement.
async fn insert_with_content(
    tx: &mut StoreTx<'_>,
    new: &NewJob,
    layout: &JobLayout,
    chunk: CompressedChunk,
    now: Timestamp,
) -> Result<JobId, StoreError> {
    const SQL: &str = concat!(
        insert_row!(),
        " RETURNING id;
         INSERT INTO chunk (job_id, kind, part, byte_from, bytes, packed) SELECT max(id), 'file', 0, ?, ?, ? FROM job;
         INSERT INTO history (job_id, at, event, state, message) SELECT max(id), ?, 'received', 'pending', ? FROM job"
    );
    tx.budget.reserve_for_file(chunk.data.len() as u64)?;
    let rows = bind_row(SQL, new, Some(layout), now)
        .bind(chunk.from.cast_signed())
        .bind(i64::try_from(chunk.bytes).unwrap_or(i64::MAX))
        .bind(chunk.data)
        .bind(now.as_millisecond())
        .bind(accepted_message(new))
        // `fetch_one` would stop at the first row, before the second statement.
        .fetch_all(&mut *tx.conn)
        .await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(JobId(row.try_get("id")?))
}

/// Returns the job that an earlier submission with the same key created, if there is one.
async fn find_by_idempotency_key(
    tx: &mut StoreTx<'_>,
    new: &NewJob,
    layout: &JobLayout,
) -> Result<Option<Job>, StoreError> {
    let Some(key) = &new.idempotency_key else { return Ok(None) };
    let row = sqlx::query(
        "SELECT id, content_sha256 FROM job
         WHERE idempotency_key = ? AND iif(source = 'client', source_name, '') = ?",
    )
    .bind(key)
    .bind(new.source.client_id().unwrap_or_default())
    .fetch_optional(&mut *tx.conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let job = jobs::job(&mut *tx.conn, JobId(row.try_get("id")?)).await?;
    let content: Option<Vec<u8>> = row.try_get("content_sha256")?;
    let same = content.as_deref() == layout.sha256.as_ref().map(<[u8; 32]>::as_slice)
        && job.instance == new.instance
        && job.target == new.target
        && job.format == new.format;
    if same { Ok(Some(job)) } else { Err(StoreError::KeyReused(key.clone())) }
}

/// Returns the message of the history entry of a submission.
fn accepted_message(new: &NewJob) -> String {
    format!("from {}", new.source)
}

/// Turns a received file into a pending job. The parameters may differ from those at its beginning, because a client can
/// send form fields behind the file.
async fn finish(
    tx: &mut StoreTx<'_>,
    id: JobId,
    new: &NewJob,
    layout: &JobLayout,
    now: Timestamp,
) -> Result<Job, StoreError> {
    let target = TargetColumns::from_target(&new.target);
    let (source, source_name) = new.source.to_columns();
    let done = sqlx::query(
        "UPDATE job SET state = 'pending', bytes = ?, header_from = ?, header_to = ?, rows = ?, idempotency_key = ?,
                        content_sha256 = ?, lookup_field = ?, list_id = ?, partition_name = ?, object_name = ?,
                        program_id = ?, member_status = ?, format = ?, source = ?, source_name = ?
         WHERE id = ? AND state = 'receiving'",
    )
    .bind(layout.bytes.cast_signed())
    .bind(layout.header.0.cast_signed())
    .bind(layout.header.1.cast_signed())
    .bind(layout.rows.cast_signed())
    .bind(&new.idempotency_key)
    .bind(layout.sha256.as_ref().map(<[u8; 32]>::as_slice))
    .bind(target.lookup_field)
    .bind(target.list_id)
    .bind(target.partition)
    .bind(target.object)
    .bind(target.program)
    .bind(target.status)
    .bind(new.format.as_str())
    .bind(source)
    .bind(source_name)
    .bind(id.0)
    .execute(&mut *tx.conn)
    .await?;
    if done.rows_affected() == 0 {
        return Err(StoreError::NoJob(id));
    }
    insert_batches(tx, id, layout).await?;
    let (state, message) = (JobState::Pending.as_str(), accepted_message(new));
    jobs::write_history(tx, id, None, now, "received", state, Some(&message), None).await?;
    write_warnings(tx, id, layout, now).await?;
    publish_accepted(tx, id, new, layout);
    jobs::job(&mut *tx.conn, id).await
}

async fn write_warnings(tx: &mut StoreTx<'_>, id: JobId, layout: &JobLayout, now: Timestamp) -> Result<(), StoreError> {
    for warning in &layout.warnings {
        jobs::write_history(tx, id, None, now, "warned", JobState::Pending.as_str(), Some(warning), None).await?;
    }
    Ok(())
}

/// Publishes the events of a new job.
fn publish_accepted(tx: &mut StoreTx<'_>, id: JobId, new: &NewJob, layout: &JobLayout) {
    tx.changes.push(ChangeEvent::Job(id));
    tx.changes.push(ChangeEvent::Metric(MetricEvent::Accepted { instance: new.instance.clone(), bytes: layout.bytes }));
}

async fn insert_batches(tx: &mut StoreTx<'_>, id: JobId, layout: &JobLayout) -> Result<(), StoreError> {
    for (part, rows) in (1_u32..).zip(&layout.parts) {
        insert_batch(tx, id, part, rows).await?;
    }
    Ok(())
}

pub(crate) async fn insert_batch(
    tx: &mut StoreTx<'_>,
    id: JobId,
    part: u32,
    rows: &PartRange,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO batch (job_id, part, state, byte_from, byte_to, rows) VALUES (?, ?, 'pending', ?, ?, ?)")
        .bind(id.0)
        .bind(part)
        .bind(rows.from.cast_signed())
        .bind(rows.to.cast_signed())
        .bind(rows.rows.cast_signed())
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

/// Returns the new job as reading it would give it, without two more queries.
fn to_record(id: JobId, new: NewJob, layout: &JobLayout, now: Timestamp) -> Job {
    let batch = |(part, rows): (u32, &PartRange)| Batch::new(part, rows.rows, rows.from, rows.to);
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
    use crate::store::tables::chunks::FileKind;
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
    async fn each_target_comes_back_as_it_went_in() {
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
            let mut content = store.content(job.id, FileKind::File, 0, 0, job.bytes);
            assert_eq!(content.next().await.unwrap().unwrap(), bytes);
            assert_eq!(store.history(job.id).await.unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_file_that_streams_in_is_no_job_before_its_end() {
        let store = store().await;
        let id = store.begin_submission(leads(), from_ms(1)).await.unwrap();
        let (bytes, layout) = file(1);
        store.insert_chunk(id, CompressedChunk::compress(0, &bytes).unwrap()).await.unwrap();
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
    async fn a_file_that_is_cut_off_leaves_nothing() {
        let store = store().await;
        let id = store.begin_submission(leads(), from_ms(1)).await.unwrap();
        store.insert_chunk(id, CompressedChunk::compress(0, b"email\n").unwrap()).await.unwrap();
        store.abort_submission(id).await.unwrap();
        assert!(matches!(store.job(id).await, Err(StoreError::NoJob(_))));
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM chunk").fetch_one(store.readers()).await.unwrap();
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
    async fn a_key_is_its_clients_own() {
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
    async fn what_was_said_behind_a_file_holds() {
        let store = store().await;
        let id = store.begin_submission(leads(), from_ms(1)).await.unwrap();
        let (bytes, layout) = file(1);
        store.insert_chunk(id, CompressedChunk::compress(0, &bytes).unwrap()).await.unwrap();
        let target = Target::Leads { lookup_field: Some("id".into()), list_id: Some(7), partition: Some("EU".into()) };
        let new = NewJob { target: target.clone(), format: Format::Tsv, ..leads() };
        let Inserted::Created(job) = store.commit_submission(id, new, layout, from_ms(2)).await.unwrap() else {
            panic!()
        };
        assert_eq!((job.target, job.format), (target, Format::Tsv));
    }

    #[tokio::test]
    async fn two_files_of_one_key_that_stream_in_at_once_become_one_job() {
        let store = store().await;
        let mut ids = Vec::new();
        for _ in 0..2 {
            let id = store.begin_submission(keyed("k"), from_ms(1)).await.unwrap();
            store.insert_chunk(id, CompressedChunk::compress(0, &file(1).0).unwrap()).await.unwrap();
            ids.push(id);
        }
        let finish = |id| store.commit_submission(id, keyed("k"), hashed(1, 1).1, from_ms(2));
        let (first, second) = tokio::join!(finish(ids[0]), finish(ids[1]));
        let (Inserted::Created(made), Inserted::Existing(same)) = (first.unwrap(), second.unwrap()) else { panic!() };
        assert_eq!(made.id, same.id);
        assert!(matches!(store.job(ids[1]).await, Err(StoreError::NoJob(_))));
    }
}
