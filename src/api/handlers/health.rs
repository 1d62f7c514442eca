//! `/healthz`: the daemon answers. `/readyz`: the database can be written and Marketo accepts the credentials.
//!
//! The daemon is not ready where the database can't be written, or no instance has working credentials. One instance
//! with refused credentials is not enough: jobs of the others go on, and files are accepted for all.
//!
//! Untried credentials count as working. A token is only requested when there is something to upload, and files are
//! accepted without one. Otherwise a load balancer would never send a file to a daemon that has just started.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Extensions, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::auth::identity;
use crate::api::dto::{ComponentHealth, NotReady, PauseDto, Problem, Readiness};
use crate::api::problem::Query;
use crate::api::state::SharedState;
use crate::domain::instance::PauseKind;
use crate::drop_folder::{DropReport, PartState};
use crate::http_server::Peer;
use crate::marketo::CredentialStatus;

/// Handles `GET /healthz`.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct ReadyQuery {
    /// Only this instance: 503 where Marketo refuses its credentials.
    instance: Option<String>,
}

/// Handles `GET /readyz`.
pub(crate) async fn readyz(
    State(daemon): State<SharedState>,
    extensions: Extensions,
    Query(ReadyQuery { instance }): Query<ReadyQuery>,
) -> Result<Response, Problem> {
    let instance = instance.filter(|name| !name.is_empty());
    // The route needs no token, so over TCP anyone may call it. Instances and reasons are sent over the socket only.
    let on_socket = matches!(identity::peer(&extensions), Some(Peer::Socket { .. }));
    // This reveals no more than the status of a known instance does.
    if let Some(name) = &instance
        && daemon.scheduler(name).is_none()
    {
        return Err(Problem::plain(StatusCode::NOT_FOUND, format!("there is no instance \"{name}\"")));
    }
    let mut credentials = BTreeMap::new();
    let mut paused = BTreeMap::new();
    let mut readable = Ok(());
    for scheduler in &daemon.schedulers {
        // The rows that a scheduler reads have to be readable, whichever instance is asked for.
        let read = async { scheduler.snapshot(&scheduler.observe().await?).await };
        let pause = match read.await {
            Ok(snapshot) => snapshot.instance.pause.map(PauseDto::from),
            Err(error) => {
                readable = Err(error);
                None
            }
        };
        if instance.as_ref().is_none_or(|name| name == scheduler.name()) {
            credentials.insert(
                scheduler.name().to_owned(),
                ComponentHealth::of_credentials(scheduler.credential_status(), pause.as_ref()),
            );
            paused.extend(pause.map(|pause| (scheduler.name().to_owned(), pause)));
        }
    }
    let written = match readable {
        Ok(()) => daemon.store.can_write().await,
        Err(error) => Err(error),
    };
    let store = match written {
        Ok(()) => ComponentHealth { ok: true, state: "writes".to_owned(), reason: None },
        Err(error) => {
            ComponentHealth { ok: false, state: "does not write".to_owned(), reason: Some(error.to_string()) }
        }
    };
    let ready = store.ok && credentials.values().any(|health| health.ok);
    let drop = daemon.drop.iter().flat_map(DropReport::states);
    let drop = drop.map(|(part, state)| (part, ComponentHealth::from(state))).collect();
    let mut readiness = Readiness { ready, store, credentials, drop, paused };
    let mut detail = readiness.describe_faults();
    if !on_socket {
        readiness.credentials.clear();
        readiness.drop.clear();
        readiness.paused.clear();
        readiness.store.reason = None;
        detail = "the daemon is not ready: ask over the Unix socket for the reason".to_owned();
    }
    if ready {
        return Ok(Json(readiness).into_response());
    }
    let problem = Problem::plain(StatusCode::SERVICE_UNAVAILABLE, detail);
    let body = NotReady { problem, readiness };
    let kind = [(CONTENT_TYPE, "application/problem+json")];
    Ok((StatusCode::SERVICE_UNAVAILABLE, kind, Json(body)).into_response())
}

impl Readiness {
    /// Describes all faults in one sentence.
    fn describe_faults(&self) -> String {
        let reason = |health: &ComponentHealth| health.reason.clone().unwrap_or_default();
        let mut faults = Vec::new();
        if !self.store.ok {
            faults.push(format!("the database can't be written: {}", reason(&self.store)));
        }
        for (name, health) in self.credentials.iter().filter(|(_, health)| !health.ok) {
            faults.push(format!("instance {name}: {}", reason(health)));
        }
        faults.join("; ")
    }
}

impl From<PartState> for ComponentHealth {
    fn from(state: PartState) -> ComponentHealth {
        let (ok, state, reason) = match state {
            PartState::Fine => (true, "fine", None),
            PartState::Failed(reason) => (false, "failed", Some(reason)),
            PartState::Stuck(reason) => (false, "stuck", Some(reason)),
        };
        ComponentHealth { ok, state: state.to_owned(), reason }
    }
}

impl ComponentHealth {
    /// Makes the health of an instance's credentials. Marketo's API may refuse them (603) where its identity endpoint
    /// does not, so a pause for them counts too.
    pub(crate) fn of_credentials(status: CredentialStatus, pause: Option<&PauseDto>) -> ComponentHealth {
        let (ok, state, reason) = match status {
            _ if pause.is_some_and(|pause| pause.kind == PauseKind::Credentials) => {
                (false, "refused", pause.map(|pause| pause.reason.clone()))
            }
            CredentialStatus::Untried => (true, "untried", None),
            CredentialStatus::Worked => (true, "worked", None),
            CredentialStatus::Refused(reason) => (false, "refused", Some(reason)),
            CredentialStatus::Unreachable(reason) => (false, "unreachable", Some(reason)),
        };
        ComponentHealth { ok, state: state.to_owned(), reason }
    }
}
