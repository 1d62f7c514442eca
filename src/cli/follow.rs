//! How does one wait for jobs? By their events, with a look at the jobs themselves whenever events may have been missed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::progress::Progress;
use super::{Exit, Failure, output};
use crate::api::client::{Client, ClientError};
use crate::api::types::EventData;
use crate::job::JobId;
use crate::store::Job;

/// A daemon that goes away may be on its way back, as after an update: so often it is tried, with so long between.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);

/// Returns when each job has ended, or with [`Exit::Interrupted`] at Ctrl-C. The jobs are in the order of `ids`.
pub async fn follow(
    client: &Client,
    ids: &[JobId],
    progress: &mut Progress,
) -> Result<Result<Vec<Job>, Exit>, Failure> {
    let ended = tokio::select! {
        ended = until_ended(client, ids, progress) => ended,
        () = interrupt() => {
            progress.clear();
            output::note(&goes_on(ids));
            return Ok(Err(Exit::Interrupted));
        }
    };
    progress.clear();
    let mut jobs = ended?;
    Ok(Ok(ids.iter().filter_map(|id| jobs.remove(id)).collect()))
}

async fn until_ended(
    client: &Client,
    ids: &[JobId],
    progress: &mut Progress,
) -> Result<BTreeMap<JobId, Job>, ClientError> {
    let mut ended = BTreeMap::new();
    let mut tries = 0;
    let mut seen = false;
    loop {
        match look(client, ids, &mut ended, &mut seen, progress).await {
            Ok(()) if ids.iter().all(|id| ended.contains_key(id)) => return Ok(ended),
            Ok(()) => tries = 0,
            Err(ClientError::NoDaemon { .. } | ClientError::Broken(_) | ClientError::Silent { .. })
                if seen && tries < TRIES =>
            {
                tries += 1;
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Looks at every job that has not ended, then at what changes, until all have ended or events may have been missed.
async fn look(
    client: &Client,
    ids: &[JobId],
    ended: &mut BTreeMap<JobId, Job>,
    seen: &mut bool,
    progress: &mut Progress,
) -> Result<(), ClientError> {
    // Listening begins before the look, so that nothing can happen between the two.
    let mut events = client.events().await?;
    let mut open: Vec<JobId> = Vec::new();
    for &id in ids {
        if ended.contains_key(&id) {
            continue;
        }
        let job = client.job(id, None).await?;
        progress.job(&job);
        if job.state.has_ended() { drop(ended.insert(id, job)) } else { open.push(id) }
    }
    *seen = true;
    while !open.is_empty() {
        match events.next().await? {
            Some(EventData::Job { job, .. }) if open.contains(&job.id) => {
                progress.job(&job);
                if job.state.has_ended() {
                    open.retain(|&id| id != job.id);
                    ended.insert(job.id, *job);
                }
            }
            Some(EventData::Missed { .. }) | None => return Ok(()),
            Some(_) => {}
        }
    }
    Ok(())
}

/// Returns at Ctrl-C; never where signals can't be listened to, and then Ctrl-C does what it always did.
pub async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What to say to a person who stops waiting.
pub fn goes_on(ids: &[JobId]) -> String {
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
        assert_eq!(goes_on(&[JobId(4)]), "job 4 goes on in the daemon: \"marqueue show 4\" tells how it stands");
        assert_eq!(
            goes_on(&[JobId(4), JobId(6)]),
            "jobs 4, 6 go on in the daemon: \"marqueue wait 4 6\" waits for them again"
        );
    }
}
