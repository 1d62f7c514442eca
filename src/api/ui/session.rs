//! Handler of `GET /ui/session`: what the page has to know of its user.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::api::auth::identity::Identity;
use crate::api::auth::session_table::BrowserSession;
use crate::api::state::SharedState;
use crate::api::ui::security_headers::protect_response;
use crate::config::ClientAccess;

/// Body of the response.
#[derive(Serialize)]
struct SessionDto {
    /// The client that is logged in; none on the socket.
    client: Option<String>,
    /// The instance of a request that names none.
    instance: String,
    /// What the user may do.
    access: ClientAccess,
    /// What changing requests send as `X-CSRF-Token`. None with a bearer token, which needs none.
    csrf_token: Option<String>,
    /// The daemon's version.
    version: &'static str,
}

/// Handles `GET /ui/session`.
pub(super) async fn session(State(daemon): State<SharedState>, caller: Identity, request: Request) -> Response {
    let csrf_token = match request.extensions().get::<BrowserSession>() {
        Some(session) => Some(session.csrf_token.clone()),
        None if request.headers().contains_key(AUTHORIZATION) => None,
        None => Some(daemon.sessions.socket_csrf_token()),
    };
    let client = match &caller {
        Identity::User { .. } => None,
        Identity::Client(client) => Some(client.id.clone()),
    };
    let session = SessionDto {
        client,
        instance: caller.default_instance().to_owned(),
        access: caller.access(),
        csrf_token: csrf_token.map(|token| token.expose().to_owned()),
        version: env!("CARGO_PKG_VERSION"),
    };
    let mut response = Json(session).into_response();
    protect_response(response.headers_mut());
    response
}
