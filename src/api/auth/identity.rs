//! Identity of a request's sender: who sent it, and what that sender may use.
//!
//! The Unix socket trusts its file permissions, so a request over it needs no token. A token that is sent all the same
//! is checked: a valid one makes the request its client's, over the socket as over TCP. An invalid one is refused and
//! not ignored, since the jobs would otherwise belong to another owner than the program expects.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRequestParts, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode};

use crate::api::auth::session_table::BrowserSession;
use crate::api::auth::tokens::{AuthError, Bearer, RegisteredClient, TokenTable};
use crate::api::dto::Problem;
use crate::config::ClientAccess;
use crate::domain::Source;
use crate::http_server::{ConnectionPermit, Peer};
use crate::store::Job;

/// Instance of a request that names none.
pub(crate) const DEFAULT_INSTANCE: &str = "default";

/// Sender of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A local user who may write to the Unix socket, and so may do everything.
    User {
        /// The user id, where the kernel reports one that this user namespace maps.
        uid: Option<u32>,
    },
    /// An entry of `api.clients`, known by its token.
    Client(Arc<RegisteredClient>),
}

impl Identity {
    /// Returns the sender of a request with these headers over this connection.
    ///
    /// # Errors
    /// [`AuthError`] where the token is missing (over TCP), invalid or expired.
    pub fn from_headers(peer: Option<Peer>, headers: &HeaderMap, tokens: &TokenTable) -> Result<Identity, AuthError> {
        match (headers.get(AUTHORIZATION), peer) {
            (None, Some(Peer::Socket { uid })) => Ok(Identity::User { uid }),
            (None, _) => Err(AuthError::Invalid),
            (Some(value), _) => Identity::from_token(peer, bearer_token(value.to_str().unwrap_or_default()), tokens),
        }
    }

    /// Returns the sender of a request: the client of its browser's session, or else as [`Identity::from_headers`].
    ///
    /// # Errors
    /// As of [`Identity::from_headers`].
    pub(crate) fn of_request(request: &Request, tokens: &TokenTable) -> Result<Identity, AuthError> {
        match request.extensions().get::<BrowserSession>() {
            Some(session) => Ok(Identity::Client(session.client.clone())),
            None => Identity::from_headers(peer(request.extensions()), request.headers(), tokens),
        }
    }

    /// Returns the sender of a request with this token, wherever in the request the token stood.
    ///
    /// # Errors
    /// [`AuthError`] where the token is invalid or expired, or belongs to the socket and came over TCP.
    pub fn from_token(peer: Option<Peer>, token: &str, tokens: &TokenTable) -> Result<Identity, AuthError> {
        match (tokens.verify_token(token, Instant::now())?, peer) {
            (Bearer::Client(client), _) => Ok(Identity::Client(client)),
            (Bearer::Socket, Some(Peer::Socket { uid })) => Ok(Identity::User { uid }),
            // The socket issues this token without checking credentials, so it is not valid over TCP.
            (Bearer::Socket, _) => Err(AuthError::Invalid),
        }
    }

    /// Returns what is stored as the source of a job of this sender.
    pub fn source(&self) -> Source {
        match self {
            Identity::User { uid } => Source::Socket { uid: *uid },
            Identity::Client(client) => Source::Client { client_id: client.id.clone() },
        }
    }

    /// Returns the instance that is used where the request names none.
    pub fn default_instance(&self) -> &str {
        match self {
            Identity::User { .. } => DEFAULT_INSTANCE,
            Identity::Client(client) => &client.instance,
        }
    }

    /// Returns whether the sender may use this instance, whether or not the instance exists.
    pub fn may_use(&self, instance: &str) -> bool {
        match self {
            Identity::User { .. } => true,
            Identity::Client(client) => {
                client.instances.as_ref().is_none_or(|names| names.iter().any(|name| name == instance))
            }
        }
    }

    /// Returns what the sender may do with what it sees.
    pub(crate) fn access(&self) -> ClientAccess {
        match self {
            Identity::User { .. } => ClientAccess::Write,
            Identity::Client(client) => client.access,
        }
    }

    /// Returns whether the sender may see this job, and change it unless its access is to read only.
    pub fn owns(&self, job: &Job) -> bool {
        match self {
            Identity::User { .. } => true,
            Identity::Client(_) => job.source.as_ref() == Some(&self.source()) && self.may_use(&job.instance),
        }
    }

    /// Checks that the sender may use this instance.
    ///
    /// # Errors
    /// 403. The text does not reveal whether the instance exists.
    pub(crate) fn check_instance(&self, instance: &str) -> Result<(), Problem> {
        match self {
            Identity::Client(client) if !self.may_use(instance) => {
                let detail = format!(
                    "client {} may not use instance \"{instance}\": it is not in the client's api.clients.instances",
                    client.id
                );
                Err(Problem::plain(StatusCode::FORBIDDEN, detail))
            }
            _ => Ok(()),
        }
    }
}

/// Returns whether an `Authorization` header has a token.
pub(crate) fn is_bearer(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|value| !bearer_token(value).is_empty())
}

/// Returns the token of an `Authorization` header's value; empty where the scheme is not `Bearer`.
fn bearer_token(value: &str) -> &str {
    match value.split_once(' ') {
        Some((kind, token)) if kind.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => "",
    }
}

/// Connection of a request, as the listener stores it in the request's extensions.
#[derive(Clone)]
pub(crate) struct RequestConnection(Option<Arc<ConnectionPermit>>);

impl RequestConnection {
    /// Reads the connection from a request's extensions.
    pub fn of(extensions: &Extensions) -> RequestConnection {
        RequestConnection(extensions.get::<Arc<ConnectionPermit>>().cloned())
    }

    /// Returns whether the response may wait for an event. If not, it has to be sent at once: half of the connections
    /// wait already, and more would leave too few for short requests.
    pub fn may_wait(&self) -> bool {
        self.0.as_ref().is_none_or(|permit| permit.may_wait())
    }

    /// Checks that the response may wait for an event.
    ///
    /// # Errors
    /// 503 `too-many-waiting`, where it may not.
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

/// Returns the other end of a request's connection.
pub(crate) fn peer(extensions: &Extensions) -> Option<Peer> {
    extensions.get::<Peer>().copied()
}

impl<S: Sync> FromRequestParts<S> for Identity {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Only the middleware `authenticate` stores an identity, so a route that is registered outside it refuses every
        // request.
        parts.extensions.get::<Identity>().cloned().ok_or_else(|| AuthError::Invalid.into())
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let (code, detail) = match error {
            AuthError::Invalid => (
                "token-invalid",
                "this route needs the header \"Authorization: Bearer\" with a token from POST /identity/oauth/token",
            ),
            AuthError::Expired => {
                ("token-expired", "the token has expired: get a new one from POST /identity/oauth/token")
            }
        };
        Problem::of_kind(StatusCode::UNAUTHORIZED, code, "There is no valid token", detail)
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
            access: ClientAccess::Write,
        };
        TokenTable::new(&clients.iter().map(client).collect::<Vec<_>>()).unwrap()
    }

    fn authorization(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, text.parse().unwrap())])
    }

    #[test]
    fn tcp_needs_a_token_and_the_socket_does_not() {
        let tokens = tokens(&["crm"]);
        let user = Identity::User { uid: Some(1000) };
        assert_eq!(Identity::from_headers(SOCKET, &HeaderMap::new(), &tokens), Ok(user));
        for peer in [TCP, None] {
            assert_eq!(Identity::from_headers(peer, &HeaderMap::new(), &tokens), Err(AuthError::Invalid));
        }
    }

    #[test]
    fn a_token_identifies_its_client_over_socket_and_tcp() {
        let tokens = tokens(&["crm"]);
        let given = tokens.issue(tokens.verify_client("crm", "s", None).unwrap(), Instant::now(), AT).unwrap();
        for peer in [SOCKET, TCP] {
            for kind in ["Bearer", "bearer"] {
                let caller =
                    Identity::from_headers(peer, &authorization(&format!("{kind} {}", given.token)), &tokens).unwrap();
                assert_eq!(caller.source(), Source::Client { client_id: "crm".into() });
                assert!(caller.may_use("eu") && !caller.may_use("default"));
            }
            for wrong in ["Bearer x", "Bearer", &given.token, &format!("Basic {}", given.token)] {
                assert_eq!(
                    Identity::from_headers(peer, &authorization(wrong), &tokens),
                    Err(AuthError::Invalid),
                    "{wrong}"
                );
            }
        }
    }

    #[test]
    fn a_token_of_the_socket_is_invalid_over_tcp() {
        let tokens = tokens(&[]);
        let given = tokens
            .issue(tokens.verify_client("any", "thing", Some(Peer::Socket { uid: None })).unwrap(), Instant::now(), AT)
            .unwrap();
        let headers = authorization(&format!("Bearer {}", given.token));
        assert_eq!(Identity::from_headers(SOCKET, &headers, &tokens), Ok(Identity::User { uid: Some(1000) }));
        assert_eq!(Identity::from_headers(TCP, &headers, &tokens), Err(AuthError::Invalid));
    }
}
