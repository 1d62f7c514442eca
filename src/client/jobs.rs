//! Jobs: one method for each route that reads or changes them.

use std::time::Duration;

use reqwest::Method;

use crate::api::dto::{
    EraseReportDto, ExplanationDto, History, HistoryEntryDto, JobDto, JobsPage, ReasonsDto, RetentionRunDto, RetriedJob,
};
use crate::client::error::ClientError;
use crate::client::http_client::{Client, LONG_TIMEOUT};
use crate::client::response::read;
use crate::domain::{BatchKey, JobId, JobState};
use crate::retention::EraseMode;

/// What is cancelled of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// Batches that Marketo does not have yet.
    Waiting,
    /// Also imports that Marketo has not ended within `max_import_time`.
    Abandon,
}

/// What is uploaded again of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryScope {
    /// Its failed batches, as part of the same job.
    FailedBatches,
    /// Its failed rows, as a new job.
    FailedRows,
}

/// Selects the jobs of a page. What is none or false selects all.
#[derive(Clone, Debug, Default)]
pub struct JobQuery {
    /// Only jobs in this state.
    pub state: Option<JobState>,
    /// Only jobs of this instance.
    pub instance: Option<String>,
    /// Only jobs of this kind of target.
    pub target: Option<String>,
    /// Only jobs of this group.
    pub group: Option<String>,
    /// Only jobs that were accepted since then: a time (RFC 3339), or a duration before now.
    pub since: Option<String>,
    /// Only jobs whose file name has this part.
    pub name: Option<String>,
    /// Only jobs with rows that failed.
    pub with_failures: bool,
    /// Only jobs that send the failed rows of this job again.
    pub retry_of: Option<JobId>,
    /// The most jobs of the page; none for the daemon's default.
    pub limit: Option<u32>,
    /// Only jobs with smaller ids.
    pub before: Option<JobId>,
}

impl JobQuery {
    fn parameters(&self) -> Vec<(&'static str, String)> {
        let parameters = [
            self.state.map(|state| ("state", state.to_string())),
            self.instance.clone().map(|instance| ("instance", instance)),
            self.target.clone().map(|target| ("target", target)),
            self.group.clone().map(|group| ("group", group)),
            self.since.clone().map(|since| ("since", since)),
            self.name.clone().map(|name| ("q", name)),
            self.with_failures.then(|| ("failures", "true".to_owned())),
            self.retry_of.map(|id| ("retry_of", id.to_string())),
            self.limit.map(|limit| ("limit", limit.to_string())),
            self.before.map(|before| ("before", before.to_string())),
        ];
        parameters.into_iter().flatten().collect()
    }
}

impl Client {
    /// Returns a page of jobs, newest first.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn list(&self, query: &JobQuery) -> Result<JobsPage, ClientError> {
        self.call(self.request(Method::GET, "/v1/jobs").query(&query.parameters())).await
    }

    /// Returns one job: at once, or when it has ended or `wait` is over.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn job(&self, id: JobId, wait: Option<Duration>) -> Result<JobDto, ClientError> {
        let parameter = wait.map(|wait| ("wait", format!("{}ms", wait.as_millis())));
        let request = self.request(Method::GET, &format!("/v1/jobs/{id}")).query(parameter.as_slice());
        self.read_timeout.run(wait.unwrap_or_default(), async { read(self.send(request).await?).await }).await?
    }

    /// Returns the events of a job, oldest first.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn history(&self, id: JobId) -> Result<Vec<HistoryEntryDto>, ClientError> {
        let response: History = self.call(self.request(Method::GET, &format!("/v1/jobs/{id}/history"))).await?;
        Ok(response.history)
    }

    /// Returns Marketo's reasons of a job's failures and warnings.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn reasons(&self, id: JobId) -> Result<ReasonsDto, ClientError> {
        let request = self.request(Method::GET, &format!("/v1/jobs/{id}/reasons"));
        // The daemon reads the whole files before it answers.
        self.read_timeout.run(LONG_TIMEOUT, async { read(self.send(request).await?).await }).await?
    }

    /// Returns what a job waits for.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn explain(&self, id: JobId) -> Result<ExplanationDto, ClientError> {
        self.call(self.request(Method::GET, &format!("/v1/jobs/{id}/explain"))).await
    }

    /// Cancels the batches that Marketo does not have yet; with [`Cancel::Abandon`] also overdue imports.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn cancel(&self, id: JobId, what: Cancel) -> Result<JobDto, ClientError> {
        let abandon = (what == Cancel::Abandon).then_some(("abandon", "true"));
        self.call(self.request(Method::POST, &format!("/v1/jobs/{id}/cancel")).query(abandon.as_slice())).await
    }

    /// Uploads a job's failed batches again, or makes a new job of only the failed rows.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn retry(&self, id: JobId, scope: RetryScope) -> Result<RetriedJob, ClientError> {
        let rows = (scope == RetryScope::FailedRows).then_some(("rows", "failed"));
        self.call(self.request(Method::POST, &format!("/v1/jobs/{id}/retry")).query(rows.as_slice())).await
    }

    /// Records the import on Marketo that a held batch has become. The daemon asks Marketo for it first.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn settle(&self, batch: BatchKey, marketo_batch_id: &str) -> Result<JobDto, ClientError> {
        let parameters = [("part", batch.part.to_string()), ("marketo_batch_id", marketo_batch_id.to_owned())];
        let request = self.request(Method::POST, &format!("/v1/jobs/{}/settle", batch.job)).query(&parameters);
        self.read_timeout.run(LONG_TIMEOUT, async { read(self.send(request).await?).await }).await?
    }

    /// Erases content and reports of an ended job; a dry run only reports what there is.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn erase(&self, id: JobId, mode: EraseMode) -> Result<EraseReportDto, ClientError> {
        let dry_run = (mode == EraseMode::DryRun).then_some(("dry_run", "true"));
        let request = self.request(Method::POST, &format!("/v1/jobs/{id}/erase")).query(dry_run.as_slice());
        self.read_timeout.run(LONG_TIMEOUT, async { read(self.send(request).await?).await }).await?
    }

    /// Erases all data past its retention period; a dry run only reports what there is.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn retention(&self, mode: EraseMode) -> Result<RetentionRunDto, ClientError> {
        let dry_run = (mode == EraseMode::DryRun).then_some(("dry_run", "true"));
        let request = self.request(Method::POST, "/v1/retention").query(dry_run.as_slice());
        self.read_timeout.run(LONG_TIMEOUT, async { read(self.send(request).await?).await }).await?
    }
}
