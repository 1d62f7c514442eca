//! Table `job`: reads jobs with their batches.

use std::collections::HashMap;

use sqlx::{FromRow, QueryBuilder, Row, Sqlite};

use crate::domain::{BatchKey, JobId};
use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::job_filter::{ClientScope, JobFilter, JobPage};
use crate::store::models::{Batch, Job};
use crate::store::tables::batch_columns::batch_columns;
use crate::store::tables::instance_lists::{list_parameter, names_parameter};
use crate::store::tables::job_columns::job_columns;

impl ReadTx<'_> {
    /// Returns a job with its batches.
    pub(crate) async fn job(&mut self, id: JobId) -> Result<Job, StoreError> {
        let sql = concat!("SELECT ", job_columns!(), " FROM job WHERE id = ? AND state <> 'receiving'");
        let jobs = sqlx::query_as(sql).bind(id.0).fetch_all(&mut *self.conn).await?;
        self.with_batches(jobs).await?.pop().ok_or(StoreError::NoJob(id))
    }

    /// Returns the jobs of a page, newest first.
    pub(crate) async fn jobs(&mut self, page: &JobPage) -> Result<Vec<Job>, StoreError> {
        let mut query = QueryBuilder::new(concat!("SELECT ", job_columns!(), " FROM job WHERE state <> 'receiving'"));
        if let Some(before) = page.before {
            query.push(" AND id < ").push_bind(before.0);
        }
        push_conditions(&mut query, &page.filter);
        query.push(" ORDER BY id DESC LIMIT ").push_bind(page.limit);
        let jobs = query.build_query_as().fetch_all(&mut *self.conn).await?;
        self.with_batches(jobs).await
    }

    /// Returns these jobs, by id. Those that are not there are left out.
    pub(crate) async fn jobs_by_id(&mut self, ids: &[JobId]) -> Result<Vec<Job>, StoreError> {
        let sql = concat!(
            "SELECT ",
            job_columns!(),
            " FROM job WHERE id IN (SELECT value FROM json_each(?)) AND state <> 'receiving' ORDER BY id"
        );
        let jobs = sqlx::query_as(sql).bind(ids_parameter(ids)).fetch_all(&mut *self.conn).await?;
        self.with_batches(jobs).await
    }

    /// Returns the job of a batch, and the batch.
    pub(crate) async fn batch(&mut self, key: BatchKey) -> Result<(Job, Batch), StoreError> {
        let job = self.job(key.job).await?;
        let batch = job.batches.iter().find(|batch| batch.part == key.part).cloned();
        batch.map(|batch| (job, batch)).ok_or(StoreError::NoBatch(key))
    }

    /// Returns the oldest unended job of a group; none where all have ended.
    pub(crate) async fn group_head(&mut self, instance: &str, group: &str) -> Result<Option<JobId>, StoreError> {
        let oldest: Option<i64> = sqlx::query_scalar(
            "SELECT min(id) FROM job WHERE instance = ? AND job_group = ? AND state IN ('pending', 'running')",
        )
        .bind(instance)
        .bind(group)
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

    /// Adds the batches of these jobs, with one statement for all.
    async fn with_batches(&mut self, mut jobs: Vec<Job>) -> Result<Vec<Job>, StoreError> {
        let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
        let batches = sqlx::query(concat!(
            "SELECT job_id, ",
            batch_columns!(),
            " FROM batch WHERE job_id IN (SELECT value FROM json_each(?)) ORDER BY job_id, byte_from"
        ));
        let batches = batches.bind(ids_parameter(&ids)).fetch_all(&mut *self.conn).await?;
        let positions: HashMap<i64, usize> = ids.iter().enumerate().map(|(position, id)| (id.0, position)).collect();
        for row in &batches {
            let batch = Batch::from_row(row)?;
            let job = &mut jobs[positions[&row.try_get::<i64, _>("job_id")?]];
            job.rows.add_counts(&batch.rows);
            job.batches.push(batch);
        }
        Ok(jobs)
    }
}

fn ids_parameter(ids: &[JobId]) -> String {
    list_parameter(ids.iter().map(|id| id.0.into()))
}

/// Adds the conditions of a filter. Only those that are set stand in the statement, so that SQLite uses the index of
/// each.
fn push_conditions(query: &mut QueryBuilder<Sqlite>, filter: &JobFilter) {
    let equals = |query: &mut QueryBuilder<Sqlite>, column: &str, value: &Option<String>| {
        if let Some(value) = value {
            query.push(" AND ").push(column).push(" = ").push_bind(value.clone());
        }
    };
    if let Some(state) = filter.state {
        query.push(" AND state = ").push_bind(state.as_str());
    }
    equals(query, "instance", &filter.instance);
    equals(query, "target", &filter.target);
    equals(query, "job_group", &filter.group);
    equals(query, "source", &filter.source);
    if let Some(since) = filter.since {
        query.push(" AND created_at >= ").push_bind(since.as_millisecond());
    }
    if filter.has_failed_rows {
        query.push(" AND EXISTS (SELECT 1 FROM batch WHERE batch.job_id = job.id AND batch.failed > 0)");
    }
    if let Some(id) = filter.retry_of {
        query.push(" AND retry_of = ").push_bind(id.0);
    }
    if let Some(part) = &filter.name_part {
        query.push(" AND instr(lower(filename), lower(").push_bind(part.clone()).push(")) > 0");
    }
    if let Some(ClientScope { client_id, instances }) = &filter.visible_to {
        query.push(" AND source = 'client' AND source_name = ").push_bind(client_id.clone());
        if let Some(instances) = instances {
            let names = names_parameter(instances.iter().map(String::as_str));
            query.push(" AND instance IN (SELECT value FROM json_each(").push_bind(names).push("))");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::domain::{JobState, Source, Target};
    use crate::store::new_job::NewJob;
    use crate::store::tables::chunks::CompressedChunk;
    use crate::store::test_util::{add, file, leads, store};

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
    async fn a_client_lists_its_own_jobs_on_its_instances_only() {
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
        let ids = async |filter: JobFilter, limit: u32, before: Option<JobId>| {
            let jobs = store.find_jobs(&JobPage { filter, limit, before }).await.unwrap();
            jobs.into_iter().map(|job| job.id.0).collect::<Vec<_>>()
        };
        let of = |client_id: &str, instances: Option<&[&str]>| JobFilter {
            visible_to: Some(ClientScope {
                client_id: client_id.into(),
                instances: instances.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
            }),
            ..JobFilter::default()
        };
        assert_eq!(ids(of("crm", None), 9, None).await, [5, 1]);
        assert_eq!(ids(of("crm", None), 9, Some(JobId(5))).await, [1]);
        assert_eq!(ids(of("crm", None), 1, None).await, [5]);
        assert_eq!(ids(of("crm", Some(&["eu", "us"])), 9, None).await, [5]);
        let in_state = |state| JobFilter { state: Some(state), ..of("crm", None) };
        assert_eq!(ids(in_state(JobState::Failed), 9, None).await, [0; 0]);
        assert_eq!(ids(in_state(JobState::Pending), 9, None).await, [5, 1]);
        assert_eq!(ids(of("", None), 9, None).await, [0; 0]);
        let source = JobFilter { source: Some("drop".into()), ..JobFilter::default() };
        assert_eq!(ids(source, 9, None).await, [4]);
    }

    #[tokio::test]
    async fn jobs_are_selected_by_each_condition_and_by_all() {
        let store = store().await;
        let car = Target::CustomObject { name: "car_c".into() };
        let new = |name: &str, group: Option<&str>| NewJob {
            filename: name.into(),
            group: group.map(str::to_owned),
            ..leads()
        };
        add(&store, new("People-May.csv", Some("g")), 1).await;
        add(&store, NewJob { target: car, instance: "eu".into(), ..new("cars.csv", None) }, 1).await;
        let (bytes, layout) = file(1);
        let chunk = CompressedChunk::compress(0, &bytes).unwrap();
        store.add(new("people%.csv", None), layout, chunk, from_ms(5_000)).await.unwrap();
        let ids = async |filter: JobFilter| {
            let jobs = store.find_jobs(&JobPage { filter, limit: 9, before: None }).await.unwrap();
            jobs.into_iter().map(|job| job.id.0).collect::<Vec<_>>()
        };
        let all = JobFilter::default;
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(ids(all()).await, [3, 2, 1]);
        assert_eq!(ids(JobFilter { instance: some("eu"), ..all() }).await, [2]);
        assert_eq!(ids(JobFilter { target: some("custom-object"), ..all() }).await, [2]);
        assert_eq!(ids(JobFilter { group: some("g"), ..all() }).await, [1]);
        assert_eq!(ids(JobFilter { since: Some(from_ms(5_000)), ..all() }).await, [3]);
        assert_eq!(ids(JobFilter { name_part: some("PEOPLE"), ..all() }).await, [3, 1]);
        assert_eq!(ids(JobFilter { name_part: some("%"), ..all() }).await, [3], "no pattern");
        for _ in 0..2 {
            add(&store, NewJob { retry_of: Some(JobId(1)), ..new("again.csv", None) }, 1).await;
        }
        assert_eq!(ids(JobFilter { retry_of: Some(JobId(1)), ..all() }).await, [5, 4]);
        assert_eq!(ids(JobFilter { retry_of: Some(JobId(3)), ..all() }).await, [0; 0]);
        assert_eq!(ids(JobFilter { name_part: some("people"), group: some("g"), ..all() }).await, [1]);
        assert_eq!(ids(JobFilter { has_failed_rows: true, ..all() }).await, [0; 0]);
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
