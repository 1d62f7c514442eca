//! How do clients reach the queue? The native routes, and the client of the same routes.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub use metrics::Metrics;

use crate::clock::Clock;
use crate::intake::Intake;
use crate::retention::Keeper;
use crate::schedule::Lane;
use crate::store::Store;

mod backup;
pub mod client;
mod create;
mod erase;
mod events;
mod health;
mod jobs;
mod metrics;
mod problem;
mod reports;
mod retry;
pub mod server;
mod settle;
mod status;
pub mod types;

/// What the routes need of the daemon.
pub struct Daemon {
    pub store: Store,
    pub intake: Intake,
    pub clock: Clock,
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

/// The native API.
pub fn router(daemon: Daemon) -> Router {
    Router::new()
        .route("/v1/jobs", post(create::create).get(jobs::list))
        .route("/v1/jobs/{id}", get(jobs::show))
        .route("/v1/jobs/{id}/failures", get(reports::failures))
        .route("/v1/jobs/{id}/warnings", get(reports::warnings))
        .route("/v1/jobs/{id}/file", get(reports::file))
        .route("/v1/jobs/{id}/history", get(jobs::history))
        .route("/v1/jobs/{id}/explain", get(jobs::explain))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{id}/retry", post(retry::retry))
        .route("/v1/jobs/{id}/settle", post(settle::settle))
        .route("/v1/jobs/{id}/erase", post(erase::job))
        .route("/v1/retention", post(erase::due))
        .route("/v1/events", get(events::events))
        .route("/v1/backup", get(backup::backup))
        .route("/v1/status", get(status::status))
        .route("/v1/instances/{name}/pause", post(status::pause))
        .route("/v1/instances/{name}/resume", post(status::resume))
        .route("/healthz", get(health::lives))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::wrong_method)
        .with_state(Arc::new(daemon))
}
