//! The `cancel` command: cancels jobs.

use clap::Args;

use crate::api::dto::JobDto;
use crate::cli::confirmation::{Confirmation, Decision, YesOption};
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::job_outcomes::{JobOutcome, OutcomeReport};
use crate::cli::job_selection::{JobScope, JobSelection};
use crate::cli::{format, output};
use crate::client as api;

/// Cancel the parts of jobs that Marketo does not have yet; what Marketo has continues there
///
/// Several jobs are cancelled from the newest to the oldest, so that none of them starts in the place of another. A job
/// that is refused does not stop the others, and the exit status is 1. A range or a filter selects jobs that have not
/// ended. They are shown first, and a question is asked; without a terminal, --yes is needed. With --json: the job as an object; for several,
/// an array of those that were cancelled.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue cancel 12
  marqueue cancel 9-108
  marqueue cancel --state pending --group nightly --yes
  marqueue cancel 12 --abandon")]
pub struct Cancel {
    #[command(flatten)]
    selection: JobSelection,
    #[command(flatten)]
    yes: YesOption,
    /// Also give up imports that Marketo has not ended within max_import_time; they still occupy slots for days
    #[arg(long)]
    abandon: bool,
}

impl Cancel {
    /// Cancels the jobs.
    ///
    /// # Errors
    /// The daemon refuses, or can't be reached.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let client = global.client()?;
        let what = if self.abandon { api::Cancel::Abandon } else { api::Cancel::Waiting };
        if let Some(id) = self.selection.single() {
            let job = client.cancel(id, what).await?;
            if global.json {
                output::print_json(&job)?;
            } else {
                output::print(&cancelled(&job))?;
            }
            return Ok(ExitStatus::Done);
        }
        let confirmation = Confirmation { action: "Cancel", selection: &self.selection, option: self.yes };
        confirmation.check()?;
        let mut jobs = self.selection.resolve(&client, JobScope::Unended).await?;
        let report = OutcomeReport { done: "cancelled", global };
        if jobs.ids.is_empty() {
            return report.nothing();
        }
        if confirmation.ask(&jobs)? == Decision::No {
            return report.declined();
        }
        jobs.ids.sort_unstable_by(|one, other| other.cmp(one));
        let cancel = async |id| {
            let job = client.cancel(id, what).await?;
            Ok(JobOutcome::Done { text: cancelled(&job), value: job })
        };
        report.apply(&jobs.ids, cancel).await
    }
}

fn cancelled(job: &JobDto) -> String {
    if job.state.is_terminal() {
        format!("job {} is {}\n", job.id, job.state)
    } else {
        format!("job {} is {}: what Marketo has continues\n", job.id, format::state_label(job))
    }
}
