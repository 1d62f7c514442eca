//! `GET /v1/instances/{name}/queue`: what occupies an instance's slots, and the jobs behind them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::auth::identity::Identity;
use crate::api::dto::{
    InstanceQueue, PendingJobDto, Problem, QueuedJobDto, SlotDto, SlotImportDto, SlotState, WaitingDto,
};
use crate::api::handlers::instances::find_scheduler;
use crate::api::instance_rows::InstanceRows;
use crate::api::problem::{PathSegment, Query};
use crate::api::state::{AppState, SharedState};
use crate::domain::{BatchKey, BatchState, JobId};
use crate::store::{Batch, InFlightBatch, Job, StoreError};

const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 200;

/// Parameters of the query.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueQuery {
    /// The most pending jobs, from 0 to 200; default 20.
    limit: Option<usize>,
}

/// Handles `GET /v1/instances/{name}/queue`.
pub(crate) async fn queue(
    State(daemon): State<SharedState>,
    caller: Identity,
    PathSegment(name): PathSegment,
    Query(QueueQuery { limit }): Query<QueueQuery>,
) -> Result<Json<InstanceQueue>, Problem> {
    let scheduler = find_scheduler(&daemon, &caller, &name)?;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if limit > MAX_LIMIT {
        return Err(Problem::bad_request(format!("limit is {limit}, and at most {MAX_LIMIT} jobs can be listed")));
    }
    let rows = InstanceRows::read_queue(scheduler).await?;
    let view = QueueView { daemon: &daemon, caller: &caller, rows: &rows };
    let order = rows.upload_order();
    let has_more = rows.outlook.has_more || order.len() > limit;
    Ok(Json(InstanceQueue {
        limit: rows.rules.max_in_flight,
        importing_limit: rows.rules.max_importing(),
        slots: view.slots().await?,
        queue: view.queue(order.into_iter().take(limit)).await?,
        has_more,
        instance: name,
    }))
}

/// The rows of an instance, and who looks at them.
struct QueueView<'a> {
    daemon: &'a AppState,
    caller: &'a Identity,
    rows: &'a InstanceRows,
}

impl QueueView<'_> {
    /// Returns the occupied slots.
    async fn slots(&self) -> Result<Vec<SlotDto>, StoreError> {
        let snapshot = &self.rows.outlook.snapshot;
        let mut jobs = HashMap::new();
        let mut slots = Vec::new();
        for flight in &snapshot.in_flight {
            let Some(state) = slot_state(flight) else { continue };
            let job = self.job(flight.key.job, &mut jobs).await?;
            slots.push(SlotDto {
                state,
                import: job.map(|job| slot_import(flight, job)),
                since: match state {
                    SlotState::Importing => flight.importing_at,
                    _ => flight.accepted_at,
                },
                estimated_end: self.rows.forecast.import_end(flight.key),
            });
        }
        let without_import = |state, count| {
            std::iter::repeat_n(SlotDto { state, import: None, since: None, estimated_end: None }, count)
        };
        slots.extend(without_import(SlotState::Unknown, snapshot.unconfirmed_until.len()));
        slots.extend(without_import(SlotState::OtherInstance, snapshot.in_flight_elsewhere as usize));
        if let Some(observed) = snapshot.instance.observed_slot_limit {
            let others = self.rows.rules.max_in_flight.saturating_sub(observed) as usize;
            slots.extend(without_import(SlotState::OtherIntegration, others));
        }
        slots.sort_by_key(|slot| (slot.state, slot.estimated_end.is_none(), slot.estimated_end));
        Ok(slots)
    }

    /// Returns places in the queue.
    async fn queue(&self, jobs: impl Iterator<Item = JobId>) -> Result<Vec<QueuedJobDto>, StoreError> {
        let mut queue = Vec::new();
        for id in jobs {
            let job = self.daemon.store.job(id).await?;
            let pending = job.batches.iter().filter(|batch| batch.state == BatchState::Pending);
            let uploads = pending.filter_map(|batch| self.rows.forecast.upload(BatchKey { job: id, part: batch.part }));
            let estimated_start = uploads.min();
            let job = self.caller.owns(&job).then(|| self.pending_job(job));
            queue.push(QueuedJobDto { job, estimated_start });
        }
        Ok(queue)
    }

    fn pending_job(&self, job: Job) -> PendingJobDto {
        let pending = || job.batches.iter().filter(|batch| batch.state == BatchState::Pending);
        let upload = |batch: &&Batch| self.rows.forecast.upload(BatchKey { job: job.id, part: batch.part });
        let next = pending().min_by_key(|batch| upload(batch).unwrap_or(Timestamp::MAX));
        PendingJobDto {
            id: job.id,
            rows: pending().map(|batch| batch.rows.total).sum(),
            pending_batches: u32::try_from(pending().count()).unwrap_or(u32::MAX),
            priority: job.priority,
            waiting: next.and_then(|next| self.rows.explained(&job).pending_waiting(next.part)).map(WaitingDto::from),
            estimated_end: self.rows.forecast.estimate(&job).end,
            filename: job.filename,
            target: job.target,
            group: job.group,
        }
    }

    /// Returns a job, unless it is another client's. A job is read once.
    async fn job<'j>(
        &self,
        id: JobId,
        jobs: &'j mut HashMap<JobId, Option<Job>>,
    ) -> Result<Option<&'j Job>, StoreError> {
        Ok(match jobs.entry(id) {
            Entry::Occupied(read) => read.into_mut().as_ref(),
            Entry::Vacant(vacant) => {
                let job = self.daemon.store.job(id).await?;
                vacant.insert(Some(job).filter(|job| self.caller.owns(job))).as_ref()
            }
        })
    }
}

/// Returns what a batch in flight does in its slot; none where it has no slot any more.
fn slot_state(flight: &InFlightBatch) -> Option<SlotState> {
    match flight.state {
        BatchState::Importing => Some(SlotState::Importing),
        BatchState::Queued => Some(SlotState::Queued),
        BatchState::Uploading => Some(SlotState::Uploading),
        _ => None,
    }
}

fn slot_import(flight: &InFlightBatch, job: &Job) -> SlotImportDto {
    let batch = job.batches.iter().find(|batch| batch.part == flight.key.part);
    SlotImportDto {
        job: job.id,
        part: flight.key.part,
        parts: u32::try_from(job.batches.len()).unwrap_or(u32::MAX),
        shared_with: batch.map_or(0, |batch| batch.shared_with),
        filename: job.filename.clone(),
        target: job.target.clone(),
        rows: flight.rows,
        is_overdue: flight.is_overdue,
    }
}
