//! `GET /v1/events`: server-sent events of every change, each with the current state of the job or instance.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::api::auth::identity::{Identity, RequestConnection};
use crate::api::dto::{EventData, MAX_FOLLOWED, Problem};
use crate::api::problem::{Query, job_id};
use crate::api::state::SharedState;
use crate::domain::JobId;
use crate::store::{ChangeEvent, StoreError};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    /// Ids separated by commas, at most 1000. The stream begins with one event for each of these jobs, and then has only
    /// their changes. So no change is missed between reading a job and following it.
    job: Option<String>,
}

impl EventsQuery {
    /// Parses the ids, without repetitions, in the order given; none: all jobs.
    fn jobs(&self) -> Result<Option<Vec<JobId>>, Problem> {
        let Some(text) = self.job.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let mut seen = BTreeSet::new();
        let mut jobs = text.split(',').map(job_id).collect::<Result<Vec<_>, _>>()?;
        jobs.retain(|&id| seen.insert(id));
        if jobs.len() > MAX_FOLLOWED {
            let detail =
                format!("the parameter job has {} ids, and at most {MAX_FOLLOWED} jobs can be followed", jobs.len());
            return Err(Problem::bad_request(detail));
        }
        Ok(Some(jobs))
    }
}

/// Handles `GET /v1/events`.
pub(crate) async fn events(
    State(daemon): State<SharedState>,
    caller: Identity,
    connection: RequestConnection,
    Query(which): Query<EventsQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let jobs = which.jobs()?;
    // Subscribed before the jobs are read. In the other order a change in between would be missed.
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

/// State of one client's event stream.
struct EventFollower {
    daemon: SharedState,
    caller: Identity,
    changes: Receiver<ChangeEvent>,
    /// Jobs whose current state is still to be sent, before any change.
    first: VecDeque<JobId>,
    /// The jobs that are followed; none: all jobs and instances.
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

    /// Returns an event with the job's current state; none where the job is erased, not followed, or of another client.
    async fn job(&self, id: JobId, part: Option<u32>) -> Option<EventData> {
        if self.only.as_ref().is_some_and(|only| !only.contains(&id)) {
            return None;
        }
        match self.daemon.store.job(id).await {
            Ok(job) if self.caller.owns(&job) => Some(EventData::Job { job: Box::new(job.into()), part }),
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
        // Serialising this type does not fail. If it did, the event would be left out.
        if let Ok(event) = Event::default().event(name).json_data(&data) {
            return Some((Ok(event), follower));
        }
    }
}
