//! How does a program that speaks to Marketo speak to the queue, unchanged? Marketo's token endpoint and its twelve paths
//! of the bulk import, with its shapes and codes; nothing of the simulator's is used but the shapes of the bodies.
//!
//! A job is what such a program calls an import: its upload is accepted when it is on the disk, whatever Marketo's queue
//! holds, and `batchId` is the job's id.

use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::any;
use tracing::Instrument;

use crate::api::auth::identity;
use crate::api::auth::identity::Identity;
use crate::api::auth::tokens::AuthError;
use crate::api::openapi::route::{Access, Route};
use crate::api::{AppState, SharedState};
use crate::domain::JobId;
use crate::http_server::Peer;
use crate::secret::Secret;
use crate::store::{FileKind, Job};

mod address;
mod endpoints;
mod job_to_import;
mod legacy_tokens;
mod oauth;
mod openapi;
mod report;
mod response;
mod upload;

pub use legacy_tokens::{LegacyTokens, take_from_query};

pub(super) use address::by_address;

use crate::api::marketo_compat::endpoints::{Endpoint, ImportQuery, ImportTarget};
use crate::api::marketo_compat::response::{CompatError, CompatResponse, RequestId};

/// The wildcards that answer, with the calls that stand behind them.
pub(super) fn routes() -> Vec<Route> {
    let route = |path, handler, operations| Route { path, door: Access::Marketo, handler, operations };
    vec![
        route("/identity/oauth/token", any(oauth::token), openapi::logins("")),
        route("/instances/{name}/identity/oauth/token", any(oauth::token), openapi::logins("/instances/{name}")),
        route("/bulk/{*path}", any(bulk), openapi::imports("")),
        route("/instances/{name}/bulk/{*path}", any(bulk), openapi::imports("/instances/{name}")),
        // The rest of Marketo's API is not here, and is said to be not in its own shape.
        route("/rest/{*path}", any(bulk), Vec::new()),
        route("/instances/{name}/rest/{*path}", any(bulk), Vec::new()),
    ]
}

/// Also whatever else begins as a path of Marketo's.
pub(super) async fn bulk(State(daemon): State<SharedState>, request: Request) -> Response {
    let id = RequestId::of(request.headers());
    let span = id.span();
    async {
        let answer = answer(&daemon, request).await.unwrap_or_else(|refusal| {
            match refusal.code() {
                // A stranger can have as many of these as it likes, and a client that comes with an old token has some.
                code @ (601 | 602) => tracing::debug!(code, "a call was refused"),
                code => tracing::info!(code, "a call was refused"),
            }
            CompatResponse::Refusal(refusal)
        });
        id.on(answer)
    }
    .instrument(span)
    .await
}

/// In Marketo's order: who is it, is there such a path, may it be called so.
async fn answer(daemon: &AppState, request: Request) -> Result<CompatResponse, CompatError> {
    let (mut head, body) = request.into_parts();
    // From here on the address has no token in it, whatever is done with it.
    let (uri, tokens) = legacy_tokens::take_from_query(std::mem::take(&mut head.uri));
    head.uri = uri;
    let (instance, call) = endpoints::parse(head.uri.path());
    let asked = Asked { instance, call, method: head.method.clone() };
    let caller = identify(daemon, &head, &tokens)?;
    if let (None, Endpoint::Create(place), &Method::POST) = (&caller, &asked.call, &asked.method) {
        if !daemon.legacy_tokens.are_accepted() {
            return Err(daemon.legacy_tokens.disabled_error());
        }
        let sender = upload::Sender::InForm(&asked);
        let order = upload::UploadRequest { place: place.clone(), sender, query: head.uri.query() };
        return upload::create(daemon, order, &head.headers, body).await.map(receipt);
    }
    let caller = caller.ok_or(AuthError::Invalid)?;
    let instance = asked.admit(daemon, &caller)?;
    match asked.call {
        Endpoint::Create(ref place) => {
            let place = place.clone();
            let sender = match caller {
                Identity::Client(_) => upload::Sender::Known(caller, instance),
                // Who shows a token behind all is that client, on the socket too.
                Identity::User { .. } => upload::Sender::OnSocket(&asked, caller, instance),
            };
            let order = upload::UploadRequest { place, sender, query: head.uri.query() };
            upload::create(daemon, order, &head.headers, body).await.map(receipt)
        }
        Endpoint::Import(place, id, about) => {
            let job = find(daemon, &caller, &instance, &place, &id).await?;
            match about {
                ImportQuery::Status => Ok(CompatResponse::Import(job_to_import::status(&job))),
                ImportQuery::Failures => report::report(daemon, &job, FileKind::Failures).await,
                ImportQuery::Warnings => report::report(daemon, &job, FileKind::Warnings).await,
            }
        }
        Endpoint::Unknown => Err(not_found()),
    }
}

fn receipt(job: Job) -> CompatResponse {
    CompatResponse::Import(job_to_import::receipt(&job))
}

fn not_found() -> CompatError {
    CompatError::new(610, "Requested resource not found")
}

/// The one who sent this, by the token in the header or else in the query. None where neither has one and the connection
/// asks for one: an upload may have it in its form.
fn identify(daemon: &AppState, head: &Parts, tokens: &[Secret]) -> Result<Option<Identity>, CompatError> {
    let peer = identity::peer(&head.extensions);
    let (token, more) = match tokens {
        _ if head.headers.contains_key(AUTHORIZATION) => {
            return Ok(Some(Identity::from_headers(peer, &head.headers, &daemon.tokens)?));
        }
        [] if matches!(peer, Some(Peer::Socket { .. })) => {
            return Ok(Some(Identity::from_headers(peer, &head.headers, &daemon.tokens)?));
        }
        [] => return Ok(None),
        [token, more @ ..] => (token, more),
    };
    if !more.is_empty() {
        return Err(legacy_tokens::refused_error("the query has two different ones"));
    }
    of_legacy_token(daemon, peer, token, "the query").map(Some)
}

/// The one who sent this token outside the header.
fn of_legacy_token(
    daemon: &AppState,
    peer: Option<Peer>,
    token: &Secret,
    place: &str,
) -> Result<Identity, CompatError> {
    let caller = Identity::from_token(peer, token.expose(), &daemon.tokens);
    if let Ok(caller) = &caller {
        daemon.legacy_tokens.log_client_once(caller, place);
    }
    if !daemon.legacy_tokens.are_accepted() {
        return Err(daemon.legacy_tokens.disabled_error());
    }
    Ok(caller?)
}

/// What a request is for, by its path and its method.
struct Asked {
    /// The one that the path names.
    instance: Option<String>,
    call: Endpoint,
    method: Method,
}

impl Asked {
    /// The instance that this caller is served on.
    ///
    /// # Errors
    /// 603 where it may not use it, 610 where there is no such call or instance, 605 where the call has another method.
    fn admit(&self, daemon: &AppState, caller: &Identity) -> Result<String, CompatError> {
        let instance = self.instance.clone().unwrap_or_else(|| caller.default_instance().to_owned());
        if !caller.may_use(&instance) {
            return Err(CompatError::new(603, "Access denied"));
        }
        if self.call == Endpoint::Unknown || daemon.scheduler(&instance).is_none() {
            return Err(not_found());
        }
        let method = match self.call {
            Endpoint::Create(_) => Method::POST,
            _ => Method::GET,
        };
        if self.method != method {
            return Err(CompatError::new(605, format!("Request method '{}' not supported", self.method)));
        }
        Ok(instance)
    }
}

/// The job with this id, if it is the caller's, of this instance and of this kind. Anything else is not found, in words
/// that don't tell whether it is there.
async fn find(
    daemon: &AppState,
    caller: &Identity,
    instance: &str,
    place: &ImportTarget,
    id: &str,
) -> Result<Job, CompatError> {
    let not_found =
        || CompatError::new(1013, format!("Import '{}' not found", id.chars().take(40).collect::<String>()));
    let digits = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    let id: JobId = id.parse().ok().filter(|_| digits).ok_or_else(not_found)?;
    let job = daemon.store.job(id).await.map_err(|error| CompatError::of_store(error, not_found))?;
    let known = job.instance == instance && place.is_of(&job.target) && caller.owns(&job);
    if known { Ok(job) } else { Err(not_found()) }
}

impl From<AuthError> for CompatError {
    fn from(denied: AuthError) -> Self {
        match denied {
            AuthError::Invalid => CompatError::new(601, "Access token invalid"),
            AuthError::Expired => CompatError::new(602, "Access token expired"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_token_is_602_and_an_unknown_one_601() {
        assert_eq!(CompatError::from(AuthError::Expired), CompatError::new(602, "Access token expired"));
        assert_eq!(CompatError::from(AuthError::Invalid), CompatError::new(601, "Access token invalid"));
    }
}
