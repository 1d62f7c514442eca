//! How does a program that speaks to Marketo speak to the queue, unchanged? Marketo's token endpoint and its twelve paths
//! of the bulk import, with its shapes and codes; nothing of the simulator's is used but the shapes of the bodies.
//!
//! A job is what such a program calls an import: its upload is accepted when it is on the disk, whatever Marketo's queue
//! holds, and `batchId` is the job's id.

use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::Response;
use axum::routing::any;
use tracing::Instrument;

use super::caller::{self, Caller};
use super::create::DEFAULT_INSTANCE;
use super::route::{Door, Route};
use super::tokens::Denied;
use super::{Daemon, Shared};
use crate::job::JobId;
use crate::store::{Job, Kind};

mod answer;
mod describe;
mod identity;
mod import;
mod multipart;
mod path;
mod report;
mod status;

pub use multipart::{FormEvent, FormFault, FormReader, PartHead};

use answer::{Answer, Refusal, RequestId};
use path::{About, Call, Place};

/// The wildcards that answer, with the calls that stand behind them.
pub(super) fn routes() -> Vec<Route> {
    let route = |path, handler, operations| Route { path, door: Door::Marketo, handler, operations };
    vec![
        route("/identity/oauth/token", any(identity::token), describe::logins("")),
        route("/instances/{name}/identity/oauth/token", any(identity::token), describe::logins("/instances/{name}")),
        route("/bulk/{*path}", any(bulk), describe::imports("")),
        route("/instances/{name}/bulk/{*path}", any(bulk), describe::imports("/instances/{name}")),
        // The rest of Marketo's API is not here, and is said to be not in its own shape.
        route("/rest/{*path}", any(bulk), Vec::new()),
        route("/instances/{name}/rest/{*path}", any(bulk), Vec::new()),
    ]
}

async fn bulk(State(daemon): State<Shared>, request: Request) -> Response {
    let id = RequestId::of(request.headers());
    let span = id.span();
    async {
        let answer = answer(&daemon, request).await.unwrap_or_else(|refusal| {
            match refusal.code() {
                // A stranger can have as many of these as it likes, and a client that comes with an old token has some.
                code @ (601 | 602) => tracing::debug!(code, "a call was refused"),
                code => tracing::info!(code, "a call was refused"),
            }
            Answer::Refusal(refusal)
        });
        id.on(answer)
    }
    .instrument(span)
    .await
}

/// In Marketo's order: who is it, is there such a path, may it be called so.
async fn answer(daemon: &Daemon, request: Request) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let (instance, call) = path::read(head.uri.path());
    let instance = instance.unwrap_or_else(|| DEFAULT_INSTANCE.into());
    let method = match call {
        Call::Create(_) => Method::POST,
        _ => Method::GET,
    };
    let caller = Caller::of(caller::peer(&head.extensions), &head.headers, &daemon.tokens)
        .map_err(Refusal::from)
        .and_then(|caller| if caller.may_use(&instance) { Ok(caller) } else { Err(Refusal::new(603, "Access denied")) })
        .and_then(|caller| match call {
            _ if call == Call::Unknown || daemon.lane(&instance).is_none() => {
                Err(Refusal::new(610, "Requested resource not found"))
            }
            _ if head.method != method => {
                Err(Refusal::new(605, format!("Request method '{}' not supported", head.method)))
            }
            _ => Ok(caller),
        })?;
    match call {
        Call::Create(place) => {
            let upload = import::Order { place, instance, source: caller.source(), query: head.uri.query() };
            import::create(daemon, upload, &head.headers, body).await.map(|job| Answer::Import(status::receipt(&job)))
        }
        Call::Import(place, id, about) => {
            let job = find(daemon, &caller, &instance, &place, &id).await?;
            match about {
                About::Status => Ok(Answer::Import(status::status(&job))),
                About::Failures => report::report(daemon, &job, Kind::Failures).await,
                About::Warnings => report::report(daemon, &job, Kind::Warnings).await,
            }
        }
        Call::Unknown => Err(Refusal::new(610, "Requested resource not found")),
    }
}

/// The job with this id, if it is the caller's, of this instance and of this kind. Anything else is not found, in words
/// that don't tell whether it is there.
async fn find(daemon: &Daemon, caller: &Caller, instance: &str, place: &Place, id: &str) -> Result<Job, Refusal> {
    let not_found = || Refusal::new(1013, format!("Import '{}' not found", id.chars().take(40).collect::<String>()));
    let digits = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    let id: JobId = id.parse().ok().filter(|_| digits).ok_or_else(not_found)?;
    let job = daemon.store.job(id).await.map_err(|error| Refusal::of_store(error, not_found))?;
    let known = job.instance == instance && place.is_of(&job.target) && caller.owns(&job);
    if known { Ok(job) } else { Err(not_found()) }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Invalid => Refusal::new(601, "Access token invalid"),
            Denied::Expired => Refusal::new(602, "Access token expired"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_has_run_out_is_602_and_any_other_that_is_none_601() {
        assert_eq!(Refusal::from(Denied::Expired), Refusal::new(602, "Access token expired"));
        assert_eq!(Refusal::from(Denied::Invalid), Refusal::new(601, "Access token invalid"));
    }
}
