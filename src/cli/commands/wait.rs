//! The `wait` command: waits until jobs end.

use clap::Args;

use crate::cli::confirmation::YesOption;
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::job_outcomes::OutcomeReport;
use crate::cli::job_selection::{JobScope, JobSelection};
use crate::cli::job_watch::{EndedJobs, KnownState, WatchResult, wait_for_jobs};
use crate::cli::render::Screen;
use crate::cli::top_reasons::{failure_line, top_reasons};
use crate::cli::{format, output};
use crate::client::Client;
use crate::domain::{JobId, JobState};

/// Wait until each of these jobs has ended
///
/// A range or a filter selects the jobs that there are when the command begins; --yes has no effect.
/// Exit status: 1 if any job failed or was cancelled, else 4 if any row failed or is in none of Marketo's counts, else
/// 0; 130 at Ctrl-C. On a terminal, the results go up line by line, and below them stands what runs, what waits and
/// why, and how long the rest may take. The jobs go on in the daemon whether or not a command waits. A daemon that
/// stops meanwhile has five seconds to restart. Where half of api.max_connections wait already, it asks once a second.
/// With
/// --json: an array of the jobs, in the order of the numbers.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue wait 12
  marqueue wait 12 13 14 --json
  marqueue wait 9-108
  marqueue wait --group nightly --since 12h")]
pub struct Wait {
    #[command(flatten)]
    selection: JobSelection,
    #[command(flatten)]
    yes: YesOption,
}

impl Wait {
    /// Runs the command.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let client = global.client()?;
        // Nothing is changed, so nothing is asked; scripts may give the option to every command alike.
        let YesOption { yes: _ } = self.yes;
        let ids = self.selection.resolve(&client, JobScope::All).await?.ids;
        if ids.is_empty() {
            // A script that waits for jobs that are not there has mistyped, or they were erased: that is no success.
            return OutcomeReport { done: "ended", global }.nothing().map(|_| ExitStatus::Failed);
        }
        match wait_for_jobs(&client, &ids, KnownState::Typed).await? {
            WatchResult::Ended(ended) => Ok(print_results(&client, &ended, global).await?),
            WatchResult::Interrupted => Ok(ExitStatus::Interrupted),
        }
    }
}

/// The most jobs whose reasons of failed rows are shown.
const MAX_WITH_REASONS: usize = 5;

/// Writes the results of ended jobs, with the most frequent reasons of failed rows, and returns the exit status for
/// them.
///
/// # Errors
/// Standard output is not writable.
pub async fn print_results(client: &Client, ended: &EndedJobs, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
    let jobs = ended.jobs.as_slice();
    if global.json {
        output::print_json(jobs)?;
        return Ok(ExitStatus::of(jobs));
    }
    let screen = Screen::stdout();
    // What has been shown on the terminal is not repeated there.
    if !ended.are_shown || screen.width.is_none() {
        let line = |job| format!("{}\n", screen.paint(format::state_tone(job), &format::summary_line(job)));
        output::print(&jobs.iter().map(line).collect::<String>())?;
    }
    let with_failures: Vec<JobId> = jobs.iter().filter(|job| job.has_failed_rows()).map(|job| job.id).collect();
    for job in jobs.iter().filter(|job| job.has_failed_rows()).take(MAX_WITH_REASONS) {
        // The jobs have ended. Reasons that can't be read now do not change that.
        let reasons = top_reasons(client, job).await.ok().flatten().unwrap_or_default();
        for reason in &reasons.failures {
            output::note(&format!("job {}: {}", job.id, failure_line(reason)));
        }
    }
    if let Some(hint) = failures_hint(&with_failures) {
        output::note(&hint);
    }
    for job in jobs {
        for batch in job.batches.iter().filter(|batch| batch.id_given_twice) {
            output::note(&format!(
                "job {}: the counts and files of part {} may belong to another upload: Marketo returned the same batchId for it",
                job.id, batch.part
            ));
        }
        if let Some(doubt) = job.rows.discrepancy().filter(|_| job.state == JobState::Complete) {
            output::note(&format!("job {}: {doubt}", job.id));
        }
    }
    Ok(ExitStatus::of(jobs))
}

/// Returns the command that gives the failed rows of these jobs.
fn failures_hint(jobs: &[JobId]) -> Option<String> {
    match jobs {
        [] => None,
        [id] => Some(format!("\"marqueue failures {id}\" gives the rows that failed")),
        ids => {
            let ids: Vec<String> = ids.iter().map(JobId::to_string).collect();
            Some(format!("\"marqueue failures ID\" gives the rows that failed, of jobs {}", ids.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hint_names_all_jobs_with_failed_rows() {
        assert_eq!(failures_hint(&[]), None);
        let one = failures_hint(&[JobId(4)]).unwrap();
        assert_eq!(one, "\"marqueue failures 4\" gives the rows that failed");
        let many = failures_hint(&[JobId(4), JobId(7)]).unwrap();
        assert_eq!(many, "\"marqueue failures ID\" gives the rows that failed, of jobs 4, 7");
    }
}
