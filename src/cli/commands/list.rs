//! The `list` command: shows jobs in a table.

use clap::Args;

use crate::api::dto::JobDto;
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::format::{UNACCOUNTED, count_cell, explained_state_cell, job_done_label, unaccounted_cell};
use crate::cli::global::GlobalArgs;
use crate::cli::job_filters::JobFilters;
use crate::cli::output;
use crate::cli::render::{Cell, Column, Screen, Table, Tone};
use crate::client::JobQuery;
use crate::domain::JobId;

/// The fewest jobs of a page, also on a terminal that is too low for them.
const MIN_PAGE: usize = 5;

/// The most jobs that the daemon gives at once.
const MAX_PAGE: u32 = 10_000;

/// List jobs, newest first
///
/// On a terminal, as many as it has lines for, with times relative to now; elsewhere 50, with exact times and all
/// columns. With --json: an object with the page's "jobs", and in "next_before" what to give as --before for the next
/// page.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue list --state failed
  marqueue list --with-failures --since 24h --name people
  marqueue list --limit 200 --before 1500 --json")]
pub struct List {
    #[command(flatten)]
    filters: JobFilters,
    /// At most so many [default: as many as the terminal has lines for, else 50]
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
        let screen = Screen::stdout();
        let limit = self.limit.or(screen.height.filter(|_| !global.json).map(page_size));
        let query = JobQuery { limit, before: self.before, ..self.filters.query() };
        let page = global.client()?.list(&query).await?;
        if global.json {
            output::print_json(&page)?;
            return Ok(ExitStatus::Done);
        }
        if page.jobs.is_empty() {
            output::note("there are no such jobs");
            return Ok(ExitStatus::Done);
        }
        output::print(&jobs(&page.jobs, &screen))?;
        if let Some(before) = page.next_before {
            let limit = self.limit.map(|limit| format!(" --limit {limit}")).unwrap_or_default();
            output::note(&format!("there are more: marqueue list{}{limit} --before {before}", self.filters.to_words()));
        }
        Ok(ExitStatus::Done)
    }
}

/// Returns how many jobs fit on a screen of this many lines, below the table's head and above the note and the prompt.
fn page_size(height: usize) -> u32 {
    u32::try_from(height.saturating_sub(3).max(MIN_PAGE)).unwrap_or(MAX_PAGE).min(MAX_PAGE)
}

fn jobs(jobs: &[JobDto], screen: &Screen) -> String {
    let mut table = Table::new(vec![
        Column::right("ID"),
        Column::left("STATE").shortened(30),
        Column::right("DONE"),
        Column::right("FAILED").optional(1),
        Column::right(UNACCOUNTED).optional(2),
        Column::left("TARGET").shortened(10).optional(4),
        Column::left("INSTANCE").shortened(7).optional(3),
        Column::left("CREATED").at_least(10),
        Column::left("FILE").shortened(14),
    ]);
    for job in jobs {
        table.push([
            job.id.to_string().into(),
            explained_state_cell(job, screen),
            job_done_label(job).into(),
            count_cell(job.rows.failed, Tone::Attention),
            unaccounted_cell(&job.rows),
            job.target.to_string().into(),
            Cell::from(&job.instance),
            screen.time(job.created_at).into(),
            Cell::from(&job.filename),
        ]);
    }
    table.remove_idle(UNACCOUNTED, "0");
    table.render(screen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::samples;
    use crate::domain::{BatchState, JobState, Target};

    #[test]
    fn a_list_has_a_line_a_job() {
        let mut running = samples::job(112, JobState::Running);
        running.batches = vec![samples::batch(1, BatchState::Importing)];
        running.rows = samples::rows(300, (Some(298), Some(2), Some(0)));
        running.rows.total = 1000;
        let mut done = samples::job(9, JobState::Pending);
        done.target = Target::CustomObject { name: "car_c".into() };
        assert_eq!(
            jobs(&[running, done], &Screen::PLAIN),
            " ID  STATE                    DONE  FAILED  TARGET               INSTANCE  CREATED                   FILE\n\
             112  running (importing)  300/1000       2  leads                default   2026-08-01T10:00:00.000Z  people.csv\n\
             \x20 9  pending                  0/10       0  custom-object car_c  default   2026-08-01T10:00:00.000Z  people.csv\n"
        );
    }

    #[test]
    fn a_list_fits_a_narrow_terminal() {
        let mut job = samples::job(112, JobState::Complete);
        job.rows = samples::rows(1000, (Some(988), Some(12), Some(0)));
        job.target = Target::ProgramMembers { program_id: 1044, status: "Registered".into() };
        job.filename = "webinar-registrations-2026-08-01-emea.csv".into();
        let screen = Screen { width: Some(80), now: Some(samples::at(200)), ..Screen::PLAIN };
        assert_eq!(
            jobs(&[job], &screen),
            " ID  STATE                          DONE  TARGET      CREATED     FILE\n\
             112  complete, 12 rows failed  1000/1000  progr…red)  3 min ago   webinar…ea.csv\n"
        );
    }

    #[test]
    fn a_page_has_as_many_jobs_as_the_terminal_has_lines() {
        assert_eq!([page_size(24), page_size(2), page_size(100_000)], [21, 5, 10_000]);
    }

    #[test]
    fn rows_in_no_count_have_a_column_where_there_are_any() {
        let mut jobs_of = [9, 8, 7].map(|id| samples::job(id, JobState::Complete));
        jobs_of[0].rows = samples::rows(10, (Some(8), Some(1), Some(0)));
        jobs_of[1].rows = samples::rows(10, (Some(10), None, Some(0)));
        jobs_of[2].rows = samples::rows(10, (Some(10), Some(0), Some(0)));
        let text = jobs(&jobs_of, &Screen::PLAIN);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().take(5).collect()).collect();
        assert_eq!(
            rows,
            [
                ["ID", "STATE", "DONE", "FAILED", "UNACCOUNTED"],
                ["9", "complete,", "1", "row", "failed,"],
                ["8", "complete,", "failed", "rows", "unknown"],
                ["7", "complete", "10/10", "0", "0"],
            ]
        );
        assert!(text.lines().nth(1).unwrap().contains("9/10       1            1"), "{text}");
        assert!(text.lines().nth(2).unwrap().contains("?/10       ?            ?"), "{text}");
    }
}
