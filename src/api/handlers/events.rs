//! `GET /v1/events`: server-sent events of every change, each with the thing as it is now.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::api::SharedState;
use crate::api::auth::identity::{Identity, RequestConnection};
use crate::api::dto::{EventData, MAX_FOLLOWED, Problem};
use crate::api::problem::{Query, job_id};
use crate::domain::JobId;
use crate::store::{ChangeEvent, StoreError};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    /// Ids with commas between them, at most 1000: first an event for each of these jobs as it is now, then only their
    /// changes. So nothing is missed between a look at a job and its events.
    job: Option<String>,
}

impl EventsQuery {
    /// Without repetitions, in the order given; none: all jobs.
    fn jobs(&self) -> Result<Option<Vec<JobId>>, Problem> {
        let Some(text) = self.job.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let mut seen = BTreeSet::new();
        let mut jobs = text.split(',').map(job_id).collect::<Result<Vec<_>, _>>()?;
        jobs.retain(|&id| seen.insert(id));
        if jobs.len() > MAX_FOLLOWED {
            let detail = format!("job names {} jobs, and at most {MAX_FOLLOWED} can be followed", jobs.len());
            return Err(Problem::bad_request(detail));
        }
        Ok(Some(jobs))
    }
}

pub(crate) async fn events(
    State(daemon): State<SharedState>,
    caller: Identity,
    connection: RequestConnection,
    Query(which): Query<EventsQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let jobs = which.jobs()?;
    // Listens before it looks, so that a change between the two is not missed.
    let changes = daemon.store.subscribe();
    for &id in jobs.iter().flatten() {
        if !caller.owns(&daemon.store.job(id).await?) {
            return Err(StoreError::NoJob(id).into());
        }
    }
    connection.check_may_wait()?;
    let only = jobs.as_ref().map(|jobs| jobs.iter().copied().collect());
    let stop = daemon.stop.clone();
    let follower = EventFollower { daemon, caller, changes, first: jobs.unwrap_or_default().into(), only };
    let events = stream::unfold(follower, next);
    Ok(Sse::new(events.take_until(stop.cancelled_owned())).keep_alive(KeepAlive::default()))
}

/// One who reads events.
struct EventFollower {
    daemon: SharedState,
    caller: Identity,
    changes: Receiver<ChangeEvent>,
    /// Jobs that are to be told of as they are, before any change.
    first: VecDeque<JobId>,
    /// None: of all jobs and instances.
    only: Option<BTreeSet<JobId>>,
}

impl EventFollower {
    async fn next(&mut self) -> Option<EventData> {
        loop {
            if let Some(id) = self.first.pop_front() {
                match self.job(id, None).await {
                    Some(data) => return Some(data),
                    None => continue,
                }
            }
            let data = match self.changes.recv().await {
                Ok(ChangeEvent::Job(id)) => self.job(id, None).await,
                Ok(ChangeEvent::Batch(key)) => self.job(key.job, Some(key.part)).await,
                Ok(ChangeEvent::Metric(_)) => None,
                Ok(ChangeEvent::Instance(name)) => {
                    (self.only.is_none() && self.caller.may_use(&name)).then_some(EventData::Instance { name })
                }
                Err(RecvError::Lagged(count)) => Some(EventData::Missed { count }),
                Err(RecvError::Closed) => return None,
            };
            if data.is_some() {
                return data;
            }
        }
    }

    /// The job as it is now. One that is gone by now is no news, nor is one that the follower did not ask for or does not
    /// own.
    async fn job(&self, id: JobId, part: Option<u32>) -> Option<EventData> {
        if self.only.as_ref().is_some_and(|only| !only.contains(&id)) {
            return None;
        }
        match self.daemon.store.job(id).await {
            Ok(job) if self.caller.owns(&job) => Some(EventData::Job { job: Box::new(job), part }),
            _ => None,
        }
    }
}

async fn next(mut follower: EventFollower) -> Option<(Result<Event, Infallible>, EventFollower)> {
    loop {
        let data = follower.next().await?;
        let name = match data {
            EventData::Job { .. } => "job",
            EventData::Instance { .. } => "instance",
            EventData::Missed { .. } => "missed",
        };
        // Plain data of our own always becomes JSON; if it did not, there would be no event to send.
        if let Ok(event) = Event::default().event(name).json_data(&data) {
            return Some((Ok(event), follower));
        }
    }
}
