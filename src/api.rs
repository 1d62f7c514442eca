//! How do clients reach the queue? The native routes, Marketo's own, and the client of the native ones.

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, get, post};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub use metrics::Metrics;

use crate::clock::Clock;
use crate::intake::Intake;
use crate::retention::Keeper;
use crate::schedule::Lane;
use crate::store::Store;

use guesses::Guesses;
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
mod problem;
mod reports;
mod retry;
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
    /// One for each instance of the configuration.
    pub lanes: Vec<Lane>,
    pub started_at: Timestamp,
    pub keeper: Keeper,
    pub metrics: Arc<Metrics>,
    /// When this is cancelled, answers that wait end.
    pub stop: CancellationToken,
}

impl Daemon {
    fn lane(&self, name: &str) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.name() == name)
    }
}

type Shared = Arc<Daemon>;

/// A route that takes no parameters. A parameter that is not known is a mistake everywhere: on the other routes, what reads
/// theirs says so.
fn bare(route: MethodRouter<Shared>) -> MethodRouter<Shared> {
    route.layer(from_fn(problem::no_parameters))
}

/// The native API and the Marketo-compatible one. Each request must have its [`caller::Peer`] beside it.
pub fn router(daemon: Daemon) -> Router {
    let daemon = Arc::new(daemon);
    let of_a_job = Router::new()
        .route("/v1/jobs/{id}", get(jobs::show))
        .route("/v1/jobs/{id}/failures", get(reports::failures))
        .route("/v1/jobs/{id}/warnings", get(reports::warnings))
        .route("/v1/jobs/{id}/file", bare(get(reports::file)))
        .route("/v1/jobs/{id}/history", bare(get(jobs::history)))
        .route("/v1/jobs/{id}/explain", bare(get(jobs::explain)))
        .route("/v1/jobs/{id}/cancel", bare(post(jobs::cancel)))
        .route("/v1/jobs/{id}/retry", post(retry::retry))
        .route("/v1/jobs/{id}/settle", post(settle::settle))
        .route("/v1/jobs/{id}/erase", post(erase::job))
        .route_layer(from_fn_with_state(daemon.clone(), caller::own_job));
    let of_everyone = Router::new()
        .route("/v1/retention", post(erase::due))
        .route("/v1/backup", bare(get(backup::backup)))
        .route_layer(from_fn(caller::of_this_machine));
    let native = Router::new()
        .route("/v1/jobs", post(create::create).get(jobs::list))
        .merge(of_a_job)
        .merge(of_everyone)
        .route("/metrics", bare(get(metrics::metrics)))
        .route("/v1/events", bare(get(events::events)))
        .route("/v1/status", bare(get(status::status)))
        .route("/v1/instances/{name}/pause", bare(post(status::pause)))
        .route("/v1/instances/{name}/resume", bare(post(status::resume)))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(from_fn_with_state(daemon.clone(), caller::admit));
    // These ask by themselves who is there, or need not know.
    let open = Router::new()
        .route("/healthz", get(health::lives))
        .route("/readyz", get(health::ready))
        .method_not_allowed_fallback(problem::wrong_method)
        .merge(compat::routes());
    native.merge(open).with_state(daemon)
}
