//! `GET /v1/status`: slots, queue and limits of each instance, and the drop folder's ignored files.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;

use crate::api::auth::identity::Identity;
use crate::api::dto::{
    DropStatus, IgnoredFile, InstanceStatus, Limits, PauseDto, Problem, Queue, Slots, Status, WaitingDto,
};
use crate::api::state::{AppState, SharedState};
use crate::domain::{BatchState, JobId};
use crate::drop_folder::{DropReport, PartState};
use crate::scheduler::explain::ExplainedJob;
use crate::scheduler::{InstanceScheduler, SchedulingRules};
use crate::store::{Job, QueueOutlook, QueuedBatch, StatusRows, StoreError};

/// Ignored files of the drop folder that are listed by name.
const MAX_LISTED: usize = 100;

/// Handles `GET /v1/status`.
pub(crate) async fn status(State(daemon): State<SharedState>, caller: Identity) -> Result<Json<Status>, Problem> {
    let visible = daemon.schedulers.iter().filter(|scheduler| caller.may_use(scheduler.name())).collect::<Vec<_>>();
    let names = visible.iter().map(|scheduler| scheduler.name().to_owned());
    let instances = names.zip(visible_statuses(&caller, &daemon, &visible).await?).collect();
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
    let invalid_options = report.folders_with_invalid_options().into_iter().map(|folder| {
        let folder = if folder.as_os_str().is_empty() { ".".to_owned() } else { folder.display().to_string() };
        (folder, "its job.toml is not valid: see job.toml.reason.txt there".to_owned())
    });
    DropStatus {
        left_alone: ignored.len() as u64,
        files: ignored
            .into_iter()
            .take(MAX_LISTED)
            .map(|(path, reason)| IgnoredFile { path: path.display().to_string(), reason })
            .collect(),
        // Where a folder has both faults, that of its scan replaces that of its job.toml.
        faults: invalid_options.chain(report.states().into_iter().filter_map(fault)).collect(),
    }
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
    let mut statuses = visible_statuses(caller, daemon, &[scheduler]).await?;
    Ok(statuses.remove(0))
}

/// Returns the status of each of these instances, in their order, as this sender may see it.
async fn visible_statuses(
    caller: &Identity,
    daemon: &AppState,
    schedulers: &[&InstanceScheduler],
) -> Result<Vec<InstanceStatus>, StoreError> {
    let mut statuses = instance_statuses(daemon, schedulers).await?;
    if let Identity::Client(client) = caller {
        for (scheduler, status) in schedulers.iter().zip(&mut statuses) {
            // It may name jobs and groups of others.
            status.queue.waiting = None;
            status.queue.given_up = daemon.store.find_exhausted_jobs(scheduler.name(), Some(&client.id)).await?.into();
            let held = daemon.store.jobs_by_id(&std::mem::take(&mut status.queue.held)).await?;
            status.queue.held = held.iter().filter(|job| caller.owns(job)).map(|job| job.id).collect();
        }
    }
    Ok(statuses)
}

/// Returns the status of each of these instances, in their order, with the jobs of all clients.
///
/// # Errors
/// [`StoreError`] where the database can't be read.
pub(crate) async fn instance_statuses(
    daemon: &AppState,
    schedulers: &[&InstanceScheduler],
) -> Result<Vec<InstanceStatus>, StoreError> {
    let clock = daemon.store.observe_clock(&daemon.clock).await?;
    let rows = InstanceScheduler::status_rows(&daemon.store, schedulers, &clock).await?;
    let next = rows.iter().filter_map(|rows| next_queued(&rows.outlook, clock.now())).map(|next| next.key.job);
    let next = daemon.store.jobs_by_id(&next.collect::<Vec<_>>()).await?;
    let next = next.into_iter().map(|job| (job.id, job)).collect();
    Ok(schedulers.iter().zip(rows).map(|(scheduler, rows)| status_of(scheduler, rows, &next, clock.now())).collect())
}

/// Returns the status that these rows give. `next` has the job of each pending batch that is next.
fn status_of(
    scheduler: &InstanceScheduler,
    rows: StatusRows,
    next: &HashMap<JobId, Job>,
    now: Timestamp,
) -> InstanceStatus {
    let StatusRows { outlook, depth, calls_today, exhausted } = rows;
    let snapshot = &outlook.snapshot;
    let config = scheduler.config();
    let limits = &config.limits;
    let count = |state| {
        let batches = snapshot.in_flight.iter().filter(|batch| batch.state == state);
        u32::try_from(batches.count()).unwrap_or(u32::MAX)
    };
    let waiting = next_queued(&outlook, now).and_then(|batch| {
        // A job that ended meanwhile may have been erased.
        let job = next.get(&batch.key.job)?;
        let rules = SchedulingRules::from_instance(&config);
        let next_call_at = scheduler.next_call_at(now);
        let ahead = batch.group_head.filter(|&head| head < job.id);
        let explained = ExplainedJob { job, ahead, outlook: &outlook, rules: &rules, next_call_at, now };
        explained.pending_waiting(batch.key.part).map(WaitingDto::from)
    });
    let needs_decision = snapshot.in_flight.iter().filter(|batch| batch.state == BatchState::Held || batch.is_overdue);
    let mut held: Vec<_> = needs_decision.map(|batch| batch.key.job).collect();
    held.dedup();
    InstanceStatus {
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
    }
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
