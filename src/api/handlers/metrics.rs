//! `GET /metrics`: sets the gauges from the current state, and returns all metrics.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::api::auth::identity::Identity;
use crate::api::dto::{ComponentHealth, InstanceStatus, Problem};
use crate::api::handlers::status::{STATUS_READERS, instance_status};
use crate::api::metrics::Gauges;
use crate::api::state::{AppState, SharedState};
use crate::scheduler::InstanceScheduler;
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

async fn scheduler_status<'a>(
    daemon: &AppState,
    scheduler: &'a InstanceScheduler,
) -> Result<(&'a InstanceScheduler, InstanceStatus), StoreError> {
    Ok((scheduler, instance_status(daemon, scheduler).await?))
}

async fn set_gauges(daemon: &AppState, gauges: &Gauges) -> Result<(), StoreError> {
    let mut reads = Vec::with_capacity(daemon.schedulers.len());
    for scheduler in &daemon.schedulers {
        reads.push(scheduler_status(daemon, scheduler));
    }
    let mut read = stream::iter(reads).buffer_unordered(STATUS_READERS);
    while let Some((scheduler, status)) = read.try_next().await? {
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
