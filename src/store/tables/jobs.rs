//! Jobs: reads jobs, batches and histories, and writes history entries.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::clock::from_ms;
use crate::domain::{BatchKey, JobId, JobState};
use crate::store::Store;
use crate::store::engine::writer::StoreTx;
use crate::store::error::StoreError;
use crate::store::models::{Batch, HistoryEntry, Job};
use crate::store::tables::row_mapping::{read_batch, read_job};

impl Store {
    /// Returns a job with its batches.
    ///
    /// # Errors
    /// [`StoreError::NoJob`], or an error of reading the database.
    pub async fn job(&self, id: JobId) -> Result<Job, StoreError> {
        let mut conn = self.readers().acquire().await?;
        job(&mut conn, id).await
    }

    /// Returns at most `limit` jobs, newest first, with ids below `before`; with `state`, only those in it.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn jobs(
        &self,
        state: Option<JobState>,
        limit: u32,
        before: Option<JobId>,
    ) -> Result<Vec<Job>, StoreError> {
        let before = before.map_or(i64::MAX, |id| id.0);
        let mut snapshot = self.readers().begin().await?;
        let rows =
            match state {
                None => {
                    sqlx::query("SELECT * FROM job WHERE id < ? AND state <> 'receiving' ORDER BY id DESC LIMIT ?")
                        .bind(before)
                        .bind(limit)
                        .fetch_all(&mut *snapshot)
                        .await?
                }
                Some(state) => sqlx::query(
                    "SELECT * FROM job WHERE state = ? AND state <> 'receiving' AND id < ? ORDER BY id DESC LIMIT ?",
                )
                .bind(state.as_str())
                .bind(before)
                .bind(limit)
                .fetch_all(&mut *snapshot)
                .await?,
            };
        with_batches(&mut snapshot, &rows).await
    }

    /// Returns jobs like [`Store::jobs`], only those of one client; with `instances`, only those of these instances.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn jobs_of(
        &self,
        client_id: &str,
        instances: Option<&[String]>,
        state: Option<JobState>,
        limit: u32,
        before: Option<JobId>,
    ) -> Result<Vec<Job>, StoreError> {
        // SQLite takes a list as JSON.
        let instances = instances.map(|names| serde_json::json!(names).to_string());
        let mut snapshot = self.readers().begin().await?;
        let rows = sqlx::query(
            "SELECT * FROM job
             WHERE source = 'client' AND source_name = ?1 AND id < ?2 AND state <> 'receiving'
                   AND (?3 IS NULL OR state = ?3) AND (?4 IS NULL OR instance IN (SELECT value FROM json_each(?4)))
             ORDER BY id DESC LIMIT ?5",
        )
        .bind(client_id)
        .bind(before.map_or(i64::MAX, |id| id.0))
        .bind(state.map(JobState::as_str))
        .bind(instances)
        .bind(limit)
        .fetch_all(&mut *snapshot)
        .await?;
        with_batches(&mut snapshot, &rows).await
    }

    /// Returns the history of a job, oldest entry first.
    ///
    /// # Errors
    /// [`StoreError::NoJob`], or an error of reading the database.
    pub async fn history(&self, id: JobId) -> Result<Vec<HistoryEntry>, StoreError> {
        let rows =
            sqlx::query("SELECT at, part, event, state, message, request_id FROM history WHERE job_id = ? ORDER BY id")
                .bind(id.0)
                .fetch_all(self.readers())
                .await?;
        if rows.is_empty() {
            // Every job has an entry, so the id is unknown or the job is still being received.
            self.job(id).await?;
        }
        rows.iter()
            .map(|row| {
                Ok(HistoryEntry {
                    at: from_ms(row.try_get("at")?),
                    part: row.try_get("part")?,
                    event: row.try_get("event")?,
                    state: row.try_get("state")?,
                    message: row.try_get("message")?,
                    request_id: row.try_get("request_id")?,
                })
            })
            .collect()
    }

    /// Returns the job of a batch, and the batch.
    ///
    /// # Errors
    /// [`StoreError::NoJob`] or [`StoreError::NoBatch`], or an error of reading the database.
    pub async fn batch(&self, key: BatchKey) -> Result<(Job, Batch), StoreError> {
        let job = self.job(key.job).await?;
        let batch = job.batches.iter().find(|batch| batch.part == key.part).cloned();
        batch.map(|batch| (job, batch)).ok_or(StoreError::NoBatch(key))
    }
}

/// Reads a job with its batches.
pub(crate) async fn job(conn: &mut SqliteConnection, id: JobId) -> Result<Job, StoreError> {
    let row = sqlx::query("SELECT * FROM job WHERE id = ? AND state <> 'receiving'")
        .bind(id.0)
        .fetch_optional(&mut *conn)
        .await?
        .ok_or(StoreError::NoJob(id))?;
    let mut job = read_job(&row)?;
    add_batches(conn, &mut job).await?;
    Ok(job)
}

async fn with_batches(conn: &mut SqliteConnection, rows: &[SqliteRow]) -> Result<Vec<Job>, StoreError> {
    let mut jobs = rows.iter().map(read_job).collect::<Result<Vec<Job>, sqlx::Error>>()?;
    for job in &mut jobs {
        add_batches(conn, job).await?;
    }
    Ok(jobs)
}

async fn add_batches(conn: &mut SqliteConnection, job: &mut Job) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT * FROM batch WHERE job_id = ? ORDER BY byte_from")
        .bind(job.id.0)
        .fetch_all(&mut *conn)
        .await?;
    job.batches = rows.iter().map(read_batch).collect::<Result<_, _>>()?;
    for batch in &job.batches {
        job.rows.add_counts(&batch.rows);
    }
    Ok(())
}

/// Adds an entry to a job's history. `state` is the state after the event.
#[allow(clippy::too_many_arguments, reason = "they are the columns of one row")]
pub(crate) async fn write_history(
    tx: &mut StoreTx<'_>,
    job: JobId,
    part: Option<u32>,
    at: Timestamp,
    event: &str,
    state: &str,
    message: Option<&str>,
    request_id: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO history (job_id, part, at, event, state, message, request_id) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(job.0)
    .bind(part)
    .bind(at.as_millisecond())
    .bind(event)
    .bind(state)
    .bind(message)
    .bind(request_id)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Source;
    use crate::store::tables::submissions::NewJob;
    use crate::store::test_util::{add, leads, store};

    #[tokio::test]
    async fn jobs_are_listed_newest_first_and_page_by_page() {
        let store = store().await;
        for _ in 0..5 {
            add(&store, leads(), 1).await;
        }
        let ids = |jobs: Vec<Job>| jobs.into_iter().map(|job| job.id.0).collect::<Vec<_>>();
        assert_eq!(ids(store.jobs(None, 2, None).await.unwrap()), [5, 4]);
        assert_eq!(ids(store.jobs(None, 9, Some(JobId(4))).await.unwrap()), [3, 2, 1]);
        assert_eq!(ids(store.jobs(Some(JobState::Pending), 2, Some(JobId(3))).await.unwrap()), [2, 1]);
        assert_eq!(ids(store.jobs(Some(JobState::Failed), 9, None).await.unwrap()), [0; 0]);
    }

    #[tokio::test]
    async fn a_clients_list_holds_its_own_jobs_and_only_on_its_instances() {
        let store = store().await;
        let from = |client: &str| Source::Client { client_id: client.into() };
        for (source, instance) in [
            (from("crm"), "default"),
            (from("web"), "default"),
            (Source::Socket { uid: Some(0) }, "default"),
            (Source::Drop { path: "crm".into() }, "default"),
            (from("crm"), "eu"),
        ] {
            add(&store, NewJob { source, instance: instance.into(), ..leads() }, 1).await;
        }
        let ids = |jobs: Vec<Job>| jobs.into_iter().map(|job| job.id.0).collect::<Vec<_>>();
        assert_eq!(ids(store.jobs_of("crm", None, None, 9, None).await.unwrap()), [5, 1]);
        assert_eq!(ids(store.jobs_of("crm", None, None, 9, Some(JobId(5))).await.unwrap()), [1]);
        assert_eq!(ids(store.jobs_of("crm", None, None, 1, None).await.unwrap()), [5]);
        assert_eq!(ids(store.jobs_of("crm", Some(&["eu".into(), "us".into()]), None, 9, None).await.unwrap()), [5]);
        assert_eq!(ids(store.jobs_of("crm", None, Some(JobState::Failed), 9, None).await.unwrap()), [0; 0]);
        assert_eq!(ids(store.jobs_of("crm", None, Some(JobState::Pending), 9, None).await.unwrap()), [5, 1]);
        assert_eq!(ids(store.jobs_of("", None, None, 9, None).await.unwrap()), [0; 0]);
    }

    #[tokio::test]
    async fn a_history_begins_with_the_submission() {
        let store = store().await;
        let id = add(&store, leads(), 1).await;
        let history = store.history(id).await.unwrap();
        assert_eq!(history.len(), 1);
        assert_eq!((history[0].event.as_str(), history[0].at, history[0].part), ("received", from_ms(1_000), None));
        assert!(matches!(store.history(JobId(99)).await, Err(StoreError::NoJob(JobId(99)))));
    }

    #[tokio::test]
    async fn a_job_reads_the_same_after_a_round_through_json() {
        let store = store().await;
        let id = add(&store, leads(), 3).await;
        let mut job = store.job(id).await.unwrap();
        job.batches[0].marketo_batch_id = Some("3404".into());
        let json = serde_json::to_value(&job).unwrap();
        assert_eq!(json["batches"][0]["marketo_batch_id"], 3404);
        assert_eq!(json["created_at"], "1970-01-01T00:00:01Z");
        // The header's range is not part of the API.
        job.header = (0, 0);
        assert_eq!(serde_json::from_value::<Job>(json).unwrap(), job);
    }
}
