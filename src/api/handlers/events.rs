//! `GET /v1/events`: server-sent events of every change, each with the current state of the job or instance.
//!
//! Each event has an id: the start of the daemon and the number of the change. A client that comes back sends the last
//! one as `Last-Event-ID`, as browsers do, and first gets what has changed since.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use crate::api::auth::identity::{Identity, RequestConnection};
use crate::api::dto::{EventData, JobDto, MAX_FOLLOWED, PauseDto, Problem};
use crate::api::problem::{Query, job_id};
use crate::api::state::SharedState;
use crate::domain::{BatchKey, JobId};
use crate::store::{ChangeEvent, ChangeSubscription, SequencedChange, StoreError};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    /// Ids separated by commas, at most 1000. The stream begins with one event for each of these jobs, and then has
    /// only their changes. So no change is missed between reading a job and following it.
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
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let jobs = which.jobs()?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let stream_ids = EventIds { started_ms: daemon.started_at.as_millisecond() };
    // A stream of some jobs begins with their states, so nothing is sent again on it.
    let known = last.filter(|_| jobs.is_none()).map(|last| stream_ids.parse(last));
    // Subscribed before the jobs are read. In the other order a change in between would be missed.
    let changes = daemon.store.subscribe_after(known.flatten());
    let has_gap = known == Some(None) || changes.missed.is_none();
    for &id in jobs.iter().flatten() {
        if !caller.owns(&daemon.store.job(id).await?) {
            return Err(StoreError::NoJob(id).into());
        }
    }
    connection.check_may_wait()?;
    let only = jobs.as_ref().map(|jobs| jobs.iter().copied().collect());
    let stop = daemon.stop.clone();
    let first = jobs.unwrap_or_default().into_iter().map(ChangeEvent::Job);
    let first = first.map(|change| UnsentChange { number: changes.latest, at: None, change });
    let first = first.chain(latest_of_each(&changes).into_iter().map(UnsentChange::from)).collect();
    let follower = EventFollower { daemon, caller, changes, stream_ids, has_gap, first, only };
    let events = stream::unfold(follower, next);
    Ok(Sse::new(events.take_until(stop.cancelled_owned())).keep_alive(KeepAlive::default()))
}

/// State of one client's event stream.
struct EventFollower {
    daemon: SharedState,
    caller: Identity,
    changes: ChangeSubscription,
    stream_ids: EventIds,
    /// Changes since the client's last event are lost, and the client has not been notified yet.
    has_gap: bool,
    /// Changes that are still to be sent before any new one.
    first: VecDeque<UnsentChange>,
    /// The jobs that are followed; none: all jobs and instances.
    only: Option<BTreeSet<JobId>>,
}

/// A change that is still to be sent.
struct UnsentChange {
    number: u64,
    /// None for the state of a job at the begin of the stream.
    at: Option<Timestamp>,
    change: ChangeEvent,
}

impl From<SequencedChange> for UnsentChange {
    fn from(sequenced: SequencedChange) -> UnsentChange {
        let SequencedChange { number, at, change } = sequenced;
        UnsentChange { number, at: Some(at), change }
    }
}

/// Ids of events: `<start of the daemon in milliseconds>-<number of the change>`.
#[derive(Clone, Copy)]
struct EventIds {
    started_ms: i64,
}

impl EventIds {
    fn of(self, number: u64) -> String {
        format!("{}-{number}", self.started_ms)
    }

    /// Returns the number of the change; none where the id is not of this start of the daemon.
    fn parse(self, id: &str) -> Option<u64> {
        let (started, number) = id.rsplit_once('-')?;
        (started.parse() == Ok(self.started_ms)).then(|| number.parse().ok()).flatten()
    }
}

/// Returns the missed changes, oldest first: of a job or batch that changed several times only the last one, since each
/// event has the current state.
fn latest_of_each(changes: &ChangeSubscription) -> Vec<SequencedChange> {
    let mut seen = HashSet::new();
    let mut kept: Vec<_> =
        changes.missed.iter().flatten().rev().filter(|missed| seen.insert(&missed.change)).cloned().collect();
    kept.reverse();
    kept
}

/// An event, and the id with which the client can come back behind it.
struct NumberedEvent {
    id: Option<u64>,
    data: EventData,
}

impl EventFollower {
    async fn next(&mut self) -> Option<NumberedEvent> {
        if std::mem::take(&mut self.has_gap) {
            return Some(NumberedEvent { id: Some(self.changes.latest), data: EventData::Missed { count: None } });
        }
        loop {
            let next = match self.first.pop_front() {
                Some(first) => Ok(first),
                None => self.changes.receiver.recv().await.map(UnsentChange::from),
            };
            let UnsentChange { number, at, change } = match next {
                Ok(change) => change,
                Err(RecvError::Lagged(count)) => {
                    return Some(NumberedEvent { id: None, data: EventData::Missed { count: Some(count) } });
                }
                Err(RecvError::Closed) => return None,
            };
            let data = match change {
                ChangeEvent::Job(id) => self.job(id).await.map(|job| EventData::Job { job, part: None, at }),
                ChangeEvent::Batch(BatchKey { job, part }) => {
                    self.job(job).await.map(|job| EventData::Job { job, part: Some(part), at })
                }
                ChangeEvent::Metric(_) | ChangeEvent::Wake(_) => None,
                ChangeEvent::Instance(name) => self.instance(name, at).await,
            };
            if let Some(data) = data {
                return Some(NumberedEvent { id: Some(number), data });
            }
        }
    }

    /// Returns the current state of a job; none where it is erased, not followed, or of another client.
    async fn job(&self, id: JobId) -> Option<Box<JobDto>> {
        if self.only.as_ref().is_some_and(|only| !only.contains(&id)) {
            return None;
        }
        match self.daemon.store.job(id).await {
            Ok(job) if self.caller.owns(&job) => Some(Box::new(job.into())),
            _ => None,
        }
    }

    /// Returns an event with the instance's current state; none where it is not followed, or not of this client.
    async fn instance(&self, name: String, at: Option<Timestamp>) -> Option<EventData> {
        if self.only.is_some() || !self.caller.may_use(&name) {
            return None;
        }
        let state = self.daemon.store.instance(&name).await.ok()?;
        let quiet_until = state.backoff_until.filter(|&until| until > self.daemon.clock.now());
        Some(EventData::Instance { name, pause: state.pause.map(PauseDto::from), quiet_until, at })
    }
}

async fn next(mut follower: EventFollower) -> Option<(Result<Event, Infallible>, EventFollower)> {
    loop {
        let NumberedEvent { id, data } = follower.next().await?;
        let name = match data {
            EventData::Job { .. } => "job",
            EventData::Instance { .. } => "instance",
            EventData::Missed { .. } => "missed",
        };
        let event = match id {
            Some(number) => Event::default().id(follower.stream_ids.of(number)),
            None => Event::default(),
        };
        // Serialising this type does not fail. If it did, the event would be left out.
        if let Ok(event) = event.event(name).json_data(&data) {
            return Some((Ok(event), follower));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_an_earlier_start_is_unknown() {
        let ids = EventIds { started_ms: 1_700_000_000_000 };
        assert_eq!(ids.parse(&ids.of(7)), Some(7));
        for id in ["", "7", "1700000000001-7", "1700000000000-x", "1700000000000-"] {
            assert_eq!(ids.parse(id), None, "{id}");
        }
    }
}
