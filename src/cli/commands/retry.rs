//! The `retry` command: sends a job's failed batches or failed rows again.

use clap::Args;

use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::{format, output};
use crate::client::RetryScope;
use crate::domain::JobId;

/// Send a job again that failed, was cancelled or is held; or only its rows that failed
///
/// With --json: the job as an object; with --failed-rows that is the new one.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue retry 12
  marqueue retry 12 --failed-rows --json")]
pub struct Retry {
    /// The job's number
    #[arg(value_parser = crate::cli::global::parse_job_id)]
    id: JobId,
    /// Make a new job of only those rows
    #[arg(long)]
    failed_rows: bool,
}

impl Retry {
    /// Runs the command.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let scope = if self.failed_rows { RetryScope::FailedRows } else { RetryScope::FailedBatches };
        let job = global.client()?.retry(self.id, scope).await?;
        if global.json {
            output::print_json(&job)?;
        } else if self.failed_rows {
            let rows = format::count(job.rows.total, "row");
            output::print(&format!("job {}: {rows} that failed in job {}\n", job.id, self.id))?;
        } else {
            output::print(&format!("job {} is {} again\n", job.id, format::state_label(&job)))?;
        }
        Ok(ExitStatus::Done)
    }
}
