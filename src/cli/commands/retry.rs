//! The `retry` command: sends the failed batches of jobs, their failed rows or corrected rows again.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::api::dto::JobDto;
use crate::cli::confirmation::{Confirmation, Decision, YesOption};
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::input;
use crate::cli::job_outcomes::{JobOutcome, OutcomeReport};
use crate::cli::job_selection::JobSelection;
use crate::cli::transfer_bar::{Direction, TransferBar};
use crate::cli::{format, output};
use crate::client::{Client, ClientError, CorrectedFile, RetryScope};
use crate::domain::{Format, JobId};

/// Send jobs again that failed, were cancelled or are held; or only their rows that failed, as they were or corrected
///
/// A corrected file is the one of "marqueue failures", edited: a first column "Line" and a last column of Marketo's
/// reasons are left out, unless the job's own header has them. Target and options are the job's. A job that is refused
/// does not stop the others, and the exit status is 1; of several jobs, --failed-rows skips those that have ended
/// without failed rows. Jobs selected by a range or a filter are shown first, and a question is asked; without a
/// terminal, --yes is needed. With --json: the job as an object, for several an array; with --failed-rows and --with,
/// of the new jobs.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue retry 12
  marqueue retry 12 --failed-rows --json
  marqueue retry --state failed --since 24h
  marqueue retry 9-108 --with-failures --failed-rows --yes
  marqueue failures 12 -o failed.csv
  marqueue retry 12 --with failed.csv")]
pub struct Retry {
    #[command(flatten)]
    selection: JobSelection,
    #[command(flatten)]
    yes: YesOption,
    /// Make a new job of only those rows, as they were sent
    #[arg(long, conflicts_with = "with")]
    failed_rows: bool,
    /// Make a new job of this corrected failures file of one job; - reads standard input
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// How the fields of the corrected file are separated [default: as its header shows]
    #[arg(long, requires = "with", value_parser = input::parse_format())]
    format: Option<Format>,
    /// Send the corrected file as it is, without a check of its rows
    #[arg(long, requires = "with")]
    no_check: bool,
}

impl Retry {
    /// Runs the command.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let client = global.client()?;
        if let Some(id) = self.selection.single() {
            let job = match &self.with {
                Some(path) => self.send_corrected(&client, id, path).await?,
                None => client.retry(id, self.scope()).await?,
            };
            if global.json {
                output::print_json(&job)?;
            } else {
                output::print(&self.retried(id, &job))?;
            }
            return Ok(ExitStatus::Done);
        }
        self.selection.check()?;
        if self.with.is_some() {
            let text = "--with sends a corrected file for one job: give the number of that job alone";
            return Err(CliError::Usage(text.to_owned()));
        }
        let action = if self.failed_rows { "Retry the failed rows of" } else { "Retry" };
        let confirmation = Confirmation { action, selection: &self.selection, option: self.yes };
        confirmation.check()?;
        let jobs = self.selection.resolve(&client).await?;
        let report = OutcomeReport { done: "retried", global };
        if jobs.ids.is_empty() {
            return report.nothing();
        }
        if confirmation.ask(&jobs)? == Decision::No {
            return report.declined();
        }
        report.apply(&jobs.ids, async |id| self.retry_one(&client, id).await).await
    }

    /// Retries one of several jobs.
    async fn retry_one(&self, client: &Client, id: JobId) -> Result<JobOutcome<JobDto>, CliError> {
        if self.failed_rows {
            let job = client.job(id, None).await?;
            // Where Marketo's counts leave it unknown whether rows failed, the daemon says so.
            if job.state.is_terminal() && !job.has_failed_rows() && job.rows.discrepancy().is_none() {
                return Ok(JobOutcome::Skipped(format!("job {id} has no failed rows")));
            }
        }
        let job = client.retry(id, self.scope()).await?;
        Ok(JobOutcome::Done { text: self.retried(id, &job), value: job })
    }

    fn scope(&self) -> RetryScope {
        if self.failed_rows { RetryScope::FailedRows } else { RetryScope::FailedBatches }
    }

    /// Returns the line about job `id`, of whose retry `job` is the result.
    fn retried(&self, id: JobId, job: &JobDto) -> String {
        let rows = format::count(job.rows.total, "row");
        if self.with.is_some() {
            format!("job {}: {rows} corrected for job {id}\n", job.id)
        } else if self.failed_rows {
            format!("job {}: {rows} that failed in job {id}\n", job.id)
        } else {
            format!("job {} is {} again\n", job.id, format::state_label(job))
        }
    }

    async fn send_corrected(&self, client: &Client, id: JobId, path: &Path) -> Result<JobDto, CliError> {
        let file = CorrectedFile { job: id, format: self.format, check: !self.no_check };
        let opened = input::open(path).await?;
        let bar = TransferBar::new(&path.display().to_string(), Direction::Upload, opened.bytes);
        let sent = client.retry_with(&file, opened.content, bar.updater()).await;
        sent.map_err(|error| match error {
            ClientError::Content(error) => input::unreadable(&error),
            error => error.into(),
        })
    }
}
