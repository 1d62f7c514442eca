//! Confirmation: a command that changes many jobs shows them and asks before it begins.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use crate::cli::exit_status::CliError;
use crate::cli::format::{count, state_cell};
use crate::cli::job_selection::{JobSelection, SelectedJobs};
use crate::cli::output;
use crate::cli::render::{Cell, Column, Screen, Table};

/// The option that answers the question.
#[derive(Args, Clone, Copy, Debug)]
pub struct YesOption {
    /// Do it without a question, for jobs that are selected by a range or a filter
    #[arg(long)]
    pub yes: bool,
}

/// What the user decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To go on; also where there was nothing to ask.
    Yes,
    /// To change nothing.
    No,
}

/// A command that has to be confirmed.
#[derive(Clone, Copy, Debug)]
pub struct Confirmation<'a> {
    /// What stands before the number of jobs in the question: `Cancel`.
    pub action: &'a str,
    /// The jobs as the user selected them.
    pub selection: &'a JobSelection,
    /// Whether the answer was given as an option.
    pub option: YesOption,
}

impl Confirmation<'_> {
    /// Checks that the question can be asked, or needs none.
    ///
    /// # Errors
    /// [`CliError::Usage`] if jobs are selected by a range or a filter, there is no terminal, and `--yes` is missing.
    pub fn check(&self) -> Result<(), CliError> {
        self.selection.check()?;
        if !self.is_needed() || (io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Ok(());
        }
        Err(CliError::Usage(
            "jobs are selected by a range or a filter, and there is no terminal to ask at: give --yes to do it \
             without a question"
                .to_owned(),
        ))
    }

    /// Shows the jobs and asks. Jobs that were given by their numbers need no question.
    ///
    /// # Errors
    /// The terminal can't be read.
    pub fn ask(&self, jobs: &SelectedJobs) -> Result<Decision, CliError> {
        if !self.is_needed() || jobs.ids.is_empty() {
            return Ok(Decision::Yes);
        }
        output::note(preview(jobs, &Screen::stderr()).trim_end());
        let mut terminal = io::stderr().lock();
        // A question that cannot be shown counts as answered with no.
        let _ = write!(terminal, "{} {}? [y/N] ", self.action, count(jobs.ids.len() as u64, "job"));
        let _ = terminal.flush();
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map_err(|error| {
            CliError::Input(format!("the answer can't be read: {error}; --yes does it without a question"))
        })?;
        Ok(if is_yes(&answer) { Decision::Yes } else { Decision::No })
    }

    fn is_needed(&self) -> bool {
        self.selection.is_open() && !self.option.yes
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Returns a line for each of the first jobs, and how many more there are.
fn preview(jobs: &SelectedJobs, screen: &Screen) -> String {
    let mut table = Table::new(vec![
        Column::right("ID"),
        Column::left("STATE"),
        Column::left("INSTANCE").shortened(7).optional(1),
        Column::left("FILE").shortened(14),
    ]);
    for job in &jobs.first {
        table.push([job.id.to_string().into(), state_cell(job), Cell::from(&job.instance), Cell::from(&job.filename)]);
    }
    let mut text = table.render(screen);
    let more = jobs.ids.len().saturating_sub(jobs.first.len());
    if more > 0 {
        text += &format!("and {more} more\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::samples;
    use crate::domain::{JobId, JobState};

    #[test]
    fn only_y_and_yes_confirm() {
        for (answer, expected) in [("y\n", true), ("Yes\r\n", true), ("\n", false), ("", false), ("yesterday\n", false)]
        {
            assert_eq!(is_yes(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn the_first_jobs_are_shown_and_the_others_counted() {
        let first = vec![samples::job(9, JobState::Pending), samples::job(10, JobState::Failed)];
        let jobs = SelectedJobs { ids: (9..46).map(JobId).collect(), first };
        assert_eq!(
            preview(&jobs, &Screen::PLAIN),
            "ID  STATE    INSTANCE  FILE\n\
             \x209  pending  default   people.csv\n\
             10  failed   default   people.csv\n\
             and 35 more\n"
        );
    }
}
