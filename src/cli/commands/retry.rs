//! The `retry` command: sends the failed batches of jobs, their failed rows or corrected rows again.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::api::dto::{ReportPlace, RetriedJob};
use crate::cli::confirmation::{Confirmation, Decision, YesOption};
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::input;
use crate::cli::job_outcomes::{JobOutcome, OutcomeReport};
use crate::cli::job_selection::{JobScope, JobSelection};
use crate::cli::transfer_bar::{Direction, TransferBar};
use crate::cli::{format, output};
use crate::client::{Client, ClientError, CorrectedFile, JobQuery, RetryScope};
use crate::domain::{Format, JobId};

/// Send jobs again that failed, were cancelled or are held; or only their rows that failed, as they were or corrected
///
/// A corrected file is the one of "marqueue failures", edited: a first column "Line" and a last column of Marketo's
/// reasons are left out, unless the job's own header has them. Target and options are the job's. A failed row that
/// can't be told from others that were sent, because Marketo's file lacks a column, is not sent again: it is named, and
/// the exit status is 4. A job that is refused does not stop the others, and the exit status is 1; of several jobs,
/// --failed-rows skips those that have ended without failed rows, and those whose failed rows were sent again already.
/// Jobs selected by a range or a filter are shown first, and a question is asked; without a terminal, --yes is needed.
/// With --json: the job as an object, for several an array; with --failed-rows and --with, of the new jobs;
/// "rows_without_line" is the number of rows that are not in it.
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
            let retried = match &self.with {
                Some(path) => self.send_corrected(&client, id, path).await?,
                None => client.retry(id, self.scope()).await?,
            };
            let exit = note_left_out(id, &retried);
            if global.json {
                output::print_json(&retried)?;
            } else {
                output::print(&self.retried(id, &retried))?;
            }
            return Ok(exit);
        }
        self.selection.check()?;
        if self.with.is_some() {
            let text = "--with sends a corrected file for one job: give the number of that job alone";
            return Err(CliError::Usage(text.to_owned()));
        }
        let action = if self.failed_rows { "Retry the failed rows of" } else { "Retry" };
        let confirmation = Confirmation { action, selection: &self.selection, option: self.yes };
        confirmation.check()?;
        let jobs = self.selection.resolve(&client, JobScope::All).await?;
        let report = OutcomeReport { done: "retried", global };
        if jobs.ids.is_empty() {
            return report.nothing();
        }
        if confirmation.ask(&jobs)? == Decision::No {
            return report.declined();
        }
        let mut exit = ExitStatus::Done;
        let retry = async |id| {
            let outcome = self.retry_one(&client, id).await?;
            if let JobOutcome::Done { value, .. } = &outcome {
                exit = exit.and(note_left_out(id, value));
            }
            Ok(outcome)
        };
        let reported = report.apply(&jobs.ids, retry).await?;
        Ok(reported.and(exit))
    }

    /// Retries one of several jobs.
    async fn retry_one(&self, client: &Client, id: JobId) -> Result<JobOutcome<RetriedJob>, CliError> {
        if self.failed_rows {
            let job = client.job(id, None).await?;
            // Where Marketo's counts leave it unknown whether rows failed, the daemon says so.
            if job.state.is_terminal() && !job.has_failed_rows() && job.rows.discrepancy().is_none() {
                return Ok(JobOutcome::Skipped(format!("job {id} has no failed rows")));
            }
            // A second retry of many jobs must not send old values over those that were corrected meanwhile.
            let retries = client.list(&JobQuery { retry_of: Some(id), ..JobQuery::default() }).await?;
            if let Some(retry) = retries.jobs.first() {
                return Ok(JobOutcome::Skipped(format!(
                    "job {id}: its failed rows were sent again as job {}; \"marqueue retry {id} --failed-rows\" sends \
                     them once more",
                    retry.id
                )));
            }
        }
        let retried = client.retry(id, self.scope()).await?;
        Ok(JobOutcome::Done { text: self.retried(id, &retried), value: retried })
    }

    fn scope(&self) -> RetryScope {
        if self.failed_rows { RetryScope::FailedRows } else { RetryScope::FailedBatches }
    }

    /// Returns the line about job `id`, of whose retry `retried` is the result.
    fn retried(&self, id: JobId, retried: &RetriedJob) -> String {
        let job = &retried.job;
        let rows = format::count(job.rows.total, "row");
        if self.with.is_some() {
            format!("job {}: {rows} corrected for job {id}\n", job.id)
        } else if self.failed_rows {
            format!("job {}: {rows} that failed in job {id}\n", job.id)
        } else {
            format!("job {} is {} again\n", job.id, format::state_label(job))
        }
    }

    async fn send_corrected(&self, client: &Client, id: JobId, path: &Path) -> Result<RetriedJob, CliError> {
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

/// Names the failed rows that are not in the new job, and returns the exit status of that.
fn note_left_out(of: JobId, retried: &RetriedJob) -> ExitStatus {
    match left_out(retried, of) {
        Some(note) => {
            output::note(&note);
            ExitStatus::SomeRowsFailed
        }
        None => ExitStatus::Done,
    }
}

/// Names the failed rows that are not in the new job; none where all are.
fn left_out(retried: &RetriedJob, of: JobId) -> Option<String> {
    if retried.rows_without_line == 0 {
        return None;
    }
    let places = retried.without_line.iter();
    let named = places.map(|ReportPlace { part, report_line }| format!("line {report_line} of part {part}"));
    let named = named.collect::<Vec<_>>().join(", ");
    let more = if retried.without_line.len() as u64 == retried.rows_without_line { "" } else { " and others" };
    let rows = format::count(retried.rows_without_line, "failed row");
    let verb = if retried.rows_without_line == 1 { "is" } else { "are" };
    Some(format!(
        "{rows} of job {of} {verb} not sent again, since Marketo's file does not tell which sent row it is: \
         {named}{more} (\"marqueue failures {of} --part N\" has the file); correct the file, and send it with \
         \"marqueue retry {of} --with FILE\""
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::samples;
    use crate::domain::JobState;

    #[test]
    fn rows_that_are_left_out_are_counted_and_named() {
        let place = |report_line| ReportPlace { part: 2, report_line };
        let mut retried = RetriedJob::from(samples::job(5, JobState::Pending));
        assert_eq!(left_out(&retried, JobId(3)), None);
        retried.rows_without_line = 2;
        retried.without_line = vec![place(2), place(7)];
        let note = left_out(&retried, JobId(3)).unwrap();
        assert!(note.starts_with("2 failed rows of job 3 are not sent again"), "{note}");
        assert!(note.contains("line 2 of part 2, line 7 of part 2 (\"marqueue failures 3"), "{note}");
        retried.rows_without_line = 3;
        assert!(left_out(&retried, JobId(3)).unwrap().contains("line 7 of part 2 and others ("));
    }
}
