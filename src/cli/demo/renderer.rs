//! Output of the demo: a table that is redrawn on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io;

use console::Term;

use crate::api::dto::JobDto;
use crate::cli::demo::live_table::LiveTable;
use crate::cli::format::{count, sanitize, state_label, summary_line};
use crate::cli::output;
use crate::cli::render::{LiveArea, Screen};
use crate::domain::JobId;

/// Where the demo writes its progress.
pub enum Renderer {
    /// A terminal: the table is redrawn in place.
    Screen(LiveArea),
    /// No terminal: a line for each change. Holds the last label of each job.
    Lines(BTreeMap<JobId, String>),
    /// Nothing: JSON is written at the end.
    Silent,
}

impl Renderer {
    /// Selects the output for what standard output can show.
    pub fn for_stdout() -> Renderer {
        if Screen::stdout().can_redraw {
            Renderer::Screen(LiveArea::new(Term::buffered_stdout()))
        } else {
            Renderer::Lines(BTreeMap::new())
        }
    }

    /// Writes a text that stays, above the table if there is one.
    ///
    /// # Errors
    /// Standard output is not writable.
    pub fn print(&mut self, text: &str) -> io::Result<()> {
        match self {
            Renderer::Screen(area) => area.print(text),
            Renderer::Lines(_) => output::print(&format!("{text}\n")),
            Renderer::Silent => Ok(()),
        }
    }

    /// Shows a new snapshot.
    ///
    /// # Errors
    /// Standard output is not writable.
    pub fn show(&mut self, table: &LiveTable) -> io::Result<()> {
        match self {
            Renderer::Screen(area) => {
                let screen = Screen::stdout();
                area.draw(&table.frame(&screen, screen.height.unwrap_or(usize::MAX)))
            }
            Renderer::Lines(labels) => {
                let mut lines = table.jobs.iter().filter_map(|job| change(labels, job));
                lines.try_for_each(|line| output::print(&format!("{line}\n")))
            }
            Renderer::Silent => Ok(()),
        }
    }

    /// Shows the last snapshot. The whole table stays, even if the terminal is too low for it.
    ///
    /// # Errors
    /// Standard output is not writable.
    pub fn finish(&mut self, table: &LiveTable) -> io::Result<()> {
        match self {
            Renderer::Screen(area) => area.print(&table.table(&Screen::stdout()).join("\n")),
            _ => self.show(table),
        }
    }
}

/// Returns a line about a job whose label has changed; none if it has not.
fn change(labels: &mut BTreeMap<JobId, String>, job: &JobDto) -> Option<String> {
    let label = state_label(job);
    let line = match labels.get(&job.id) {
        Some(last) if *last == label => return None,
        None => {
            let (target, rows) = (sanitize(&job.target.to_string()), count(job.rows.total, "row"));
            let batches = count(job.batches.len() as u64, "batch");
            format!("job {}: {} for {target}: {rows} in {batches}", job.id, sanitize(&job.filename))
        }
        Some(_) if job.state.is_terminal() => summary_line(job),
        Some(_) => format!("job {}: {}: {label}", job.id, sanitize(&job.filename)),
    };
    labels.insert(job.id, label);
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::samples::{batch, job};
    use crate::domain::{BatchState, JobState};

    #[test]
    fn each_change_of_a_state_is_one_line() {
        let (mut labels, mut lines) = (BTreeMap::new(), Vec::new());
        let mut job = job(7, JobState::Pending);
        lines.push(change(&mut labels, &job));
        lines.push(change(&mut labels, &job));
        job.state = JobState::Running;
        for rows in [3, 5] {
            job.batches = vec![batch(1, BatchState::Importing)];
            job.rows.processed = Some(rows);
            lines.push(change(&mut labels, &job));
        }
        job.state = JobState::Complete;
        lines.push(change(&mut labels, &job));
        let lines: Vec<String> = lines.into_iter().flatten().collect();
        assert_eq!(
            lines,
            [
                "job 7: people.csv for leads: 10 rows in 1 batch",
                "job 7: people.csv: running (importing)",
                "job 7: people.csv is complete: 10 rows, 5 processed",
            ]
        );
    }
}
