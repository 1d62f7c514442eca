//! Waiting for jobs to end: by their events, or by polling where the daemon has no free event stream.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use crate::api::dto::{EventData, JobDto, MAX_FOLLOWED};
use crate::cli::job_progress::JobProgress;
use crate::cli::job_selection::to_arguments;
use crate::cli::output;
use crate::client::{Client, ClientError};
use crate::domain::JobId;

/// How often a daemon that no longer answers is tried again, and the pause between. It may restart, as after an update.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);

/// Interval of polls while no event stream is available.
const POLL: Duration = Duration::from_secs(1);

/// How often the progress is redrawn, for its times and its reasons.
const REFRESH: Duration = Duration::from_secs(1);

/// Where the ids of the jobs come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum KnownState {
    /// The daemon accepted the jobs, so a missing daemon is retried.
    Accepted,
    /// The user typed the numbers.
    Typed,
}

/// Result of waiting.
pub enum WatchResult {
    /// All jobs have ended.
    Ended(EndedJobs),
    /// Ctrl-C. The notice that the jobs continue has been written.
    Interrupted,
}

/// Jobs that have ended.
pub struct EndedJobs {
    /// In the order of the ids.
    pub jobs: Vec<JobDto>,
    /// Whether the user has seen the result of each on the terminal.
    pub are_shown: bool,
}

/// Waits until each job has ended, or until Ctrl-C, and shows their progress.
///
/// # Errors
/// The daemon can't be reached, or refuses the request for a job.
pub async fn wait_for_jobs(client: &Client, ids: &[JobId], known: KnownState) -> Result<WatchResult, ClientError> {
    let progress = RefCell::new(JobProgress::new(ids.len()));
    let is_accepted = known == KnownState::Accepted;
    let mut watch = JobWatch { client, ended: BTreeMap::new(), answered: is_accepted, progress: &progress };
    let done = tokio::select! {
        done = watch.until_ended(ids) => done,
        never = refresh(client, &progress) => match never {},
        () = ctrl_c() => {
            progress.borrow_mut().clear();
            output::note(&still_running_notice(ids));
            return Ok(WatchResult::Interrupted);
        }
    };
    let mut ended = std::mem::take(&mut watch.ended);
    let mut progress = progress.borrow_mut();
    progress.clear();
    done?;
    let jobs = ids.iter().filter_map(|id| ended.remove(id)).collect();
    Ok(WatchResult::Ended(EndedJobs { jobs, are_shown: progress.is_live() }))
}

/// Redraws the progress from time to time, and asks why jobs wait.
async fn refresh(client: &Client, progress: &RefCell<JobProgress>) -> Infallible {
    loop {
        tokio::time::sleep(REFRESH).await;
        let unexplained = progress.borrow().unexplained();
        for id in unexplained {
            // A reason that can't be had is not shown. Whether the daemon answers is the watch's concern.
            if let Ok(job) = client.job(id, None).await {
                progress.borrow_mut().explain(&job);
            }
        }
        progress.borrow_mut().redraw();
    }
}

struct JobWatch<'a> {
    client: &'a Client,
    ended: BTreeMap<JobId, JobDto>,
    /// Whether the daemon has answered for these jobs.
    answered: bool,
    progress: &'a RefCell<JobProgress>,
}

impl JobWatch<'_> {
    async fn until_ended(&mut self, ids: &[JobId]) -> Result<(), ClientError> {
        let mut tries = 0;
        loop {
            let open: Vec<JobId> =
                ids.iter().filter(|id| !self.ended.contains_key(id)).take(MAX_FOLLOWED).copied().collect();
            if open.is_empty() {
                return Ok(());
            }
            let mut pause = PAUSE;
            let result = match self.listen(&open).await {
                Err(error) if error.is_too_many_waiting() => {
                    pause = POLL;
                    self.poll(&open).await
                }
                listened => listened,
            };
            match result {
                Ok(()) => tries = 0,
                Err(error) if self.answered && tries < TRIES && error.is_transient() => tries += 1,
                Err(error) => return Err(error),
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads the events of these jobs until all have ended or events may have been missed. The first events hold
    /// the current state of the jobs, so one connection is enough.
    async fn listen(&mut self, ids: &[JobId]) -> Result<(), ClientError> {
        let mut events = self.client.events_of(ids).await?;
        self.answered = true;
        while ids.iter().any(|id| !self.ended.contains_key(id)) {
            match events.next().await? {
                Some(EventData::Job { job, .. }) => self.record(*job),
                Some(EventData::Missed { .. }) | None => return Ok(()),
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Requests each of these jobs, one after the other.
    async fn poll(&mut self, ids: &[JobId]) -> Result<(), ClientError> {
        for &id in ids {
            let job = self.client.job(id, None).await?;
            self.answered = true;
            self.record(job);
        }
        Ok(())
    }

    fn record(&mut self, job: JobDto) {
        self.progress.borrow_mut().record(&job);
        if job.state.is_terminal() {
            self.ended.insert(job.id, job);
        }
    }
}

/// Waits for Ctrl-C. Never returns if the signal handler can't be installed; Ctrl-C then ends the process.
pub async fn ctrl_c() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns the notice for a user who stops waiting.
pub fn still_running_notice(ids: &[JobId]) -> String {
    match ids {
        [id] => format!("job {id} continues in the daemon: \"marqueue show {id}\" shows its state"),
        ids => {
            let numbers = to_arguments(ids);
            format!(
                "jobs {} continue in the daemon: \"marqueue wait {numbers}\" waits for them again",
                numbers.replace(' ', ", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notice_names_the_command_to_continue() {
        assert_eq!(
            still_running_notice(&[JobId(4)]),
            "job 4 continues in the daemon: \"marqueue show 4\" shows its state"
        );
        assert_eq!(
            still_running_notice(&[JobId(4), JobId(6)]),
            "jobs 4, 6 continue in the daemon: \"marqueue wait 4 6\" waits for them again"
        );
    }
}
