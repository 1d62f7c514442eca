//! Output of the demo: a table that is redrawn on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io;

use console::Term;

use crate::cli::demo::live_table::LiveTable;
use crate::cli::format::{count, sanitize, state_label, summary_line};
use crate::cli::output;
use crate::domain::JobId;
use crate::store::Job;

/// Where the demo writes its progress.
pub enum Renderer {
    /// A terminal: the table is redrawn in place.
    Screen(LiveScreen),
    /// No terminal: a line for each change. Holds the last label of each job.
    Lines(BTreeMap<JobId, String>),
    /// Nothing: JSON is written at the end.
    Silent,
}

impl Renderer {
    /// Selects the output for this standard output. With `json` nothing is rendered.
    pub fn new(json: bool) -> Renderer {
        let term = Term::buffered_stdout();
        if json {
            Renderer::Silent
        } else if term.is_term() && !console::is_dumb() {
            Renderer::Screen(LiveScreen { term, drawn: 0, size: (0, 0) })
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
            Renderer::Screen(screen) => screen.print(text),
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
            Renderer::Screen(screen) => screen.show(table),
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
            Renderer::Screen(screen) => screen.finish(table),
            _ => self.show(table),
        }
    }
}

/// Returns a line about a job whose label has changed; none if it has not.
fn change(labels: &mut BTreeMap<JobId, String>, job: &Job) -> Option<String> {
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

/// The lower part of a terminal, redrawn in place.
pub struct LiveScreen {
    term: Term,
    /// Lines of the last frame, which the next one overwrites.
    drawn: usize,
    /// Rows and columns at the last frame.
    size: (u16, u16),
}

impl LiveScreen {
    fn show(&mut self, table: &LiveTable) -> io::Result<()> {
        let size = self.term.size();
        if self.drawn > 0 && size != self.size {
            // The terminal has rewrapped the old lines into an unknown number of lines.
            self.term.clear_screen()?;
            self.drawn = 0;
        }
        self.size = size;
        self.draw(&table.frame(size.1.into(), size.0.into()))
    }

    fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        self.term.hide_cursor()?;
        self.write_over(lines.iter().map(String::as_str))?;
        self.drawn = lines.len();
        self.term.flush()
    }

    fn print(&mut self, text: &str) -> io::Result<()> {
        self.write_over(text.lines().chain([""]))?;
        self.drawn = 0;
        self.term.flush()
    }

    /// Overwrites the old lines. Each line is written before the rest of the old one is erased, to avoid flicker.
    fn write_over<'a>(&self, lines: impl Iterator<Item = &'a str>) -> io::Result<()> {
        self.term.move_cursor_up(self.drawn)?;
        for line in lines {
            self.term.write_str(line)?;
            self.term.write_str("\x1b[K\n")?;
        }
        self.term.clear_to_end_of_screen()
    }

    fn finish(&mut self, table: &LiveTable) -> io::Result<()> {
        self.draw(&table.table(self.term.size().1.into()))?;
        self.drawn = 0;
        self.term.show_cursor()?;
        self.term.flush()
    }
}

impl Drop for LiveScreen {
    fn drop(&mut self) {
        // If the terminal is not writable, its cursor does not matter.
        let _ = self.term.show_cursor().and_then(|()| self.term.flush());
    }
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
