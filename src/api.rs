//! How do clients reach the queue? The native routes, Marketo's own, and the client of the native ones.

use std::sync::Arc;

use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Extension, Router};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub use metrics::Metrics;

use crate::clock::Clock;
use crate::intake::{DropReport, Intake};
use crate::retention::Keeper;
use crate::schedule::Lane;
use crate::store::Store;

use guesses::Guesses;
use openapi::Document;
use route::Door;
use tokens::Tokens;

mod backup;
pub mod caller;
pub mod client;
pub mod compat;
pub mod create;
mod erase;
mod events;
pub mod guesses;
mod health;
mod jobs;
mod metrics;
mod openapi;
mod problem;
mod reports;
mod retry;
mod route;
mod routes;
pub mod server;
mod settle;
mod status;
pub mod tokens;
pub mod types;

/// What the routes need of the daemon.
pub struct Daemon {
    pub store: Store,
    pub intake: Intake,
    pub clock: Clock,
    /// Of the clients over TCP.
    pub tokens: Tokens,
    pub guesses: Guesses,
    pub legacy_tokens: compat::LegacyTokens,
    /// One for each instance of the configuration.
    pub lanes: Vec<Lane>,
    pub started_at: Timestamp,
    pub keeper: Keeper,
    pub metrics: Arc<Metrics>,
    /// None where there is no drop folder.
    pub drop: Option<DropReport>,
    /// When this is cancelled, answers that wait end.
    pub stop: CancellationToken,
}

impl Daemon {
    fn lane(&self, name: &str) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.name() == name)
    }
}

type Shared = Arc<Daemon>;

/// The native API and the Marketo-compatible one. Each request must have its [`caller::Peer`] beside it.
pub fn router(daemon: Daemon) -> Router {
    let daemon = Arc::new(daemon);
    let routes = routes::all();
    let document = Document::of(&routes);
    let behind = |door: Door| {
        let behind = routes.iter().filter(|route| route.door == door);
        behind.fold(Router::new(), |router, route| router.route(route.path, route.handler.clone()))
    };
    let native = behind(Door::OfAJob)
        .route_layer(from_fn_with_state(daemon.clone(), caller::own_job))
        .merge(behind(Door::OfThisMachine).route_layer(from_fn(caller::of_this_machine)))
        .merge(behind(Door::Known))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(from_fn_with_state(daemon.clone(), caller::admit));
    let open = behind(Door::Open).method_not_allowed_fallback(problem::wrong_method).layer(Extension(document));
    let marketo = behind(Door::Marketo).fallback(compat::bulk);
    compat::by_address(marketo.with_state(daemon.clone()), native.merge(open).with_state(daemon))
}
