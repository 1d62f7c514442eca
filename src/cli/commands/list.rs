//! The `list` command: shows jobs in a table.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::format::{UNACCOUNTED, row_cells, sanitize, state_label, table, time, without_idle_column};
use crate::cli::global::GlobalArgs;
use crate::cli::output;
use crate::domain::{JobId, JobState};
use crate::store::Job;

/// List jobs, newest first
///
/// With --json: an object with the page's "jobs", and in "next_before" what to give as --before for the next page.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue list --state failed
  marqueue list --limit 200 --before 1500 --json")]
pub struct List {
    /// Only jobs in this state
    #[arg(long, value_parser = PossibleValuesParser::new(JobState::ALL.map(JobState::as_str)).try_map(|text| text.parse::<JobState>()))]
    state: Option<JobState>,
    /// At most so many [default: 50]
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Only jobs older than this one
    #[arg(long, value_name = "ID")]
    before: Option<JobId>,
}

impl List {
    /// Lists the jobs.
    ///
    /// # Errors
    /// The daemon refuses, or can't be reached.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let page = global.client()?.list(self.state, self.limit, self.before).await?;
        if global.json {
            output::print_json(&page)?;
            return Ok(ExitStatus::Done);
        }
        if page.jobs.is_empty() {
            output::note("there are no such jobs");
            return Ok(ExitStatus::Done);
        }
        output::print(&jobs(&page.jobs))?;
        if let Some(before) = page.next_before {
            output::note(&format!("there are more: marqueue list --before {before}"));
        }
        Ok(ExitStatus::Done)
    }
}

fn jobs(jobs: &[Job]) -> String {
    let head = ["ID", "STATE", "DONE", "FAILED", UNACCOUNTED, "TARGET", "INSTANCE", "CREATED", "FILE"]
        .map(str::to_owned)
        .to_vec();
    let row = |job: &Job| {
        let [done, failed, unaccounted] = row_cells(&job.rows);
        vec![
            job.id.to_string(),
            state_label(job),
            done,
            failed,
            unaccounted,
            sanitize(&job.target.to_string()),
            sanitize(&job.instance),
            time(job.created_at),
            sanitize(&job.filename),
        ]
    };
    table(&without_idle_column([head].into_iter().chain(jobs.iter().map(row)).collect(), UNACCOUNTED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::samples;
    use crate::domain::{BatchState, Target};

    #[test]
    fn a_list_has_a_line_a_job() {
        let mut running = samples::job(112, JobState::Running);
        running.batches = vec![samples::batch(1, BatchState::Importing)];
        running.rows = samples::rows(300, (Some(298), Some(2), Some(0)));
        running.rows.total = 1000;
        let mut done = samples::job(9, JobState::Pending);
        done.target = Target::CustomObject { name: "car_c".into() };
        assert_eq!(
            jobs(&[running, done]),
            "ID   STATE                DONE      FAILED  TARGET               INSTANCE  CREATED               FILE\n\
             112  running (importing)  300/1000  2       leads                default   2026-08-01T10:00:00Z  people.csv\n\
             9    pending              0/10      0       custom-object car_c  default   2026-08-01T10:00:00Z  people.csv\n"
        );
    }

    #[test]
    fn rows_in_no_count_have_a_column_where_there_are_any() {
        let mut jobs_of = [9, 8, 7].map(|id| samples::job(id, JobState::Complete));
        jobs_of[0].rows = samples::rows(10, (Some(8), Some(1), Some(0)));
        jobs_of[1].rows = samples::rows(10, (Some(10), None, Some(0)));
        jobs_of[2].rows = samples::rows(10, (Some(10), Some(0), Some(0)));
        assert_eq!(
            jobs(&jobs_of),
            "ID  STATE     DONE   FAILED  UNACCOUNTED  TARGET  INSTANCE  CREATED               FILE\n\
             9   complete  9/10   1       1            leads   default   2026-08-01T10:00:00Z  people.csv\n\
             8   complete  ?/10   ?       ?            leads   default   2026-08-01T10:00:00Z  people.csv\n\
             7   complete  10/10  0       0            leads   default   2026-08-01T10:00:00Z  people.csv\n"
        );
    }
}
