//! Table `job`: reads jobs with their batches.

use crate::domain::{BatchKey, JobId, JobState};
use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::models::{Batch, Job, JobPage};
use crate::store::tables::batch_columns::batch_columns;
use crate::store::tables::job_columns::job_columns;

impl ReadTx<'_> {
    /// Returns a job with its batches.
    pub(crate) async fn job(&mut self, id: JobId) -> Result<Job, StoreError> {
        let sql = concat!("SELECT ", job_columns!(), " FROM job WHERE id = ? AND state <> 'receiving'");
        let mut job: Job =
            sqlx::query_as(sql).bind(id.0).fetch_optional(&mut *self.conn).await?.ok_or(StoreError::NoJob(id))?;
        self.add_batches(&mut job).await?;
        Ok(job)
    }

    /// Returns the jobs of a page, newest first.
    pub(crate) async fn jobs(&mut self, page: JobPage) -> Result<Vec<Job>, StoreError> {
        let before = page.before.map_or(i64::MAX, |id| id.0);
        let query = match page.state {
            None => sqlx::query_as(concat!(
                "SELECT ",
                job_columns!(),
                " FROM job WHERE id < ? AND state <> 'receiving' ORDER BY id DESC LIMIT ?"
            )),
            Some(state) => sqlx::query_as(concat!(
                "SELECT ",
                job_columns!(),
                " FROM job WHERE state = ? AND state <> 'receiving' AND id < ? ORDER BY id DESC LIMIT ?"
            ))
            .bind(state.as_str()),
        };
        let jobs = query.bind(before).bind(page.limit).fetch_all(&mut *self.conn).await?;
        self.with_batches(jobs).await
    }

    /// Returns the jobs of a page that one client submitted, newest first; with `instances`, only those of these instances.
    pub(crate) async fn jobs_of(
        &mut self,
        client_id: &str,
        instances: Option<&[String]>,
        page: JobPage,
    ) -> Result<Vec<Job>, StoreError> {
        // SQLite takes a list as JSON.
        let instances = instances.map(|names| serde_json::json!(names).to_string());
        let jobs = sqlx::query_as(concat!(
            "SELECT ",
            job_columns!(),
            " FROM job
             WHERE source = 'client' AND source_name = ?1 AND id < ?2 AND state <> 'receiving'
                   AND (?3 IS NULL OR state = ?3) AND (?4 IS NULL OR instance IN (SELECT value FROM json_each(?4)))
             ORDER BY id DESC LIMIT ?5"
        ))
        .bind(client_id)
        .bind(page.before.map_or(i64::MAX, |id| id.0))
        .bind(page.state.map(JobState::as_str))
        .bind(instances)
        .bind(page.limit)
        .fetch_all(&mut *self.conn)
        .await?;
        self.with_batches(jobs).await
    }

    /// Returns the job of a batch, and the batch.
    pub(crate) async fn batch(&mut self, key: BatchKey) -> Result<(Job, Batch), StoreError> {
        let job = self.job(key.job).await?;
        let batch = job.batches.iter().find(|batch| batch.part == key.part).cloned();
        batch.map(|batch| (job, batch)).ok_or(StoreError::NoBatch(key))
    }

    /// Returns the oldest unended job of the job's group, if it is older than the job.
    pub(crate) async fn blocking_job_in_group(&mut self, job: &Job) -> Result<Option<JobId>, StoreError> {
        let oldest: Option<i64> = sqlx::query_scalar(
            "SELECT min(id) FROM job WHERE instance = ? AND job_group = ? AND state IN ('pending', 'running') AND id < ?",
        )
        .bind(&job.instance)
        .bind(&job.group)
        .bind(job.id.0)
        .fetch_one(&mut *self.conn)
        .await?;
        Ok(oldest.map(JobId))
    }

    /// Returns how many jobs there are, without incomplete submissions.
    pub(crate) async fn count_jobs(&mut self) -> Result<u64, sqlx::Error> {
        let jobs: i64 = sqlx::query_scalar("SELECT count(*) FROM job WHERE state <> 'receiving'")
            .fetch_one(&mut *self.conn)
            .await?;
        Ok(jobs.cast_unsigned())
    }

    async fn with_batches(&mut self, mut jobs: Vec<Job>) -> Result<Vec<Job>, StoreError> {
        for job in &mut jobs {
            self.add_batches(job).await?;
        }
        Ok(jobs)
    }

    async fn add_batches(&mut self, job: &mut Job) -> Result<(), StoreError> {
        job.batches =
            sqlx::query_as(concat!("SELECT ", batch_columns!(), " FROM batch WHERE job_id = ? ORDER BY byte_from"))
                .bind(job.id.0)
                .fetch_all(&mut *self.conn)
                .await?;
        for batch in &job.batches {
            job.rows.add_counts(&batch.rows);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::domain::{JobState, Source};
    use crate::store::new_job::NewJob;
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
        let ids = async |client_id: &str, instances: Option<&[String]>, page: JobPage| {
            let jobs = store.jobs_of(client_id, instances, page).await.unwrap();
            jobs.into_iter().map(|job| job.id.0).collect::<Vec<_>>()
        };
        let all = JobPage { state: None, limit: 9, before: None };
        assert_eq!(ids("crm", None, all).await, [5, 1]);
        assert_eq!(ids("crm", None, JobPage { before: Some(JobId(5)), ..all }).await, [1]);
        assert_eq!(ids("crm", None, JobPage { limit: 1, ..all }).await, [5]);
        assert_eq!(ids("crm", Some(&["eu".into(), "us".into()]), all).await, [5]);
        assert_eq!(ids("crm", None, JobPage { state: Some(JobState::Failed), ..all }).await, [0; 0]);
        assert_eq!(ids("crm", None, JobPage { state: Some(JobState::Pending), ..all }).await, [5, 1]);
        assert_eq!(ids("", None, all).await, [0; 0]);
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
}
