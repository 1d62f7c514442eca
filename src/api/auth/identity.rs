//! Who is asking, and what is theirs?
//!
//! The Unix socket trusts its file permissions, so there nobody needs a token. One that is shown all the same says more
//! than the permissions do, and is held to: its client's jobs are then the client's, over the socket as over TCP, and a
//! wrong one is refused rather than passed over, since the work would end up under another name than the program thinks.

use std::convert::Infallible;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use crate::api::SharedState;
use crate::api::auth::tokens::{AuthError, Bearer, RegisteredClient, TokenTable};
use crate::api::dto::Problem;
use crate::api::problem::{PathSegment, job_id};
use crate::domain::Source;
use crate::http_server::{ConnectionPermit, Peer};
use crate::store::{Job, StoreError};

/// Where no instance is named.
pub(crate) const DEFAULT_INSTANCE: &str = "default";

/// Who a request is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// One who may write to the socket, and so may do everything.
    User {
        uid: Option<u32>,
    },
    Client(Arc<RegisteredClient>),
}

impl Identity {
    /// The one who sent a request over this connection with these headers.
    pub fn from_headers(peer: Option<Peer>, headers: &HeaderMap, tokens: &TokenTable) -> Result<Identity, AuthError> {
        match (headers.get(AUTHORIZATION), peer) {
            (None, Some(Peer::Socket { uid })) => Ok(Identity::User { uid }),
            (None, _) => Err(AuthError::Invalid),
            (Some(value), _) => Identity::from_token(peer, token(value.to_str().unwrap_or_default()), tokens),
        }
    }

    /// The one who showed this token over this connection, wherever in the request it stood.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn from_token(peer: Option<Peer>, token: &str, tokens: &TokenTable) -> Result<Identity, AuthError> {
        match (tokens.verify_token(token, Instant::now())?, peer) {
            (Bearer::Client(client), _) => Ok(Identity::Client(client)),
            (Bearer::Socket, Some(Peer::Socket { uid })) => Ok(Identity::User { uid }),
            // A token that the socket gives to anyone is worth nothing elsewhere.
            (Bearer::Socket, _) => Err(AuthError::Invalid),
        }
    }

    pub fn source(&self) -> Source {
        match self {
            Identity::User { uid } => Source::Socket { uid: *uid },
            Identity::Client(client) => Source::Client { client_id: client.id.clone() },
        }
    }

    /// The instance that it means where it names none.
    pub fn default_instance(&self) -> &str {
        match self {
            Identity::User { .. } => DEFAULT_INSTANCE,
            Identity::Client(client) => &client.instance,
        }
    }

    /// Whether it may use this instance, be there such a one or not.
    pub fn may_use(&self, instance: &str) -> bool {
        match self {
            Identity::User { .. } => true,
            Identity::Client(client) => {
                client.instances.as_ref().is_none_or(|names| names.iter().any(|name| name == instance))
            }
        }
    }

    /// Whether this job is its own to see and to act on.
    pub fn owns(&self, job: &Job) -> bool {
        match self {
            Identity::User { .. } => true,
            Identity::Client(_) => job.source.as_ref() == Some(&self.source()) && self.may_use(&job.instance),
        }
    }

    /// # Errors
    /// 403, in words that don't tell whether there is such an instance.
    pub(crate) fn check_instance(&self, instance: &str) -> Result<(), Problem> {
        match self {
            Identity::Client(client) if !self.may_use(instance) => {
                let detail = format!("client {} may not use an instance \"{instance}\"", client.id);
                Err(Problem::plain(StatusCode::FORBIDDEN, detail))
            }
            _ => Ok(()),
        }
    }
}

/// The token of an `Authorization` header; empty where it is of another kind.
fn token(value: &str) -> &str {
    match value.split_once(' ') {
        Some((kind, token)) if kind.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => "",
    }
}

/// The connection that a request came over; the listener puts it beside each request.
#[derive(Clone)]
pub(crate) struct RequestConnection(Option<Arc<ConnectionPermit>>);

impl RequestConnection {
    pub fn of(extensions: &Extensions) -> RequestConnection {
        RequestConnection(extensions.get::<Arc<ConnectionPermit>>().cloned())
    }

    /// Whether the answer may last for as long as the daemon likes. If not, it has to come at once: so many answers wait
    /// already that more would keep short requests out.
    pub fn may_wait(&self) -> bool {
        self.0.as_ref().is_none_or(|place| place.may_wait())
    }

    /// # Errors
    /// 503, where the answer may not wait.
    pub fn check_may_wait(&self) -> Result<(), Problem> {
        if self.may_wait() { Ok(()) } else { Err(Problem::too_many_waiting()) }
    }
}

impl<S: Sync> FromRequestParts<S> for RequestConnection {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(RequestConnection::of(&parts.extensions))
    }
}

pub(crate) fn peer(extensions: &Extensions) -> Option<Peer> {
    extensions.get::<Peer>().copied()
}

/// Lets no request pass whose sender is not known. Everything below it can ask for the [`Caller`].
pub(crate) async fn authenticate(
    State(daemon): State<SharedState>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let caller = Identity::from_headers(peer(request.extensions()), request.headers(), &daemon.tokens)?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Before what concerns the jobs of all: a client over TCP has its own, and nothing to do with those of others.
pub(crate) async fn require_local(caller: Identity, request: Request, next: Next) -> Result<Response, Problem> {
    match caller {
        Identity::User { .. } => Ok(next.run(request).await),
        Identity::Client(_) => {
            let detail = "this concerns the jobs of all clients, so it is done through the Unix socket only";
            Err(Problem::plain(StatusCode::FORBIDDEN, detail))
        }
    }
}

/// Before every route below `/v1/jobs/{id}`: another client's job is one that there is not.
pub(crate) async fn require_job_owner(
    State(daemon): State<SharedState>,
    caller: Identity,
    PathSegment(id): PathSegment,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    // Whoever may see everything costs no look into the store.
    if let Identity::Client(_) = caller {
        let id = job_id(&id)?;
        if !caller.owns(&daemon.store.job(id).await?) {
            return Err(StoreError::NoJob(id).into());
        }
    }
    Ok(next.run(request).await)
}

impl<S: Sync> FromRequestParts<S> for Identity {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Only below [`admit`] is there one, so that a route that was put elsewhere stays shut.
        parts.extensions.get::<Identity>().cloned().ok_or_else(|| AuthError::Invalid.into())
    }
}

impl From<AuthError> for Problem {
    fn from(denied: AuthError) -> Self {
        let (word, detail) = match denied {
            AuthError::Invalid => (
                "token-invalid",
                "this needs the header \"Authorization: Bearer\" with a token from POST /identity/oauth/token",
            ),
            AuthError::Expired => {
                ("token-expired", "the token has expired: get a new one from POST /identity/oauth/token")
            }
        };
        Problem::of_kind(StatusCode::UNAUTHORIZED, word, "There is no valid token", detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApiClient;
    use crate::secret::Secret;

    const AT: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;
    const SOCKET: Option<Peer> = Some(Peer::Socket { uid: Some(1000) });
    const TCP: Option<Peer> = Some(Peer::Tcp(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)));

    fn tokens(clients: &[&str]) -> TokenTable {
        let client = |id: &&str| ApiClient {
            client_id: (*id).to_owned(),
            client_secret: Secret::new("s"),
            instances: Some(vec!["eu".into()]),
            instance: "eu".into(),
        };
        TokenTable::new(&clients.iter().map(client).collect::<Vec<_>>()).unwrap()
    }

    fn shown(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, text.parse().unwrap())])
    }

    #[test]
    fn the_socket_needs_no_token_and_tcp_does() {
        let tokens = tokens(&["crm"]);
        let user = Identity::User { uid: Some(1000) };
        assert_eq!(Identity::from_headers(SOCKET, &HeaderMap::new(), &tokens), Ok(user));
        for peer in [TCP, None] {
            assert_eq!(Identity::from_headers(peer, &HeaderMap::new(), &tokens), Err(AuthError::Invalid));
        }
    }

    #[test]
    fn a_token_that_is_shown_is_held_to_everywhere() {
        let tokens = tokens(&["crm"]);
        let given = tokens.issue(tokens.verify_client("crm", "s", false).unwrap(), Instant::now(), AT).unwrap();
        for peer in [SOCKET, TCP] {
            for kind in ["Bearer", "bearer"] {
                let caller = Identity::from_headers(peer, &shown(&format!("{kind} {}", given.token)), &tokens).unwrap();
                assert_eq!(caller.source(), Source::Client { client_id: "crm".into() });
                assert!(caller.may_use("eu") && !caller.may_use("default"));
            }
            for wrong in ["Bearer x", "Bearer", &given.token, &format!("Basic {}", given.token)] {
                assert_eq!(Identity::from_headers(peer, &shown(wrong), &tokens), Err(AuthError::Invalid), "{wrong}");
            }
        }
    }

    #[test]
    fn a_token_of_the_sockets_is_worth_nothing_over_tcp() {
        let tokens = tokens(&[]);
        let given = tokens.issue(tokens.verify_client("any", "thing", true).unwrap(), Instant::now(), AT).unwrap();
        let shown = shown(&format!("Bearer {}", given.token));
        assert_eq!(Identity::from_headers(SOCKET, &shown, &tokens), Ok(Identity::User { uid: Some(1000) }));
        assert_eq!(Identity::from_headers(TCP, &shown, &tokens), Err(AuthError::Invalid));
    }
}
