//! How does the daemon stand? Slots, queue and limits of each instance; pause and resume.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use crate::api::auth::identity::Identity;
use crate::api::dto::{DropStatus, IgnoredFile, InstanceStatus, Limits, Problem, Queue, Slots, Status};
use crate::api::problem::PathSegment;
use crate::api::{AppState, SharedState};
use crate::domain::BatchState;
use crate::domain::instance::PauseKind;
use crate::drop_folder::{DropReport, PartState};
use crate::scheduler::{InstanceScheduler, SchedulingRules};
use crate::store::StoreError;

/// Files left alone in the drop folder that are listed by name.
const MAX_LISTED: usize = 100;

pub(crate) async fn status(State(daemon): State<SharedState>, caller: Identity) -> Result<Json<Status>, Problem> {
    let mut instances = BTreeMap::new();
    for lane in daemon.schedulers.iter().filter(|lane| caller.may_use(lane.name())) {
        instances.insert(lane.name().to_owned(), seen_by(&caller, &daemon, lane).await?);
    }
    // The names in the drop folder and the address are not for clients that see only their own jobs.
    let is_local = matches!(caller, Identity::User { .. });
    let drop = daemon.drop.as_ref().filter(|_| is_local).map(of_drop_folder);
    let listen = daemon.listen.filter(|_| is_local).map(|address| address.to_string());
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        started_at: daemon.started_at,
        instances,
        listen,
        drop,
    }))
}

/// How the drop folder stands.
pub(crate) fn of_drop_folder(report: &DropReport) -> DropStatus {
    let left_alone = report.ignored_files();
    let fault = |(part, state)| match state {
        PartState::Fine => None,
        PartState::Failed(reason) | PartState::Stuck(reason) => Some((part, reason)),
    };
    DropStatus {
        left_alone: left_alone.len() as u64,
        files: left_alone
            .into_iter()
            .take(MAX_LISTED)
            .map(|(path, reason)| IgnoredFile { path: path.display().to_string(), reason })
            .collect(),
        faults: report.states().into_iter().filter_map(fault).collect(),
    }
}

/// What this caller may know: of the jobs only its own.
async fn seen_by(caller: &Identity, daemon: &AppState, lane: &InstanceScheduler) -> Result<InstanceStatus, StoreError> {
    let mut status = of_lane(daemon, lane).await?;
    if let Identity::Client(client) = caller {
        status.queue.given_up = daemon.store.find_exhausted_jobs(lane.name(), Some(&client.id)).await?;
        for id in std::mem::take(&mut status.queue.held) {
            if caller.owns(&daemon.store.job(id).await?) {
                status.queue.held.push(id);
            }
        }
    }
    Ok(status)
}

/// How an instance stands, with the jobs of all.
pub(crate) async fn of_lane(daemon: &AppState, lane: &InstanceScheduler) -> Result<InstanceStatus, StoreError> {
    let clock = lane.observe().await?;
    let now = clock.now();
    let snapshot = lane.snapshot(&clock).await?;
    let depth = daemon.store.queue_depth(lane.name()).await?;
    let config = lane.config();
    let limits = &config.limits;
    let today = lane.calls_today(&clock).await?;
    let count = |state| {
        let flights = snapshot.in_flight.iter().filter(|flight| flight.state == state);
        u32::try_from(flights.count()).unwrap_or(u32::MAX)
    };
    let of_jobs = snapshot.in_flight.iter().filter(|flight| flight.state == BatchState::Held || flight.is_overdue);
    let mut held: Vec<_> = of_jobs.map(|flight| flight.key.job).collect();
    held.dedup();
    Ok(InstanceStatus {
        quiet_until: snapshot.instance.backoff_until.filter(|&until| until > now),
        slots: Slots {
            uploading: count(BatchState::Uploading),
            queued: count(BatchState::Queued),
            importing: count(BatchState::Importing),
            unknown: u32::try_from(snapshot.unconfirmed_until.len()).unwrap_or(u32::MAX),
            limit: SchedulingRules::from_instance(&lane.config()).max_in_flight,
            learnt: snapshot.instance.observed_slot_limit,
        },
        queue: Queue {
            pending_jobs: depth.pending_jobs,
            pending_batches: depth.pending_batches,
            running_jobs: depth.running_jobs,
            collecting: count(BatchState::Collecting),
            held,
            given_up: daemon.store.find_exhausted_jobs(lane.name(), None).await?,
            oldest_pending_at: depth.oldest_pending_at,
        },
        limits: Limits {
            calls_used: lane.calls_used(),
            calls: limits.calls,
            window: limits.window.as_secs_f64(),
            concurrent_calls: limits.concurrent_calls,
            calls_today: today,
            daily_calls: limits.daily_calls,
        },
        pause: snapshot.instance.pause,
    })
}

pub(crate) async fn pause(
    State(daemon): State<SharedState>,
    caller: Identity,
    PathSegment(name): PathSegment,
) -> Result<Json<InstanceStatus>, Problem> {
    let lane = known(&daemon, &caller, &name)?;
    let reason = "a person asked for it";
    daemon.store.pause(&name, PauseKind::Operator, reason, None, daemon.clock.now()).await?;
    tracing::info!(instance = %name, "paused by a client");
    Ok(Json(seen_by(&caller, &daemon, lane).await?))
}

pub(crate) async fn resume(
    State(daemon): State<SharedState>,
    caller: Identity,
    PathSegment(name): PathSegment,
) -> Result<Json<InstanceStatus>, Problem> {
    let lane = known(&daemon, &caller, &name)?;
    daemon.store.resume(&name, None).await?;
    tracing::info!(instance = %name, "resumed by a client");
    Ok(Json(seen_by(&caller, &daemon, lane).await?))
}

fn known<'a>(daemon: &'a AppState, caller: &Identity, name: &str) -> Result<&'a InstanceScheduler, Problem> {
    caller.check_instance(name)?;
    daemon.scheduler(name).ok_or_else(|| {
        let known = daemon.schedulers.iter().map(InstanceScheduler::name).collect::<Vec<_>>().join(", ");
        let detail = format!("there is no instance \"{name}\" in the configuration: it has {known}");
        Problem::plain(StatusCode::NOT_FOUND, detail)
    })
}
