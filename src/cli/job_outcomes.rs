//! Job outcomes: applies a command to one job after the other, with a line for each and a summary.

use serde::Serialize;

use crate::cli::error_report::{report, report_job};
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::format::count;
use crate::cli::global::GlobalArgs;
use crate::cli::output;
use crate::domain::JobId;

/// What a command did to one job.
pub enum JobOutcome<T> {
    /// It was done.
    Done {
        /// What is written with `--json`.
        value: T,
        /// What is written else, with the line end.
        text: String,
    },
    /// There was nothing to do. The text is one line that names the job.
    Skipped(String),
}

/// How a command reports what it did.
#[derive(Clone, Copy)]
pub struct OutcomeReport<'a> {
    /// What was done to the jobs: `cancelled`.
    pub done: &'a str,
    /// The options of every command.
    pub global: &'a GlobalArgs,
}

impl OutcomeReport<'_> {
    /// Applies `action` to one job after the other. A job that is refused does not stop the others; a daemon that can't
    /// be reached does.
    ///
    /// # Errors
    /// Standard output is not writable.
    pub async fn apply<T: Serialize>(
        &self,
        ids: &[JobId],
        mut action: impl AsyncFnMut(JobId) -> Result<JobOutcome<T>, CliError>,
    ) -> Result<ExitStatus, CliError> {
        let (mut values, mut skipped, mut refused) = (Vec::new(), 0_u64, 0_u64);
        let mut exit = ExitStatus::Done;
        let mut done = 0_u64;
        for &id in ids {
            match action(id).await {
                Ok(JobOutcome::Done { value, text }) => {
                    done += 1;
                    if self.global.json {
                        values.push(value);
                    } else {
                        output::print(&text)?;
                    }
                }
                Ok(JobOutcome::Skipped(text)) => {
                    skipped += 1;
                    output::note(&text);
                }
                Err(error) if error.exit() == ExitStatus::NoDaemon => {
                    report(&error, self.global);
                    exit = ExitStatus::NoDaemon;
                    break;
                }
                Err(error) => {
                    refused += 1;
                    report_job(id, &error, self.global);
                    exit = exit.and(error.exit());
                }
            }
        }
        if self.global.json {
            output::print_json(&values)?;
        } else {
            let tried = done + skipped + refused;
            output::note(&summary(self.done, [done, skipped, refused, ids.len() as u64 - tried]));
        }
        Ok(exit)
    }

    /// Reports that the selection matches no job.
    ///
    /// # Errors
    /// Standard output is not writable.
    pub fn nothing(&self) -> Result<ExitStatus, CliError> {
        output::note("there are no such jobs");
        if self.global.json {
            output::print_json::<[JobId]>(&[])?;
        }
        Ok(ExitStatus::Done)
    }

    /// Reports that the user answered the question with no.
    ///
    /// # Errors
    /// Standard output is not writable.
    pub fn declined(&self) -> Result<ExitStatus, CliError> {
        output::note("nothing was changed");
        if self.global.json {
            output::print_json::<[JobId]>(&[])?;
        }
        Ok(ExitStatus::Failed)
    }
}

/// Returns the summary. The numbers are of jobs that were done, skipped, refused, and not tried.
fn summary(done: &str, [changed, skipped, refused, rest]: [u64; 4]) -> String {
    let mut text = format!("{} {done}", count(changed, "job"));
    for (number, what) in [(skipped, "skipped"), (refused, "refused"), (rest, "not tried")] {
        if number > 0 {
            text += &format!(", {number} {what}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_each_outcome_that_occurred() {
        assert_eq!(summary("cancelled", [37, 0, 0, 0]), "37 jobs cancelled");
        assert_eq!(summary("retried", [1, 2, 3, 4]), "1 job retried, 2 skipped, 3 refused, 4 not tried");
    }
}
