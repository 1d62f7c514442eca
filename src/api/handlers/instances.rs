//! `POST /v1/instances/{name}/pause` and `/resume`: stop and restart the uploads of an instance.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use crate::api::auth::identity::Identity;
use crate::api::dto::{InstanceStatus, Problem};
use crate::api::handlers::status::visible_status;
use crate::api::problem::PathSegment;
use crate::api::state::{AppState, SharedState};
use crate::domain::instance::{Pause, PauseKind};
use crate::scheduler::InstanceScheduler;

/// Reason that is stored with an operator's pause.
const PAUSE_REASON: &str = "an operator paused it";

/// Handles `POST /v1/instances/{name}/pause`.
pub(crate) async fn pause(
    State(daemon): State<SharedState>,
    caller: Identity,
    PathSegment(name): PathSegment,
) -> Result<Json<InstanceStatus>, Problem> {
    let scheduler = find_scheduler(&daemon, &caller, &name)?;
    let (reason, at) = (PAUSE_REASON.to_owned(), daemon.clock.now());
    daemon.store.pause(&name, Pause { kind: PauseKind::Operator, reason, at, until: None }).await?;
    tracing::info!(instance = %name, "instance paused by a client");
    Ok(Json(visible_status(&caller, &daemon, scheduler).await?))
}

/// Handles `POST /v1/instances/{name}/resume`.
pub(crate) async fn resume(
    State(daemon): State<SharedState>,
    caller: Identity,
    PathSegment(name): PathSegment,
) -> Result<Json<InstanceStatus>, Problem> {
    let scheduler = find_scheduler(&daemon, &caller, &name)?;
    daemon.store.resume(&name, None).await?;
    tracing::info!(instance = %name, "instance resumed by a client");
    Ok(Json(visible_status(&caller, &daemon, scheduler).await?))
}

/// Returns the scheduler of an instance that this sender may use.
///
/// # Errors
/// 403 where the sender may not use it, 404 where it is not configured.
fn find_scheduler<'a>(daemon: &'a AppState, caller: &Identity, name: &str) -> Result<&'a InstanceScheduler, Problem> {
    caller.check_instance(name)?;
    daemon.scheduler(name).ok_or_else(|| {
        let configured = daemon.schedulers.iter().map(InstanceScheduler::name).collect::<Vec<_>>().join(", ");
        let detail = format!("there is no instance \"{name}\" in the configuration: it has {configured}");
        Problem::plain(StatusCode::NOT_FOUND, detail)
    })
}
