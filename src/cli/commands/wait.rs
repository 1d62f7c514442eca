//! The `wait` command: waits until jobs end.

use clap::Args;

use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::job_watch::{KnownState, WatchResult, wait_for_jobs};
use crate::cli::progress::Progress;
use crate::cli::{format, output};
use crate::domain::{JobId, JobState};
use crate::store::Job;

/// Wait until each of these jobs has ended
///
/// Exit status: 1 if any job failed or was cancelled, else 4 if any row failed or is in none of Marketo's counts, else
/// 0; 130 at Ctrl-C. The jobs go on in the daemon whether or not somebody waits. A daemon that stops meanwhile has five seconds to restart. Where half of api.max_connections wait already, it asks once a second. With --json:
/// an array of the jobs, in the order of the numbers.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue wait 12
  marqueue wait 12 13 14 --json")]
pub struct Wait {
    /// The jobs' numbers
    #[arg(required = true, value_name = "ID", value_parser = crate::cli::global::parse_job_id)]
    ids: Vec<JobId>,
}

impl Wait {
    /// Runs the command.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let client = global.client()?;
        match wait_for_jobs(&client, &self.ids, KnownState::Typed, &mut Progress::new()).await? {
            WatchResult::Ended(jobs) => Ok(print_results(&jobs, global)?),
            WatchResult::Interrupted => Ok(ExitStatus::Interrupted),
        }
    }
}

/// Writes the results of ended jobs, and returns the exit status for them.
///
/// # Errors
/// Standard output is not writable.
pub fn print_results(jobs: &[Job], global: &GlobalArgs) -> Result<ExitStatus, CliError> {
    if global.json {
        output::print_json(jobs)?;
        return Ok(ExitStatus::of(jobs));
    }
    for job in jobs {
        output::print(&format!("{}\n", format::summary_line(job)))?;
        if job.has_failed_rows() {
            output::note(&format!("\"marqueue failures {}\" gives the rows that failed", job.id));
        }
        for batch in job.batches.iter().filter(|batch| batch.id_given_twice) {
            output::note(&format!(
                "job {}: whose the counts and files of part {} are is unknown: Marketo gave its batchId for another upload too",
                job.id, batch.part
            ));
        }
        if let Some(doubt) = job.rows.discrepancy().filter(|_| job.state == JobState::Complete) {
            output::note(&format!("job {}: {doubt}", job.id));
        }
    }
    Ok(ExitStatus::of(jobs))
}
