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
use crate::scheduler::{InstanceScheduler, SchedulerError, SecretRenewal};

/// Where systemd shows a unit its credentials, as they were at its start.
const CREDENTIALS: &str = "/run/credentials";

/// Reason that is stored with an operator's pause.
const PAUSE_REASON: &str = "an operator paused it";

/// Note where a resume changes nothing. A changed secret is not read: the one in use works.
const NOT_PAUSED: &str = "it was not paused; a changed secret is read by a reload (SIGHUP, systemctl reload)";

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
    let note = match daemon.store.instance(scheduler.name()).await?.pause {
        Some(pause) if pause.kind == PauseKind::Credentials => renew_secret(scheduler).await?,
        Some(_) => None,
        None => Some(NOT_PAUSED.to_owned()),
    };
    daemon.store.resume(&name, None).await?;
    tracing::info!(instance = %name, "instance resumed by a client");
    Ok(Json(InstanceStatus { note, ..visible_status(&caller, &daemon, scheduler).await? }))
}

/// Reads the secret again that Marketo refused. Returns what to do where it is still the same.
///
/// It may be right by now, if it was changed on Marketo, so the instance resumes all the same.
async fn renew_secret(scheduler: &InstanceScheduler) -> Result<Option<String>, Problem> {
    let failed = |error: SchedulerError| Problem::plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let name = scheduler.name();
    let config = scheduler.config();
    let advice = match &config.client_secret_file {
        Some(path) if path.starts_with(CREDENTIALS) => {
            "change the unit's credential and restart the service, which reads its credentials at the start".to_owned()
        }
        Some(path) => format!("write the new one into {} and resume again", path.display()),
        None => format!("change instances.{name}.client_secret in the configuration and reload it"),
    };
    Ok(match scheduler.renew_secret().await.map_err(failed)? {
        SecretRenewal::Renewed => None,
        SecretRenewal::Same => Some(format!("the client secret is the one that Marketo refused: {advice}")),
        SecretRenewal::Unreadable(fault) => {
            Some(format!("the client secret that Marketo refused is still used: its file is {fault}"))
        }
    })
}

/// Returns the scheduler of an instance that this sender may use.
///
/// # Errors
/// 403 where the sender may not use it, 404 where it is not configured.
pub(super) fn find_scheduler<'a>(
    daemon: &'a AppState,
    caller: &Identity,
    name: &str,
) -> Result<&'a InstanceScheduler, Problem> {
    caller.check_instance(name)?;
    daemon.scheduler(name).ok_or_else(|| {
        let configured = daemon.schedulers.iter().map(InstanceScheduler::name).collect::<Vec<_>>().join(", ");
        let detail = format!("there is no instance \"{name}\" in the configuration: it has {configured}");
        Problem::plain(StatusCode::NOT_FOUND, detail)
    })
}
