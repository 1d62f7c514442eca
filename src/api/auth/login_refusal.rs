//! Refusal of a wrong login: delays its answer and logs it, for the token endpoint and the login form.

use std::net::IpAddr;

use crate::api::auth::identity::RequestConnection;
use crate::api::state::AppState;
use crate::http_server::Peer;

/// A login whose id or secret is wrong.
pub(crate) struct WrongLogin<'a> {
    /// Where it came from.
    pub peer: Option<Peer>,
    /// The id as it was sent.
    pub client_id: &'a str,
    /// The connection that the answer would occupy.
    pub connection: &'a RequestConnection,
}

/// How a wrong login is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginRefusal {
    /// As wrong: its delay is over.
    Delayed,
    /// As one too many: it was not delayed.
    AtOnce,
}

/// Waits as long as the throttle asks for, and logs the login.
pub(crate) async fn refuse_login(daemon: &AppState, login: &WrongLogin<'_>) -> LoginRefusal {
    let address = match login.peer {
        Some(Peer::Tcp(address)) => Some(address),
        Some(Peer::Socket { .. }) | None => None,
    };
    // The id of a request may be anything, also a secret, so only a registered one is logged.
    let client_id = daemon.tokens.is_registered(login.client_id).then_some(login.client_id);
    let peer = address.map(tracing::field::display::<IpAddr>);
    if login.connection.may_wait() && daemon.login_throttle.delay(address, login.client_id).await.is_ok() {
        tracing::warn!(client_id, peer, "login refused");
        return LoginRefusal::Delayed;
    }
    // These are not delayed, so their log lines are limited.
    if let Some(suppressed) = daemon.login_throttle.may_log_refusal() {
        tracing::warn!(client_id, peer, suppressed, "login refused at once: too many failed logins wait already");
    }
    LoginRefusal::AtOnce
}
