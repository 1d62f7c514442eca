//! Progress of uploads and jobs: bars where standard error is a terminal, lines elsewhere.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::format::{sanitize, state_label};
use crate::cli::output;
use crate::domain::JobId;
use crate::store::Job;
use crate::untrusted_text::escape_lines;

/// Progress display on standard error.
pub struct Progress {
    /// None if standard error is no terminal.
    screen: Option<MultiProgress>,
    bars: BTreeMap<JobId, ProgressBar>,
    /// The last line written for each job, where there is no terminal.
    lines: BTreeMap<JobId, String>,
}

impl Progress {
    /// Creates a display for this standard error.
    pub fn new() -> Progress {
        let screen = io::stderr().is_terminal().then(MultiProgress::new);
        Progress { screen, bars: BTreeMap::new(), lines: BTreeMap::new() }
    }

    /// Writes a text above the bars.
    pub fn note(&self, text: &str) {
        match &self.screen {
            // An error is ignored: standard error is the only channel that could report it.
            Some(screen) => drop(screen.println(escape_lines(text))),
            None => output::note(text),
        }
    }

    /// Adds a bar for an upload of `bytes` bytes; a hidden one if there is no terminal.
    pub fn upload(&self, filename: &str, bytes: Option<u64>) -> ProgressBar {
        self.transfer(filename, bytes, "sent")
    }

    /// Adds a bar for a download of `bytes` bytes.
    pub fn download(&self, name: &str, bytes: Option<u64>) -> ProgressBar {
        self.transfer(name, bytes, "received")
    }

    fn transfer(&self, name: &str, bytes: Option<u64>, done: &str) -> ProgressBar {
        let Some(screen) = &self.screen else { return ProgressBar::hidden() };
        let (bar, style) = match bytes {
            Some(bytes) => {
                let style = "{prefix} {bar:30} {bytes} of {total_bytes} DONE, {bytes_per_sec}, {eta} to go";
                (ProgressBar::new(bytes), style)
            }
            None => (ProgressBar::no_length(), "{prefix} {bytes} DONE, {bytes_per_sec}"),
        };
        screen.add(bar.with_style(template(&style.replace("DONE", done))).with_prefix(sanitize(name)))
    }

    /// Shows the current state of a job.
    pub fn job(&mut self, job: &Job) {
        let Some(screen) = &self.screen else {
            let line = line(job);
            if self.lines.get(&job.id) != Some(&line) {
                output::note(&line);
                self.lines.insert(job.id, line);
            }
            return;
        };
        let bar = self.bars.entry(job.id).or_insert_with(|| {
            let bar = ProgressBar::new(job.rows.total)
                .with_style(template("{prefix} {bar:30} {pos} of {len} rows  {msg}"))
                .with_prefix(format!("job {} {}", job.id, sanitize(&job.filename)));
            screen.add(bar)
        });
        bar.set_length(job.rows.total);
        // A batch without counts from Marketo adds nothing.
        bar.set_position(job.batches.iter().filter_map(|batch| batch.rows.done()).sum());
        if job.state.is_terminal() {
            bar.abandon_with_message(job.state.to_string());
        } else {
            bar.set_message(state_label(job));
        }
    }

    /// Removes the bars, before the results are written.
    pub fn clear(&mut self) {
        // An unfinished bar would be drawn once more when it is dropped.
        for bar in std::mem::take(&mut self.bars).into_values() {
            bar.finish_and_clear();
        }
    }
}

/// Returns a line that changes with a state, and not with every row.
fn line(job: &Job) -> String {
    format!("job {}: {}: {}", job.id, sanitize(&job.filename), state_label(job))
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).expect("the templates of this file are well-formed").progress_chars("=>-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::samples;
    use crate::domain::{BatchState, JobState};

    #[test]
    fn a_line_changes_with_a_state_and_not_with_every_row() {
        let mut job = samples::job(3, JobState::Running);
        job.batches = vec![samples::batch(1, BatchState::Importing)];
        let before = line(&job);
        assert_eq!(before, "job 3: people.csv: running (importing)");
        job.rows.processed = Some(5);
        assert_eq!(line(&job), before);
        job.state = JobState::Complete;
        assert_eq!(line(&job), "job 3: people.csv: complete");
    }

    #[test]
    fn bars_follow_uploads_and_jobs() {
        let nowhere = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden());
        let mut progress = Progress { screen: Some(nowhere), bars: BTreeMap::new(), lines: BTreeMap::new() };
        assert_eq!(progress.upload("a\t.csv", Some(2048)).length(), Some(2048));
        assert_eq!(progress.upload("-", None).length(), None);
        let mut job = samples::job(3, JobState::Running);
        (job.batches[0].rows.processed, job.batches[0].rows.failed) = (Some(5), Some(2));
        let mut uncounted = samples::batch(2, BatchState::Importing);
        uncounted.rows.processed = None;
        job.batches.push(uncounted);
        progress.job(&job);
        let bar = progress.bars[&job.id].clone();
        assert_eq!((bar.position(), bar.length()), (7, Some(10)));
        assert_eq!(
            (bar.prefix(), bar.message()),
            ("job 3 people.csv".into(), "running (1 pending, 1 importing)".into())
        );
        job.state = JobState::Complete;
        progress.job(&job);
        assert_eq!((bar.message(), bar.is_finished()), ("complete".into(), true));
    }
}
