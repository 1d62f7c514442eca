//! `GET /metrics`: what is there to watch? Counters grow by the facts that the store tells after each commit; all else is
//! read when it is asked for.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::sync::{Mutex, mpsc};

use crate::api::auth::identity::Identity;
use crate::api::dto::{ComponentHealth, Problem};
use crate::api::handlers::status;
use crate::api::{AppState, SharedState};
use crate::store::MetricEvent;

mod counters;
mod gauges;
mod registry;

use crate::api::metrics::counters::Counters;
use crate::api::metrics::gauges::Gauges;
use crate::api::metrics::registry::MetricsBuilder;

/// All that is exported. Counters count from the daemon's start.
pub struct Metrics {
    registry: Registry,
    counted: Counters,
    seen: Gauges,
    /// One scrape at a time: they share the gauges.
    scrapes: Mutex<()>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let maker = MetricsBuilder::default();
        let build = maker.gauges("marqueue_build_info", "1, with the version of the program.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let (counted, seen) = (Counters::new(&maker), Gauges::new(&maker));
        Metrics { registry: maker.0, counted, seen, scrapes: Mutex::default() }
    }
}

impl Metrics {
    /// Counts until the store closes.
    pub async fn count(&self, mut facts: mpsc::UnboundedReceiver<MetricEvent>) {
        while let Some(fact) = facts.recv().await {
            self.counted.add(fact);
        }
    }

    async fn scrape(&self, daemon: &AppState) -> Result<Vec<u8>, Problem> {
        let _one = self.scrapes.lock().await;
        for lane in &daemon.schedulers {
            let status = status::of_lane(daemon, lane).await?;
            self.seen.instance(lane.name(), &status, daemon.clock.now());
            self.seen.credentials(
                lane.name(),
                &ComponentHealth::of_credentials(lane.credential_status(), status.pause.as_ref()),
            );
        }
        self.seen.whole(
            daemon.started_at,
            daemon.store.database_size().await?,
            daemon.store.pending_notifications().await?,
        );
        if let Some(report) = &daemon.drop {
            self.seen.drop_folder(report);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("memory takes text");
        Ok(text)
    }
}

pub(super) async fn metrics(State(daemon): State<SharedState>, caller: Identity) -> Result<Response, Problem> {
    if let Identity::Client(client) = &caller
        && client.instances.is_some()
    {
        let detail = "the metrics tell of all instances, and this client may use some only";
        return Err(Problem::plain(StatusCode::FORBIDDEN, detail));
    }
    let text = daemon.metrics.scrape(&daemon).await?;
    Ok(([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}
