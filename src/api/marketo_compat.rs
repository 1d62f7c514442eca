//! Marketo-compatible API: Marketo's token endpoint and the twelve paths of its bulk import API, with its response shapes
//! and error codes, for programs that are written for Marketo.
//!
//! A job stands for such a program's import. Its upload is accepted once it is on the disk, however full Marketo's import
//! queue is, and `batchId` is the job's id.

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
use crate::api::state::{AppState, SharedState};
use crate::domain::JobId;
use crate::http_server::Peer;
use crate::secret::Secret;
use crate::store::{FileKind, Job};

mod address;
mod endpoints;
mod job_to_import;
pub(super) mod legacy_tokens;
mod oauth;
mod openapi;
mod report;
mod response;
mod upload;

pub use legacy_tokens::{LegacyTokens, take_from_query};

pub(super) use address::by_address;

use crate::api::marketo_compat::endpoints::{Endpoint, ImportQuery, ImportTarget};
use crate::api::marketo_compat::response::{CompatError, CompatResponse, RequestId};

/// Returns the routes: wildcard paths, each with the operations that it serves.
pub(super) fn routes() -> Vec<Route> {
    let route = |path, handler, operations| Route { path, access: Access::Marketo, handler, operations };
    vec![
        route("/identity/oauth/token", any(oauth::token), openapi::logins("")),
        route("/instances/{name}/identity/oauth/token", any(oauth::token), openapi::logins("/instances/{name}")),
        route("/bulk/{*path}", any(bulk), openapi::imports("")),
        route("/instances/{name}/bulk/{*path}", any(bulk), openapi::imports("/instances/{name}")),
        // The rest of Marketo's API is not served: it answers 610 in Marketo's shape.
        route("/rest/{*path}", any(bulk), Vec::new()),
        route("/instances/{name}/rest/{*path}", any(bulk), Vec::new()),
    ]
}

/// Handles the bulk import API, and every other path that begins like one of Marketo's.
pub(super) async fn bulk(State(daemon): State<SharedState>, request: Request) -> Response {
    let id = RequestId::of(request.headers());
    let span = id.span();
    async {
        let response = handle(&daemon, request).await.unwrap_or_else(|error| {
            match error.code() {
                // Anyone can cause any number of these, and a client whose token expired causes some.
                code @ (601 | 602) => tracing::debug!(code, "call refused"),
                code => tracing::info!(code, "call refused"),
            }
            CompatResponse::Refusal(error)
        });
        id.on(response)
    }
    .instrument(span)
    .await
}

/// Checks in Marketo's order: the token, the path, the method.
async fn handle(daemon: &AppState, request: Request) -> Result<CompatResponse, CompatError> {
    let (mut head, body) = request.into_parts();
    // From here on the address contains no token, so it can be logged.
    let (uri, tokens) = legacy_tokens::take_from_query(std::mem::take(&mut head.uri));
    head.uri = uri;
    let (instance, endpoint) = endpoints::parse(head.uri.path());
    let call = Call { instance, endpoint, method: head.method.clone() };
    let caller = identify(daemon, &head, &tokens)?;
    if let (None, Endpoint::Create(target), &Method::POST) = (&caller, &call.endpoint, &call.method) {
        if !daemon.legacy_tokens.are_accepted() {
            return Err(daemon.legacy_tokens.disabled_error());
        }
        let sender = upload::Sender::InForm(&call);
        let upload = upload::UploadRequest { target: target.clone(), sender, query: head.uri.query() };
        return upload::create(daemon, upload, &head.headers, body).await.map(receipt);
    }
    let caller = caller.ok_or(AuthError::Invalid)?;
    let instance = call.authorize(daemon, &caller)?;
    match call.endpoint {
        Endpoint::Create(ref target) => {
            let target = target.clone();
            let sender = match caller {
                Identity::Client(_) => upload::Sender::Known(caller, instance),
                // The form may have a token, which then identifies the sender, on the socket too.
                Identity::User { .. } => upload::Sender::OnSocket(&call, caller, instance),
            };
            let upload = upload::UploadRequest { target, sender, query: head.uri.query() };
            upload::create(daemon, upload, &head.headers, body).await.map(receipt)
        }
        Endpoint::Import(target, id, query) => {
            let job = find_job(daemon, &caller, &instance, &target, &id).await?;
            match query {
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

/// Returns the sender, by the token in the header or else in the query. None where neither has a token and the
/// connection needs one: an upload may have it in its form.
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
        return Err(legacy_tokens::refused_error("the query has two different tokens"));
    }
    identify_legacy_token(daemon, peer, token, "the query").map(Some)
}

/// Returns the sender of a token outside the header. `location` is where it stood, for the log.
fn identify_legacy_token(
    daemon: &AppState,
    peer: Option<Peer>,
    token: &Secret,
    location: &str,
) -> Result<Identity, CompatError> {
    let caller = Identity::from_token(peer, token.expose(), &daemon.tokens);
    if let Ok(caller) = &caller {
        daemon.legacy_tokens.log_client_once(caller, location);
    }
    if !daemon.legacy_tokens.are_accepted() {
        return Err(daemon.legacy_tokens.disabled_error());
    }
    Ok(caller?)
}

/// A call by its path and method.
struct Call {
    /// Instance in the path.
    instance: Option<String>,
    endpoint: Endpoint,
    method: Method,
}

impl Call {
    /// Returns the instance that this sender uses.
    ///
    /// # Errors
    /// 603 where the sender may not use it, 610 where there is no such endpoint or instance, 605 where the endpoint has
    /// another method.
    fn authorize(&self, daemon: &AppState, caller: &Identity) -> Result<String, CompatError> {
        let instance = self.instance.clone().unwrap_or_else(|| caller.default_instance().to_owned());
        if !caller.may_use(&instance) {
            return Err(CompatError::new(603, "Access denied"));
        }
        if self.endpoint == Endpoint::Unknown || daemon.scheduler(&instance).is_none() {
            return Err(not_found());
        }
        let method = match self.endpoint {
            Endpoint::Create(_) => Method::POST,
            _ => Method::GET,
        };
        if self.method != method {
            return Err(CompatError::new(605, format!("Request method '{}' not supported", self.method)));
        }
        Ok(instance)
    }
}

/// Returns the job with this id, if it belongs to the sender, to this instance and to this target.
///
/// # Errors
/// 1013 for every other job, so that the response does not reveal whether it exists; 608 where the database fails.
async fn find_job(
    daemon: &AppState,
    caller: &Identity,
    instance: &str,
    target: &ImportTarget,
    id: &str,
) -> Result<Job, CompatError> {
    let not_found =
        || CompatError::new(1013, format!("Import '{}' not found", id.chars().take(40).collect::<String>()));
    let digits = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    let id: JobId = id.parse().ok().filter(|_| digits).ok_or_else(not_found)?;
    let job = daemon.store.job(id).await.map_err(|error| CompatError::of_store(error, not_found))?;
    let is_visible = job.instance == instance && target.matches(&job.target) && caller.owns(&job);
    if is_visible { Ok(job) } else { Err(not_found()) }
}

impl From<AuthError> for CompatError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Invalid => CompatError::new(601, "Access token invalid"),
            AuthError::Expired => CompatError::new(602, "Access token expired"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_token_is_602_and_an_invalid_one_601() {
        assert_eq!(CompatError::from(AuthError::Expired), CompatError::new(602, "Access token expired"));
        assert_eq!(CompatError::from(AuthError::Invalid), CompatError::new(601, "Access token invalid"));
    }
}
