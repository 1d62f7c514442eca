//! Router of the daemon: registers each route with the middlewares of its access rule.

use std::sync::Arc;

use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Extension, Router};

use crate::api::auth::browser_guard::guard_browser_requests;
use crate::api::auth::middleware::{authenticate, require_job_owner, require_local};
use crate::api::marketo_compat;
use crate::api::openapi::document::Document;
use crate::api::openapi::route::Access;
use crate::api::openapi::routes;
use crate::api::problem;
use crate::api::state::AppState;
use crate::api::ui;

/// Makes the router of the native API and of the Marketo-compatible one. Each request must have the
/// [`Peer`](crate::http_server::Peer) of its connection in its extensions.
pub fn router(state: AppState) -> Router {
    let state = Arc::new(state);
    let mut all = routes::all();
    if state.page.is_served {
        all.extend(ui::routes());
    }
    let document = Document::of(routes::all);
    let routes_with = |access: Access| {
        let matching = all.iter().filter(|route| route.access == access);
        matching.fold(Router::new(), |router, route| router.route(route.path, route.handler.clone()))
    };
    let native = routes_with(Access::JobOwner)
        .route_layer(from_fn_with_state(state.clone(), require_job_owner))
        .merge(routes_with(Access::LocalOnly).route_layer(from_fn(require_local)))
        .merge(routes_with(Access::Authenticated))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(from_fn_with_state(state.clone(), authenticate));
    let public =
        routes_with(Access::Public).method_not_allowed_fallback(problem::wrong_method).layer(Extension(document));
    let marketo = routes_with(Access::Marketo).fallback(marketo_compat::bulk);
    marketo_compat::by_address(marketo.with_state(state.clone()), native.merge(public).with_state(state.clone()))
        .layer(from_fn_with_state(state.clone(), guard_browser_requests))
        .layer(from_fn_with_state(state, ui::strip_prefix))
}
