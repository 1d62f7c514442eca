//! The `cancel` command: cancels a job.

use clap::Args;

use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::{format, output};
use crate::client as api;
use crate::domain::JobId;

/// Cancel the parts of a job that Marketo does not have yet; what Marketo has continues there
///
/// With --json: the job as an object.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue cancel 12
  marqueue cancel 12 --abandon")]
pub struct Cancel {
    /// The job's number
    #[arg(value_parser = crate::cli::global::parse_job_id)]
    id: JobId,
    /// Also give up imports that Marketo has not ended within max_import_time; they still occupy slots for days
    #[arg(long)]
    abandon: bool,
}

impl Cancel {
    /// Cancels the job.
    ///
    /// # Errors
    /// The daemon refuses, or can't be reached.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let what = if self.abandon { api::Cancel::Abandon } else { api::Cancel::Waiting };
        let job = global.client()?.cancel(self.id, what).await?;
        if global.json {
            output::print_json(&job)?;
        } else if job.state.is_terminal() {
            output::print(&format!("job {} is {}\n", job.id, job.state))?;
        } else {
            output::print(&format!("job {} is {}: what Marketo has continues\n", job.id, format::state_label(&job)))?;
        }
        Ok(ExitStatus::Done)
    }
}
