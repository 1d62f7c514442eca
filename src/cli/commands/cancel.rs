//! The `cancel` command: cancels a job.

use clap::Args;

use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::{format, output};
use crate::client as api;
use crate::domain::JobId;

/// Leave what Marketo does not have yet of a job; what it has goes on there
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
    /// Also give up imports that Marketo has not ended within max_import_time; they count as ours for days still
    #[arg(long)]
    abandon: bool,
}

impl Cancel {
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let what = if self.abandon { api::Cancel::Abandon } else { api::Cancel::Waiting };
        let job = global.client()?.cancel(self.id, what).await?;
        if global.json {
            output::print_json(&job)?;
        } else if job.state.is_terminal() {
            output::print(&format!("job {} is {}\n", job.id, job.state))?;
        } else {
            output::print(&format!("job {} is {}: what Marketo has goes on\n", job.id, format::state_label(&job)))?;
        }
        Ok(ExitStatus::Done)
    }
}
