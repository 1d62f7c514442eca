//! How do clients reach the queue? The native routes, Marketo's own, and the client of the native ones.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Extension, Router};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub use metrics::Metrics;

use crate::clock::Clock;
use crate::drop_folder::DropReport;
use crate::intake::Intake;
use crate::retention::RetentionTask;
use crate::scheduler::InstanceScheduler;
use crate::store::Store;

use crate::api::auth::login_throttle::LoginThrottle;
use crate::api::auth::tokens::TokenTable;
use crate::api::openapi::document::Document;
use crate::api::openapi::route::Access;

pub mod auth;
pub mod dto;
pub mod handlers;
pub mod marketo_compat;
mod metrics;
mod openapi;
pub(crate) mod problem;

/// What the routes need of the daemon.
pub struct AppState {
    pub store: Store,
    pub intake: Intake,
    pub clock: Clock,
    /// Of the clients over TCP.
    pub tokens: TokenTable,
    pub guesses: LoginThrottle,
    pub legacy_tokens: marketo_compat::LegacyTokens,
    /// One for each instance of the configuration.
    pub schedulers: Vec<InstanceScheduler>,
    pub started_at: Timestamp,
    /// The address of the TCP listener; None without one.
    pub listen: Option<SocketAddr>,
    pub keeper: RetentionTask,
    pub metrics: Arc<Metrics>,
    /// None where there is no drop folder.
    pub drop: Option<DropReport>,
    /// When this is cancelled, answers that wait end.
    pub stop: CancellationToken,
}

impl AppState {
    fn scheduler(&self, name: &str) -> Option<&InstanceScheduler> {
        self.schedulers.iter().find(|lane| lane.name() == name)
    }
}

type SharedState = Arc<AppState>;

/// The native API and the Marketo-compatible one. Each request must have its [`http_server::Peer`] beside it.
pub fn router(daemon: AppState) -> Router {
    let daemon = Arc::new(daemon);
    let routes = openapi::routes::all();
    let document = Document::of(&routes);
    let behind = |door: Access| {
        let behind = routes.iter().filter(|route| route.door == door);
        behind.fold(Router::new(), |router, route| router.route(route.path, route.handler.clone()))
    };
    let native = behind(Access::JobOwner)
        .route_layer(from_fn_with_state(daemon.clone(), auth::identity::require_job_owner))
        .merge(behind(Access::LocalOnly).route_layer(from_fn(auth::identity::require_local)))
        .merge(behind(Access::Authenticated))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(from_fn_with_state(daemon.clone(), auth::identity::authenticate));
    let open = behind(Access::Public).method_not_allowed_fallback(problem::wrong_method).layer(Extension(document));
    let marketo = behind(Access::Marketo).fallback(marketo_compat::bulk);
    marketo_compat::by_address(marketo.with_state(daemon.clone()), native.merge(open).with_state(daemon))
}
