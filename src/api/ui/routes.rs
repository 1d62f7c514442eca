//! Routes of the page. They are not in the OpenAPI document: only the page uses them.

use axum::handler::Handler;
use axum::routing::{MethodRouter, get, post};

use crate::api::openapi::route::{Access, Route};
use crate::api::state::SharedState;
use crate::api::ui::{login, page, session};

/// Returns the routes of the page.
pub(in crate::api) fn routes() -> Vec<Route> {
    vec![
        // These handlers check the sender themselves: the answer is the form, and no problem document.
        on_get("/", Access::Public, page::index),
        on_get("/ui/open", Access::Public, page::open),
        route("/ui/login", Access::Public, get(login::form).post(login::log_in)),
        route("/ui/logout", Access::Public, post(login::log_out)),
        on_get("/ui/session", Access::Authenticated, session::session),
        on_get("/ui/{asset}", Access::Public, page::asset),
    ]
}

fn on_get<H: Handler<T, SharedState>, T: 'static>(path: &'static str, access: Access, handler: H) -> Route {
    route(path, access, get(handler))
}

fn route(path: &'static str, access: Access, handler: MethodRouter<SharedState>) -> Route {
    Route { path, access, handler, operations: Vec::new() }
}
