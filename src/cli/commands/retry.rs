//! The `retry` command: sends a job's failed batches, its failed rows or corrected rows again.

use std::path::PathBuf;

use clap::Args;

use crate::api::dto::JobDto;
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::input;
use crate::cli::transfer_bar::{Direction, TransferBar};
use crate::cli::{format, output};
use crate::client::{Client, ClientError, CorrectedFile, RetryScope};
use crate::domain::{Format, JobId};

/// Send a job again that failed, was cancelled or is held; or only its rows that failed, as they were or corrected
///
/// A corrected file is the one of "marqueue failures", edited: a first column "Line" and a last column of Marketo's reasons
/// are left out, unless the job's own header has them. Target and options are the job's. With --json: the job as an object;
/// with --failed-rows and --with that is the new one.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue retry 12
  marqueue retry 12 --failed-rows --json
  marqueue failures 12 -o failed.csv
  marqueue retry 12 --with failed.csv")]
pub struct Retry {
    /// The job's number
    #[arg(value_parser = crate::cli::global::parse_job_id)]
    id: JobId,
    /// Make a new job of only those rows, as they were sent
    #[arg(long, conflicts_with = "with")]
    failed_rows: bool,
    /// Make a new job of this corrected failures file; - reads standard input
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
        let job = match &self.with {
            Some(path) => self.send_corrected(&client, path).await?,
            None => {
                let scope = if self.failed_rows { RetryScope::FailedRows } else { RetryScope::FailedBatches };
                client.retry(self.id, scope).await?
            }
        };
        if global.json {
            output::print_json(&job)?;
            return Ok(ExitStatus::Done);
        }
        let rows = format::count(job.rows.total, "row");
        output::print(&if self.with.is_some() {
            format!("job {}: {rows} corrected for job {}\n", job.id, self.id)
        } else if self.failed_rows {
            format!("job {}: {rows} that failed in job {}\n", job.id, self.id)
        } else {
            format!("job {} is {} again\n", job.id, format::state_label(&job))
        })?;
        Ok(ExitStatus::Done)
    }

    async fn send_corrected(&self, client: &Client, path: &std::path::Path) -> Result<JobDto, CliError> {
        let file = CorrectedFile { job: self.id, format: self.format, check: !self.no_check };
        let opened = input::open(path).await?;
        let bar = TransferBar::new(&path.display().to_string(), Direction::Upload, opened.bytes);
        let sent = client.retry_with(&file, opened.content, bar.updater()).await;
        sent.map_err(|error| match error {
            ClientError::Content(error) => input::unreadable(&error),
            error => error.into(),
        })
    }
}
