//! `GET /v1/events`: what is changing? Server-sent events, each with the thing as it is now.

use std::convert::Infallible;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Shared;
use super::caller::Caller;
use super::types::EventData;
use crate::job::JobId;
use crate::store::Change;

pub(super) async fn events(
    State(daemon): State<Shared>,
    caller: Caller,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let stop = daemon.stop.clone();
    let changes = daemon.store.subscribe();
    let events = stream::unfold((daemon, caller, changes), next);
    Sse::new(events.take_until(stop.cancelled_owned())).keep_alive(KeepAlive::default())
}

type Listener = (Shared, Caller, Receiver<Change>);

async fn next((daemon, caller, mut changes): Listener) -> Option<(Result<Event, Infallible>, Listener)> {
    loop {
        let data = match changes.recv().await {
            Ok(Change::Job(id)) => job(&daemon, &caller, id, None).await,
            Ok(Change::Batch(key)) => job(&daemon, &caller, key.job, Some(key.part)).await,
            Ok(Change::Fact(_)) => None,
            Ok(Change::Instance(name)) => caller.may_use(&name).then_some(EventData::Instance { name }),
            Err(RecvError::Lagged(count)) => Some(EventData::Missed { count }),
            Err(RecvError::Closed) => return None,
        };
        let Some(data) = data else { continue };
        let name = match data {
            EventData::Job { .. } => "job",
            EventData::Instance { .. } => "instance",
            EventData::Missed { .. } => "missed",
        };
        // Plain data of our own always becomes JSON; if it did not, there would be no event to send.
        let Ok(event) = Event::default().event(name).json_data(&data) else { continue };
        return Some((Ok(event), (daemon, caller, changes)));
    }
}

/// The job as it is now. One that is gone by now is no news, nor is one that is not the listener's.
async fn job(daemon: &Shared, caller: &Caller, id: JobId, part: Option<u32>) -> Option<EventData> {
    match daemon.store.job(id).await {
        Ok(job) if caller.owns(&job) => Some(EventData::Job { job: Box::new(job), part }),
        _ => None,
    }
}
