//! Routes of the page. They are not in the OpenAPI document: only the page uses them.

use axum::handler::Handler;
use axum::routing::get;

use crate::api::openapi::route::{Access, Route};
use crate::api::state::SharedState;
use crate::api::ui::{page, session};

/// Returns the routes of the page.
pub(in crate::api) fn routes() -> Vec<Route> {
    vec![
        on_get("/", Access::Authenticated, page::index),
        on_get("/ui/session", Access::Authenticated, session::session),
        on_get("/ui/{asset}", Access::Public, page::asset),
    ]
}

fn on_get<H: Handler<T, SharedState>, T: 'static>(path: &'static str, access: Access, handler: H) -> Route {
    Route { path, access, handler: get(handler), operations: Vec::new() }
}
