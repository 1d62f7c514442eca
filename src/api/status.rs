//! How does the daemon stand? Slots, queue and limits of each instance; pause and resume; health.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::problem::Segment;
use super::types::{InstanceStatus, Limits, Problem, Queue, Slots, Status};
use super::{Daemon, Shared};
use crate::job::BatchState;
use crate::schedule::{Lane, Rules, day_of};
use crate::store::{PauseKind, StoreError};

pub(super) async fn status(State(daemon): State<Shared>) -> Result<Json<Status>, Problem> {
    let mut instances = BTreeMap::new();
    for lane in &daemon.lanes {
        instances.insert(lane.name().to_owned(), of_lane(&daemon, lane).await?);
    }
    Ok(Json(Status { version: env!("CARGO_PKG_VERSION").into(), started_at: daemon.started_at, instances }))
}

async fn of_lane(daemon: &Daemon, lane: &Lane) -> Result<InstanceStatus, StoreError> {
    let now = daemon.clock.now();
    let snapshot = lane.snapshot(now).await?;
    let depth = daemon.store.depth(lane.name()).await?;
    let limits = &lane.config().limits;
    let usage = daemon.store.usage(lane.name(), day_of(now, limits.daily_reset)).await?;
    let count = |state| {
        let flights = snapshot.flights.iter().filter(|flight| flight.state == state);
        u32::try_from(flights.count()).unwrap_or(u32::MAX)
    };
    let mut held: Vec<_> = snapshot.flights.iter().filter(|flight| flight.state == BatchState::Held).collect();
    held.dedup_by_key(|flight| flight.key.job);
    Ok(InstanceStatus {
        quiet_until: snapshot.instance.quiet_until.filter(|&until| until > now),
        slots: Slots {
            uploading: count(BatchState::Uploading),
            queued: count(BatchState::Queued),
            importing: count(BatchState::Importing),
            unknown: u32::try_from(snapshot.ghosts.len()).unwrap_or(u32::MAX),
            limit: Rules::of(lane.config()).in_flight,
            learnt: snapshot.instance.slots,
        },
        queue: Queue {
            pending_jobs: depth.pending_jobs,
            pending_batches: depth.pending_batches,
            running_jobs: depth.running_jobs,
            collecting: count(BatchState::Collecting),
            held: held.into_iter().map(|flight| flight.key.job).collect(),
            oldest_pending_at: depth.oldest_pending_at,
        },
        limits: Limits {
            calls_used: lane.calls_used(),
            calls: limits.calls,
            window: limits.window.as_secs_f64(),
            concurrent_calls: limits.concurrent_calls,
            calls_today: usage.today,
            daily_calls: limits.daily_calls,
        },
        pause: snapshot.instance.pause,
    })
}

pub(super) async fn pause(
    State(daemon): State<Shared>,
    Segment(name): Segment,
) -> Result<Json<InstanceStatus>, Problem> {
    let lane = known(&daemon, &name)?;
    let reason = "a person asked for it";
    daemon.store.pause(&name, PauseKind::Person, reason, None, daemon.clock.now()).await?;
    tracing::info!(instance = %name, "paused by a client");
    Ok(Json(of_lane(&daemon, lane).await?))
}

pub(super) async fn resume(
    State(daemon): State<Shared>,
    Segment(name): Segment,
) -> Result<Json<InstanceStatus>, Problem> {
    let lane = known(&daemon, &name)?;
    daemon.store.resume(&name, None).await?;
    tracing::info!(instance = %name, "resumed by a client");
    Ok(Json(of_lane(&daemon, lane).await?))
}

fn known<'a>(daemon: &'a Daemon, name: &str) -> Result<&'a Lane, Problem> {
    daemon.lane(name).ok_or_else(|| {
        let known = daemon.lanes.iter().map(Lane::name).collect::<Vec<_>>().join(", ");
        let detail = format!("there is no instance \"{name}\" in the configuration: it has {known}");
        Problem::plain(StatusCode::NOT_FOUND, detail)
    })
}

/// It answers, so it lives.
pub(super) async fn lives() -> &'static str {
    "ok\n"
}

/// It can take files in: the store writes, and what a plan looks at can be read.
pub(super) async fn ready(State(daemon): State<Shared>) -> Result<&'static str, Problem> {
    let looked = async {
        for lane in &daemon.lanes {
            lane.snapshot(daemon.clock.now()).await?;
        }
        daemon.store.can_write().await
    };
    match looked.await {
        Ok(()) => Ok("ok\n"),
        Err(error) => Err(Problem::plain(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
    }
}
