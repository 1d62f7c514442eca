//! Does it live, and is it ready? Ready is a daemon whose store writes and whose credentials work.
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
use serde::Serialize;

use super::caller::{self, Peer};
use super::types::{Answers, Problem, Readiness};
use super::{Daemon, Shared};
use crate::intake::{DropReport, PartState};
use crate::marketo::Trial;
use crate::store::StoreError;

/// It answers, so it lives.
pub(super) async fn lives() -> &'static str {
    "ok\n"
}

/// A refusal with what it is about beside it, as RFC 9457 allows.
#[derive(Serialize, JsonSchema)]
pub(super) struct NotReady<'a> {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    readiness: &'a Readiness,
}

pub(super) async fn ready(State(daemon): State<Shared>, extensions: Extensions) -> Response {
    let store = match works(&daemon).await {
        Ok(()) => Answers { ok: true, state: "writes".to_owned(), reason: None },
        Err(error) => Answers { ok: false, state: "does not write".to_owned(), reason: Some(error.to_string()) },
    };
    let credentials: BTreeMap<String, Answers> =
        daemon.lanes.iter().map(|lane| (lane.name().to_owned(), Answers::from(lane.credentials()))).collect();
    let ready = store.ok && credentials.values().all(|answers| answers.ok);
    let drop = daemon.drop.iter().flat_map(DropReport::states);
    let drop = drop.map(|(part, state)| (part, Answers::from(state))).collect();
    let mut readiness = Readiness { ready, store, credentials, drop };
    let mut why = readiness.why_not();
    // It needs no token, so over TCP anyone may ask: instances and reasons are for this machine.
    if !matches!(caller::peer(&extensions), Some(Peer::Socket { .. })) {
        readiness.credentials.clear();
        readiness.drop.clear();
        readiness.store.reason = None;
        why = "it is not ready; over the Unix socket it says why".to_owned();
    }
    if ready {
        return Json(readiness).into_response();
    }
    let problem = Problem::plain(StatusCode::SERVICE_UNAVAILABLE, why);
    let body = NotReady { problem, readiness: &readiness };
    let kind = [(CONTENT_TYPE, "application/problem+json")];
    (StatusCode::SERVICE_UNAVAILABLE, kind, Json(body)).into_response()
}

/// What a plan looks at can be read, and what is written gets onto the disk.
async fn works(daemon: &Daemon) -> Result<(), StoreError> {
    for lane in &daemon.lanes {
        lane.snapshot(daemon.clock.now()).await?;
    }
    daemon.store.can_write().await
}

impl Readiness {
    /// All that is wrong, in one sentence.
    fn why_not(&self) -> String {
        let reason = |answers: &Answers| answers.reason.clone().unwrap_or_default();
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

impl From<PartState> for Answers {
    fn from(state: PartState) -> Answers {
        let (ok, state, reason) = match state {
            PartState::Fine => (true, "fine", None),
            PartState::Failed(reason) => (false, "failed", Some(reason)),
            PartState::Stuck(reason) => (false, "stuck", Some(reason)),
        };
        Answers { ok, state: state.to_owned(), reason }
    }
}

impl From<Trial> for Answers {
    fn from(trial: Trial) -> Answers {
        let (ok, state, reason) = match trial {
            Trial::Untried => (true, "untried", None),
            Trial::Worked => (true, "worked", None),
            Trial::Refused(reason) => (false, "refused", Some(reason)),
            Trial::Unreachable(reason) => (false, "unreachable", Some(reason)),
        };
        Answers { ok, state: state.to_owned(), reason }
    }
}
