//! `GET /v1/status`: slots, queue and limits of each instance, and the drop folder's ignored files.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use crate::api::auth::identity::Identity;
use crate::api::dto::{
    DropStatus, IgnoredFile, InstanceStatus, Limits, PauseDto, Problem, Queue, Slots, Status, WaitingDto,
};
use crate::api::state::{AppState, SharedState};
use crate::domain::BatchState;
use crate::drop_folder::{DropReport, PartState};
use crate::scheduler::explain::ExplainedJob;
use crate::scheduler::{InstanceScheduler, SchedulingRules};
use crate::store::{QueueOutlook, QueuedBatch, StatusRows, StoreError};

/// Ignored files of the drop folder that are listed by name.
const MAX_LISTED: usize = 100;

/// How many instances are read at a time. As many as the store has read connections would keep other requests waiting.
pub(super) const STATUS_READERS: usize = 2;

/// Handles `GET /v1/status`.
pub(crate) async fn status(State(daemon): State<SharedState>, caller: Identity) -> Result<Json<Status>, Problem> {
    let mut reads = Vec::with_capacity(daemon.schedulers.len());
    for scheduler in &daemon.schedulers {
        if caller.may_use(scheduler.name()) {
            reads.push(named_status(&caller, &daemon, scheduler));
        }
    }
    let instances = stream::iter(reads).buffer_unordered(STATUS_READERS).try_collect::<BTreeMap<_, _>>().await?;
    // File names and the address are not shown to clients, who see only their own jobs.
    let is_local = matches!(caller, Identity::User { .. });
    let drop = daemon.drop.as_ref().filter(|_| is_local).map(drop_status);
    let listen = daemon.listen.filter(|_| is_local).map(|address| address.to_string());
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        started_at: daemon.started_at,
        instances,
        listen,
        drop,
    }))
}

/// Returns the status of the drop folder.
pub(crate) fn drop_status(report: &DropReport) -> DropStatus {
    let ignored = report.ignored_files();
    let fault = |(part, state)| match state {
        PartState::Fine => None,
        PartState::Failed(reason) | PartState::Stuck(reason) => Some((part, reason)),
    };
    DropStatus {
        left_alone: ignored.len() as u64,
        files: ignored
            .into_iter()
            .take(MAX_LISTED)
            .map(|(path, reason)| IgnoredFile { path: path.display().to_string(), reason })
            .collect(),
        faults: report.states().into_iter().filter_map(fault).collect(),
    }
}

async fn named_status(
    caller: &Identity,
    daemon: &AppState,
    scheduler: &InstanceScheduler,
) -> Result<(String, InstanceStatus), StoreError> {
    Ok((scheduler.name().to_owned(), visible_status(caller, daemon, scheduler).await?))
}

/// Returns the status of an instance as this sender may see it: a client's has only its own jobs.
///
/// # Errors
/// [`StoreError`] where the database can't be read.
pub(super) async fn visible_status(
    caller: &Identity,
    daemon: &AppState,
    scheduler: &InstanceScheduler,
) -> Result<InstanceStatus, StoreError> {
    let mut status = instance_status(daemon, scheduler).await?;
    if let Identity::Client(client) = caller {
        // It may name jobs and groups of others.
        status.queue.waiting = None;
        status.queue.given_up = daemon.store.find_exhausted_jobs(scheduler.name(), Some(&client.id)).await?.into();
        for id in std::mem::take(&mut status.queue.held) {
            if caller.owns(&daemon.store.job(id).await?) {
                status.queue.held.push(id);
            }
        }
    }
    Ok(status)
}

/// Returns the status of an instance, with the jobs of all clients.
///
/// # Errors
/// [`StoreError`] where the database can't be read.
pub(crate) async fn instance_status(
    daemon: &AppState,
    scheduler: &InstanceScheduler,
) -> Result<InstanceStatus, StoreError> {
    let clock = scheduler.observe().await?;
    let now = clock.now();
    let StatusRows { outlook, depth, calls_today, exhausted } = scheduler.status_rows(&clock).await?;
    let snapshot = &outlook.snapshot;
    let config = scheduler.config();
    let limits = &config.limits;
    let count = |state| {
        let batches = snapshot.in_flight.iter().filter(|batch| batch.state == state);
        u32::try_from(batches.count()).unwrap_or(u32::MAX)
    };
    let waiting = match next_queued(&outlook, now) {
        Some(next) => {
            let job = daemon.store.job(next.key.job).await?;
            let rules = SchedulingRules::from_instance(&config);
            let next_call_at = scheduler.next_call_at(now);
            let ahead = next.group_head.filter(|&head| head < job.id);
            let explained = ExplainedJob { job: &job, ahead, outlook: &outlook, rules: &rules, next_call_at, now };
            explained.waiting().map(WaitingDto::from)
        }
        None => None,
    };
    let needs_decision = snapshot.in_flight.iter().filter(|batch| batch.state == BatchState::Held || batch.is_overdue);
    let mut held: Vec<_> = needs_decision.map(|batch| batch.key.job).collect();
    held.dedup();
    Ok(InstanceStatus {
        quiet_until: snapshot.instance.backoff_until.filter(|&until| until > now),
        slots: Slots {
            uploading: count(BatchState::Uploading),
            queued: count(BatchState::Queued),
            importing: count(BatchState::Importing),
            unknown: u32::try_from(snapshot.unconfirmed_until.len()).unwrap_or(u32::MAX),
            limit: SchedulingRules::from_instance(&config).max_in_flight,
            learnt: snapshot.instance.observed_slot_limit,
        },
        queue: Queue {
            pending_jobs: depth.pending_jobs,
            pending_batches: depth.pending_batches,
            running_jobs: depth.running_jobs,
            collecting: count(BatchState::Collecting),
            held,
            given_up: exhausted.into(),
            oldest_pending_at: depth.oldest_pending_at,
            waiting,
        },
        limits: Limits {
            calls_used: scheduler.calls_used(),
            calls: limits.calls,
            window: limits.window.as_secs_f64(),
            concurrent_calls: limits.concurrent_calls,
            calls_today,
            daily_calls: limits.daily_calls,
        },
        pause: snapshot.instance.pause.clone().map(PauseDto::from),
        note: None,
    })
}

/// Returns the pending batch that is next by priority and age: of those that wait neither for a time nor for their
/// group, or else the first.
fn next_queued(outlook: &QueueOutlook, now: Timestamp) -> Option<&QueuedBatch> {
    let may_be_next = |batch: &&QueuedBatch| {
        batch.not_before.is_none_or(|not_before| not_before <= now)
            && batch.group_head.is_none_or(|head| head >= batch.key.job)
    };
    outlook.queued.iter().find(may_be_next).or(outlook.queued.first())
}
