//! Exporter of the metrics: counts the store's events and writes Prometheus' text format.

use prometheus::{Encoder, Registry, TextEncoder};
use tokio::sync::{Mutex, mpsc};

use crate::api::metrics::counters::Counters;
use crate::api::metrics::gauges::Gauges;
use crate::api::metrics::registry::MetricsBuilder;
use crate::store::MetricEvent;

/// The exported metrics. Counters start at 0 when the daemon starts.
pub struct Metrics {
    registry: Registry,
    counters: Counters,
    /// Behind a lock that serialises scrapes.
    gauges: Mutex<Gauges>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let builder = MetricsBuilder::default();
        let build = builder.gauges("marqueue_build_info", "1, with the version of the program.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let (counters, gauges) = (Counters::new(&builder), Gauges::new(&builder));
        Metrics { registry: builder.registry, counters, gauges: Mutex::new(gauges) }
    }
}

impl Metrics {
    /// Adds metric events to the counters until the store closes.
    pub async fn count(&self, mut events: mpsc::UnboundedReceiver<MetricEvent>) {
        while let Some(event) = events.recv().await {
            self.counters.add(event);
        }
    }

    /// Returns all metrics as text, after `set` has set the gauges. One scrape runs at a time.
    ///
    /// # Errors
    /// Those of `set`.
    pub(in crate::api) async fn scrape<E>(
        &self,
        set: impl AsyncFnOnce(&Gauges) -> Result<(), E>,
    ) -> Result<Vec<u8>, E> {
        let gauges = self.gauges.lock().await;
        set(&gauges).await?;
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("writing into memory does not fail");
        Ok(text)
    }
}
