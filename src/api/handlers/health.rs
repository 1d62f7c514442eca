//! Health: `/healthz` tells that the daemon answers, `/readyz` whether its store writes and its credentials work.
//!
//! One instance whose credentials are refused does not make the daemon unready: jobs of the others go on, and files are
//! taken in for all. It is unready where the store does not write, or no instance has credentials that work.
//!
//! Credentials that nobody has tried yet count as good: a token is only asked for when there is something to send, and
//! files are taken in safely without one. A daemon that has just started would otherwise never be given its first file.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Extensions, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::SharedState;
use crate::api::auth::identity;
use crate::api::dto::{ComponentHealth, Problem, Readiness};
use crate::api::problem::Query;
use crate::domain::instance::{Pause, PauseKind};
use crate::drop_folder::{DropReport, PartState};
use crate::http_server::Peer;
use crate::marketo::CredentialStatus;

/// It answers, so it lives.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// A refusal with what it is about beside it, as RFC 9457 allows.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NotReady<'a> {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    readiness: &'a Readiness,
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct ReadyQuery {
    /// Only this instance: 503 where its own credentials do not work.
    instance: Option<String>,
}

pub(crate) async fn readyz(
    State(daemon): State<SharedState>,
    extensions: Extensions,
    Query(ReadyQuery { instance }): Query<ReadyQuery>,
) -> Result<Response, Problem> {
    let instance = instance.filter(|name| !name.is_empty());
    // It needs no token, so over TCP anyone may ask: instances and reasons are for this machine.
    let on_socket = matches!(identity::peer(&extensions), Some(Peer::Socket { .. }));
    // Nothing is given away over TCP by this: that an instance is ready is to be seen there in any case.
    if let Some(name) = &instance
        && daemon.scheduler(name).is_none()
    {
        return Err(Problem::plain(StatusCode::NOT_FOUND, format!("there is no instance \"{name}\"")));
    }
    let mut credentials = BTreeMap::new();
    let mut paused = BTreeMap::new();
    let mut readable = Ok(());
    for lane in &daemon.schedulers {
        // What a plan looks at has to be readable, whichever instance is asked for.
        let looked = async { lane.snapshot(&lane.observe().await?).await };
        let pause = match looked.await {
            Ok(snapshot) => snapshot.instance.pause,
            Err(error) => {
                readable = Err(error);
                None
            }
        };
        if instance.as_ref().is_none_or(|name| name == lane.name()) {
            credentials.insert(
                lane.name().to_owned(),
                ComponentHealth::of_credentials(lane.credential_status(), pause.as_ref()),
            );
            paused.extend(pause.map(|pause| (lane.name().to_owned(), pause)));
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
    let ready = store.ok && credentials.values().any(|answers| answers.ok);
    let drop = daemon.drop.iter().flat_map(DropReport::states);
    let drop = drop.map(|(part, state)| (part, ComponentHealth::from(state))).collect();
    let mut readiness = Readiness { ready, store, credentials, drop, paused };
    let mut why = readiness.why_not();
    if !on_socket {
        readiness.credentials.clear();
        readiness.drop.clear();
        readiness.paused.clear();
        readiness.store.reason = None;
        why = "it is not ready; over the Unix socket it says why".to_owned();
    }
    if ready {
        return Ok(Json(readiness).into_response());
    }
    let problem = Problem::plain(StatusCode::SERVICE_UNAVAILABLE, why);
    let body = NotReady { problem, readiness: &readiness };
    let kind = [(CONTENT_TYPE, "application/problem+json")];
    Ok((StatusCode::SERVICE_UNAVAILABLE, kind, Json(body)).into_response())
}

impl Readiness {
    /// All that is wrong, in one sentence.
    fn why_not(&self) -> String {
        let reason = |answers: &ComponentHealth| answers.reason.clone().unwrap_or_default();
        let mut faults = Vec::new();
        if !self.store.ok {
            faults.push(format!("the store does not write: {}", reason(&self.store)));
        }
        for (name, answers) in self.credentials.iter().filter(|(_, answers)| !answers.ok) {
            faults.push(format!("instance {name}: {}", reason(answers)));
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
    /// What is known of an instance's credentials. Marketo may refuse them where its identity endpoint does not, so the
    /// pause that follows counts too.
    pub(crate) fn of_credentials(trial: CredentialStatus, pause: Option<&Pause>) -> ComponentHealth {
        let (ok, state, reason) = match trial {
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
