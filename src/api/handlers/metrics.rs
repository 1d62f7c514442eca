//! `GET /metrics`: sets the gauges from the current state, and returns all metrics.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::api::auth::identity::Identity;
use crate::api::dto::{ComponentHealth, Problem};
use crate::api::handlers::status::instance_statuses;
use crate::api::metrics::Gauges;
use crate::api::state::{AppState, SharedState};
use crate::store::StoreError;

/// Handles `GET /metrics`.
pub(crate) async fn metrics(State(daemon): State<SharedState>, caller: Identity) -> Result<Response, Problem> {
    if let Identity::Client(client) = &caller
        && client.instances.is_some()
    {
        let detail =
            "the metrics cover all instances, and this client may use some of them only (api.clients.instances)";
        return Err(Problem::plain(StatusCode::FORBIDDEN, detail));
    }
    let text = daemon.metrics.scrape(async |gauges| set_gauges(&daemon, gauges).await).await?;
    Ok(([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}

async fn set_gauges(daemon: &AppState, gauges: &Gauges) -> Result<(), StoreError> {
    let schedulers = daemon.schedulers.iter().collect::<Vec<_>>();
    for (scheduler, status) in schedulers.iter().zip(instance_statuses(daemon, &schedulers).await?) {
        gauges.set_instance(scheduler.name(), &status, daemon.clock.now());
        let credentials = ComponentHealth::of_credentials(scheduler.credential_status(), status.pause.as_ref());
        gauges.set_credentials(scheduler.name(), &credentials);
    }
    let (size, pending) = (daemon.store.database_size().await?, daemon.store.pending_notifications().await?);
    gauges.set_daemon(daemon.started_at, size, pending);
    if let Some(report) = &daemon.drop {
        gauges.set_drop_folder(report);
    }
    Ok(())
}
