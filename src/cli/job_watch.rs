//! Waiting for jobs to end: by their events, or by polling where the daemon has no free event stream.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::api::dto::{EventData, MAX_FOLLOWED};
use crate::cli::output;
use crate::cli::progress::Progress;
use crate::client::{Client, ClientError};
use crate::domain::JobId;
use crate::store::Job;

/// A daemon that goes away may be on its way back, as after an update: so often it is tried, with so long between.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);

/// The pause between two looks at jobs whose events can't be had.
const POLL: Duration = Duration::from_secs(1);

/// Whether the daemon has answered with these jobs before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum KnownState {
    /// It accepted them, so a daemon that does not answer is waited for.
    Accepted,
    /// They are numbers that somebody typed.
    Typed,
}

/// How following came to its end.
pub enum WatchResult {
    /// The jobs are in the order of the ids.
    Ended(Vec<Job>),
    /// By Ctrl-C; that the jobs go on was said.
    Interrupted,
}

/// Returns when each job has ended, or at Ctrl-C.
///
/// # Errors
/// The daemon can't say how the jobs stand.
pub async fn wait_for_jobs(
    client: &Client,
    ids: &[JobId],
    known: KnownState,
    progress: &mut Progress,
) -> Result<WatchResult, ClientError> {
    let mut following = JobWatch { client, ended: BTreeMap::new(), answered: known == KnownState::Accepted, progress };
    let done = tokio::select! {
        done = following.until_ended(ids) => done,
        () = ctrl_c() => {
            progress.clear();
            output::note(&still_running_notice(ids));
            return Ok(WatchResult::Interrupted);
        }
    };
    let mut ended = std::mem::take(&mut following.ended);
    progress.clear();
    done?;
    Ok(WatchResult::Ended(ids.iter().filter_map(|id| ended.remove(id)).collect()))
}

struct JobWatch<'a> {
    client: &'a Client,
    ended: BTreeMap<JobId, Job>,
    /// The daemon was there, and knew the jobs.
    answered: bool,
    progress: &'a mut Progress,
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
            let looked = match self.listen(&open).await {
                Err(error) if error.is_too_many_waiting() => {
                    pause = POLL;
                    self.poll(&open).await
                }
                listened => listened,
            };
            match looked {
                Ok(()) => tries = 0,
                Err(error) if self.answered && tries < TRIES && error.is_transient() => tries += 1,
                Err(error) => return Err(error),
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads the events of these jobs until all have ended or events may have been missed. The first events tell how
    /// the jobs are now, so one connection is enough.
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

    /// Asks for each of these jobs, one short request after the other.
    async fn poll(&mut self, ids: &[JobId]) -> Result<(), ClientError> {
        for &id in ids {
            let job = self.client.job(id, None).await?;
            self.answered = true;
            self.record(job);
        }
        Ok(())
    }

    fn record(&mut self, job: Job) {
        self.progress.job(&job);
        if job.state.is_terminal() {
            self.ended.insert(job.id, job);
        }
    }
}

/// Returns at Ctrl-C; never where signals can't be listened to, and then Ctrl-C does what it always did.
pub async fn ctrl_c() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What to say to a person who stops waiting.
pub fn still_running_notice(ids: &[JobId]) -> String {
    match ids {
        [id] => format!("job {id} goes on in the daemon: \"marqueue show {id}\" tells how it stands"),
        ids => {
            let words: Vec<String> = ids.iter().map(JobId::to_string).collect();
            format!(
                "jobs {} go on in the daemon: \"marqueue wait {}\" waits for them again",
                words.join(", "),
                words.join(" ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stops_waiting_is_told_where_to_look() {
        assert_eq!(
            still_running_notice(&[JobId(4)]),
            "job 4 goes on in the daemon: \"marqueue show 4\" tells how it stands"
        );
        assert_eq!(
            still_running_notice(&[JobId(4), JobId(6)]),
            "jobs 4, 6 go on in the daemon: \"marqueue wait 4 6\" waits for them again"
        );
    }
}
