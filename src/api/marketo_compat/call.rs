//! Call of the Marketo-compatible API: its path and method, its sender, and the job that it concerns.

use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use crate::api::auth::identity;
use crate::api::auth::identity::Identity;
use crate::api::marketo_compat::endpoints::{CallPath, Endpoint, ImportTarget};
use crate::api::marketo_compat::legacy_tokens;
use crate::api::marketo_compat::response::CompatError;
use crate::api::state::AppState;
use crate::config::ClientAccess;
use crate::domain::JobId;
use crate::http_server::Peer;
use crate::secret::Secret;
use crate::store::Job;

/// Returns the sender, by the token in the header or else in the query. None where neither has a token and the
/// connection needs one: an upload may have it in its form.
pub(super) fn identify(daemon: &AppState, head: &Parts, tokens: &[Secret]) -> Result<Option<Identity>, CompatError> {
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
pub(super) fn identify_legacy_token(
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
pub(super) struct Call {
    pub path: CallPath,
    pub method: Method,
}

impl Call {
    /// Returns the instance that this sender uses.
    ///
    /// # Errors
    /// 603 where the sender may not use it, or may only read and would create an import; 610 where there is no such
    /// endpoint or instance, 605 where the endpoint has another method.
    pub(super) fn authorize(&self, daemon: &AppState, caller: &Identity) -> Result<String, CompatError> {
        let instance = self.path.instance.clone().unwrap_or_else(|| caller.default_instance().to_owned());
        if !caller.may_use(&instance) {
            return Err(CompatError::new(603, "Access denied"));
        }
        if self.path.endpoint == Endpoint::Unknown || daemon.scheduler(&instance).is_none() {
            return Err(CompatError::not_found());
        }
        let method = match self.path.endpoint {
            Endpoint::Create(_) => Method::POST,
            _ => Method::GET,
        };
        if self.method != method {
            return Err(CompatError::new(605, format!("Request method '{}' not supported", self.method)));
        }
        if method == Method::POST && caller.access() == ClientAccess::Read {
            return Err(CompatError::new(603, "Access denied"));
        }
        Ok(instance)
    }
}

/// The job that a call names.
pub(super) struct JobQuery<'a> {
    pub caller: &'a Identity,
    pub instance: &'a str,
    pub target: &'a ImportTarget,
    /// The id as the path has it.
    pub id: &'a str,
}

/// Returns the job with this id, if it belongs to the sender, to this instance and to this target.
///
/// # Errors
/// 1013 for every other job, so that the response does not reveal whether it exists; 608 where the database fails.
pub(super) async fn find_job(daemon: &AppState, query: JobQuery<'_>) -> Result<Job, CompatError> {
    let JobQuery { caller, instance, target, id } = query;
    let not_found =
        || CompatError::new(1013, format!("Import '{}' not found", id.chars().take(40).collect::<String>()));
    let digits = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    let id: JobId = id.parse().ok().filter(|_| digits).ok_or_else(not_found)?;
    let job = daemon.store.job(id).await.map_err(|error| CompatError::of_store(error, not_found))?;
    let is_visible = job.instance == instance && target.matches(&job.target) && caller.owns(&job);
    if is_visible { Ok(job) } else { Err(not_found()) }
}
