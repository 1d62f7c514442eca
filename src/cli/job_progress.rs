//! Job progress: shows jobs that are waited for, as a table that is redrawn on a terminal, or as a line for each
//! change.

use std::collections::BTreeMap;
use std::time::Duration;

use console::Term;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::api::dto::JobDto;
use crate::cli::format::{
    done_rows, foremost_state, job_done_label, sanitize, state_cell, state_label, state_tone, summary_line,
    waiting_label,
};
use crate::cli::output;
use crate::cli::render::{Cell, Column, LiveArea, Screen, Table, Tone, time, width};
use crate::domain::{BatchState, JobId, JobState};
use crate::scheduler::explain::WaitReason;

/// Columns of a job's bar.
const BAR: usize = 10;

/// Lines that are kept for jobs that wait, if there are so many.
const MIN_WAITING: usize = 3;

/// The most waiting jobs whose reasons are asked for.
const MAX_EXPLAINED: usize = 5;

/// Time before which the rate says nothing about the rest.
const MIN_PASSED: Duration = Duration::from_secs(3);

/// The jobs that are waited for, on standard error.
pub struct JobProgress {
    display: Display,
    watched: WatchedJobs,
}

/// Where the progress is shown.
enum Display {
    /// A terminal that can be redrawn.
    Live(LiveArea),
    /// Anything else: the last line that was written for each job.
    Lines(BTreeMap<JobId, String>),
}

/// What is known of the jobs.
struct WatchedJobs {
    /// How many jobs are waited for.
    expected: usize,
    jobs: BTreeMap<JobId, JobDto>,
    /// Why a job waits, as the daemon explains it.
    reasons: BTreeMap<JobId, Reason>,
    /// When a job will probably end, as the daemon estimates it.
    ends: BTreeMap<JobId, Timestamp>,
    began: Instant,
    /// Rows that had been processed when a job was first seen.
    rows_before: u64,
}

/// Why a job waits.
struct Reason {
    waits_for: WaitReason,
    text: String,
}

impl JobProgress {
    /// Starts to show `expected` jobs.
    pub fn new(expected: usize) -> JobProgress {
        let display = if Screen::stderr().can_redraw {
            Display::Live(LiveArea::new(Term::buffered_stderr()))
        } else {
            Display::Lines(BTreeMap::new())
        };
        JobProgress { display, watched: WatchedJobs::new(expected) }
    }

    /// Returns whether the table is redrawn. Then each ended job has been shown with its result.
    pub fn is_live(&self) -> bool {
        matches!(self.display, Display::Live(_))
    }

    /// Shows the current state of a job. An ended one is shown once, as a line that stays.
    pub fn record(&mut self, job: &JobDto) {
        let had_ended = self.watched.jobs.get(&job.id).is_some_and(|job| job.state.is_terminal());
        self.watched.record(job);
        match &mut self.display {
            Display::Live(area) => {
                if job.state.is_terminal() && !had_ended {
                    let screen = Screen::stderr();
                    let line = screen.paint(state_tone(job), &summary_line(job));
                    // A progress that can't be shown does not end the waiting.
                    let _ = area.print(&line);
                }
            }
            Display::Lines(lines) => {
                let line = format!("job {}: {}: {}", job.id, sanitize(&job.filename), state_label(job));
                if lines.get(&job.id) != Some(&line) {
                    output::note(&line);
                    lines.insert(job.id, line);
                }
            }
        }
        self.redraw();
    }

    /// Draws the table anew.
    pub fn redraw(&mut self) {
        if let Display::Live(area) = &mut self.display {
            let _ = area.draw(&self.watched.frame(self.watched.began.elapsed(), &Screen::stderr()));
        }
    }

    /// Returns the jobs that should be asked for: waiting ones for their reasons, and the last one for the end of all.
    pub fn unexplained(&self) -> Vec<JobId> {
        let mut ids: Vec<JobId> = self.watched.waiting().map(|job| job.id).take(MAX_EXPLAINED).collect();
        ids.extend(self.watched.last_open().filter(|last| !ids.contains(last)));
        ids
    }

    /// Records why a job waits, and when it will probably end. Where there is no table, the reason is a line of its own
    /// when another thing is waited for.
    pub fn explain(&mut self, job: &JobDto) {
        self.watched.ends.remove(&job.id);
        self.watched.ends.extend(job.estimated_end.map(|end| (job.id, end)));
        let (Some(waiting), true) = (&job.waiting, is_waiting(job)) else { return };
        let screen = if self.is_live() { Screen::stderr() } else { Screen::PLAIN };
        let text = waiting_label(waiting, &screen);
        let line = format!("job {}: {}: {}: {}", job.id, sanitize(&job.filename), state_label(job), sanitize(&text));
        // The number of jobs ahead changes all the time. It is no other thing that is waited for.
        let waits_for = waiting.waits_for;
        let before = self.watched.reasons.insert(job.id, Reason { waits_for, text });
        if let Display::Lines(lines) = &mut self.display
            && before.is_none_or(|before| before.waits_for != waits_for)
        {
            output::note(&line);
            lines.remove(&job.id);
        }
    }

    /// Removes the table, before the results are written.
    pub fn clear(&mut self) {
        if let Display::Live(area) = &mut self.display {
            let _ = area.clear();
        }
    }
}

impl WatchedJobs {
    fn new(expected: usize) -> WatchedJobs {
        let (jobs, reasons, ends) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        WatchedJobs { expected, jobs, reasons, ends, began: Instant::now(), rows_before: 0 }
    }

    fn record(&mut self, job: &JobDto) {
        if self.jobs.insert(job.id, job.clone()).is_none() {
            self.rows_before += passed_rows(job);
        }
    }

    /// Returns the jobs that are under way.
    fn running(&self) -> impl Iterator<Item = &JobDto> {
        self.jobs.values().filter(|job| !job.state.is_terminal() && !is_waiting(job))
    }

    /// Returns the jobs of which nothing is under way.
    fn waiting(&self) -> impl Iterator<Item = &JobDto> {
        self.jobs.values().filter(|job| is_waiting(job))
    }

    /// Returns the youngest job that has not ended.
    fn last_open(&self) -> Option<JobId> {
        self.jobs.values().rev().find(|job| !job.state.is_terminal()).map(|job| job.id)
    }

    /// Returns the lines for a screen, after so much time: what runs, what waits and why, and how many are done.
    fn frame(&self, passed: Duration, screen: &Screen) -> Vec<String> {
        let (running, waiting) = (self.running().count(), self.waiting().count());
        // The last lines are the summary, and the cursor's.
        let room = screen.height.unwrap_or(usize::MAX).saturating_sub(3);
        let shown_running = running.min(room.saturating_sub(waiting.min(MIN_WAITING)));
        let shown_waiting = waiting.min(room - shown_running);
        let mut table = Table::new(vec![
            Column::right(""),
            Column::left("").shortened(12),
            Column::left(""),
            Column::left("").optional(1),
            Column::right("").optional(2),
            Column::left("").shortened(10).optional(3),
        ])
        .without_head();
        for job in self.running().take(shown_running).chain(self.waiting().take(shown_waiting)) {
            table.push(self.row(job));
        }
        let mut lines = table.lines(screen);
        let hidden = [(running - shown_running, "running"), (waiting - shown_waiting, "waiting")];
        let hidden = hidden.into_iter().filter(|(number, _)| *number > 0);
        let hidden: Vec<String> = hidden.map(|(number, what)| format!("{number} more {what}")).collect();
        let mut summary = self.summary(passed, screen);
        if !hidden.is_empty() {
            summary = format!("{} · {summary}", hidden.join(", "));
        }
        lines.push(width::shorten_end(&summary, screen.width.unwrap_or(usize::MAX)));
        lines
    }

    fn row(&self, job: &JobDto) -> [Cell; 6] {
        let reason = self.reasons.get(&job.id).filter(|_| is_waiting(job));
        let bar = match is_waiting(job) {
            true => "".into(),
            false => Cell::bar(job.rows.done().unwrap_or(0), job.rows.total, BAR, Tone::Active),
        };
        [
            job.id.to_string().into(),
            Cell::from(&job.filename),
            state_cell(job),
            bar,
            format!("{} rows", job_done_label(job)).into(),
            Cell::toned(reason.map(|reason| reason.text.as_str()).unwrap_or_default(), Tone::Faint),
        ]
    }

    /// Returns how many jobs are done, how many of them badly, and how long the rest probably takes.
    fn summary(&self, passed: Duration, screen: &Screen) -> String {
        let ended = || self.jobs.values().filter(|job| job.state.is_terminal());
        let bad = ended().filter(|job| job.state != JobState::Complete).count();
        let mut text = format!("{} of {} done", ended().count(), self.expected);
        if bad > 0 {
            text += &format!(", {bad} failed or cancelled");
        }
        if let Some(rest) = self.estimated_rest(screen).or_else(|| self.time_left(passed)) {
            text += &format!(", about {}", time::span(rest));
        }
        text
    }

    /// Returns how long the rest takes by the daemon's estimates. None without one of the last job.
    fn estimated_rest(&self, screen: &Screen) -> Option<SignedDuration> {
        let last = self.last_open()?;
        let is_open = |id: &JobId| self.jobs.get(id).is_some_and(|job| !job.state.is_terminal());
        let end = self.ends.iter().filter(|(id, _)| is_open(id)).map(|(_, &end)| end).max()?;
        let rest = end.duration_since(screen.now?);
        (self.jobs.len() == self.expected && self.ends.contains_key(&last) && rest.is_positive()).then_some(rest)
    }

    /// Estimates by the rate so far how long the rest takes. None as long as that is a guess.
    fn time_left(&self, passed: Duration) -> Option<SignedDuration> {
        let done: u64 = self.jobs.values().map(passed_rows).sum();
        let total: u64 = self.jobs.values().map(|job| job.rows.total).sum();
        let new = done.checked_sub(self.rows_before).filter(|&new| new > 0)?;
        let is_guess = self.jobs.len() < self.expected || passed < MIN_PASSED || done >= total;
        let seconds = passed.as_secs_f64() * (total.saturating_sub(done)) as f64 / new as f64;
        (!is_guess).then(|| SignedDuration::try_from_secs_f64(seconds.ceil()).ok()).flatten()
    }
}

/// Returns whether nothing of the job is under way.
fn is_waiting(job: &JobDto) -> bool {
    let waits = matches!(foremost_state(job), None | Some(BatchState::Pending | BatchState::Held));
    !job.state.is_terminal() && waits
}

/// Returns how many rows of a job need not be waited for any more.
fn passed_rows(job: &JobDto) -> u64 {
    if job.state.is_terminal() {
        return job.rows.total;
    }
    done_rows(job)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::samples;

    fn watched(expected: usize, jobs: Vec<JobDto>) -> WatchedJobs {
        let mut watched = WatchedJobs::new(expected);
        for job in jobs {
            watched.record(&job);
        }
        watched
    }

    fn importing(id: i64) -> JobDto {
        let mut job = samples::job(id, JobState::Running);
        job.batches = vec![samples::batch(1, BatchState::Importing)];
        job
    }

    #[test]
    fn a_frame_shows_what_runs_and_why_others_wait() {
        let mut watched = watched(4, (1..=2).map(importing).chain([samples::job(3, JobState::Pending)]).collect());
        watched.record(&samples::job(4, JobState::Failed));
        let reason = Reason { waits_for: WaitReason::Slot, text: "waits for a free slot, 12 jobs ahead of it".into() };
        watched.reasons.insert(JobId(3), reason);
        let mut half = importing(2);
        (half.batches[0].rows.processed, half.rows.processed) = (Some(5), Some(5));
        watched.record(&half);
        let screen = Screen { width: Some(100), height: Some(24), ..Screen::PLAIN };
        // Ten of forty rows are the failed job's, and were done before.
        assert_eq!(
            watched.frame(Duration::from_secs(10), &screen),
            [
                "1  people.csv  running (importing)  ░░░░░░░░░░  0/10 rows",
                "2  people.csv  running (importing)  █████░░░░░  5/10 rows",
                "3  people.csv  pending                          0/10 rows  waits for a free slo… 12 jobs ahead of it",
                "1 of 4 done, 1 failed or cancelled, about 50 s",
            ]
        );
    }

    #[test]
    fn many_jobs_fit_a_small_terminal() {
        let jobs = (1..=30).map(importing).chain((31..=60).map(|id| samples::job(id, JobState::Pending)));
        let watched = watched(60, jobs.collect());
        for (columns, lines) in [(80, 24), (40, 10), (20, 5), (80, 1)] {
            let screen = Screen { width: Some(columns), height: Some(lines), ..Screen::PLAIN };
            let frame = watched.frame(Duration::ZERO, &screen);
            assert!(frame.len() < lines.max(2), "{columns}x{lines}: {frame:#?}");
            assert!(frame.iter().all(|line| width::width(line) <= columns), "{columns}x{lines}: {frame:#?}");
        }
        let screen = Screen { width: Some(80), height: Some(24), ..Screen::PLAIN };
        let frame = watched.frame(Duration::ZERO, &screen);
        assert_eq!(frame.last().unwrap(), "12 more running, 27 more waiting · 0 of 60 done");
        assert_eq!(frame.iter().filter(|line| line.contains("pending")).count(), 3);
    }

    #[test]
    fn the_rest_is_the_daemons_estimate_of_the_last_job() {
        let mut watched = watched(2, vec![importing(1), samples::job(2, JobState::Pending)]);
        let screen = Screen { now: Some(samples::at(0)), ..Screen::PLAIN };
        watched.ends.insert(JobId(1), samples::at(60));
        assert_eq!(watched.summary(Duration::ZERO, &screen), "0 of 2 done", "the last one may take longer");
        watched.ends.insert(JobId(2), samples::at(200));
        assert_eq!(watched.summary(Duration::ZERO, &screen), "0 of 2 done, about 3 min");
        watched.record(&samples::job(2, JobState::Complete));
        assert_eq!(watched.summary(Duration::ZERO, &screen), "1 of 2 done, about 1 min");
    }
}
