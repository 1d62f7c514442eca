//! `GET /metrics`: what is there to watch? Counters grow by the facts that the store tells after each commit; all else is
//! read when it is asked for.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::sync::{Mutex, mpsc};

use super::caller::Caller;
use super::types::{Answers, Problem};
use super::{Daemon, Shared, status};
use crate::store::Fact;

mod counted;
mod maker;
mod seen;

use counted::Counted;
use maker::Maker;
use seen::Seen;

/// All that is exported. Counters count from the daemon's start.
pub struct Metrics {
    registry: Registry,
    counted: Counted,
    seen: Seen,
    /// One scrape at a time: they share the gauges.
    scrapes: Mutex<()>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let maker = Maker::default();
        let build = maker.gauges("marqueue_build_info", "1, with the version of the program.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let (counted, seen) = (Counted::new(&maker), Seen::new(&maker));
        Metrics { registry: maker.0, counted, seen, scrapes: Mutex::default() }
    }
}

impl Metrics {
    /// Counts until the store closes.
    pub async fn count(&self, mut facts: mpsc::UnboundedReceiver<Fact>) {
        while let Some(fact) = facts.recv().await {
            self.counted.add(fact);
        }
    }

    async fn scrape(&self, daemon: &Daemon) -> Result<Vec<u8>, Problem> {
        let _one = self.scrapes.lock().await;
        for lane in &daemon.lanes {
            let status = status::of_lane(daemon, lane).await?;
            self.seen.instance(lane.name(), &status, daemon.clock.now());
            self.seen.credentials(lane.name(), &Answers::of_credentials(lane.credentials(), status.pause.as_ref()));
        }
        self.seen.whole(daemon.started_at, daemon.store.space().await?, daemon.store.notices_owed().await?);
        if let Some(report) = &daemon.drop {
            self.seen.drop_folder(report);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("memory takes text");
        Ok(text)
    }
}

pub(super) async fn metrics(State(daemon): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    if let Caller::Client(client) = &caller
        && client.instances.is_some()
    {
        let detail = "the metrics tell of all instances, and this client may use some only";
        return Err(Problem::plain(StatusCode::FORBIDDEN, detail));
    }
    let text = daemon.metrics.scrape(&daemon).await?;
    Ok(([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}
