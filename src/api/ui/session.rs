//! Handler of `GET /ui/session`: what the page has to know of its user.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::api::auth::identity::Identity;
use crate::api::ui::security_headers::protect_response;

/// Body of the response.
#[derive(Serialize)]
struct SessionDto {
    /// The client that is logged in; none on the socket.
    client: Option<String>,
    /// The daemon's version.
    version: &'static str,
}

/// Handles `GET /ui/session`.
pub(super) async fn session(caller: Identity) -> Response {
    let client = match &caller {
        Identity::User { .. } => None,
        Identity::Client(client) => Some(client.id.clone()),
    };
    let mut response = Json(SessionDto { client, version: env!("CARGO_PKG_VERSION") }).into_response();
    protect_response(response.headers_mut());
    response
}
