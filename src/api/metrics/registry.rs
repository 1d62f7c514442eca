//! Metrics registry: makes metrics by name and help text, and registers them.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Reason for the `expect`s: the names are constants, and the tests register all of them.
const VALID_NAMES: &str = "metric names are valid and unique";

/// Labels of a metric by instance.
pub(super) const INSTANCE: &[&str] = &["instance"];

/// Makes metrics and registers them.
#[derive(Default)]
pub(super) struct MetricsBuilder {
    /// Registry of the metrics made so far.
    pub registry: Registry,
}

impl MetricsBuilder {
    /// Makes a counter.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(name, help).expect(VALID_NAMES))
    }

    /// Makes a family of counters with these labels.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(name, help), labels).expect(VALID_NAMES))
    }

    /// Makes a gauge.
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(name, help).expect(VALID_NAMES))
    }

    /// Makes a family of gauges with these labels.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels).expect(VALID_NAMES))
    }

    /// Makes a histogram.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.register(
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())).expect(VALID_NAMES),
        )
    }

    /// Makes a family of histograms with these labels.
    pub fn histograms(&self, name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
        self.register(
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels).expect(VALID_NAMES),
        )
    }

    fn register<C: Collector + Clone + 'static>(&self, metric: C) -> C {
        self.registry.register(Box::new(metric.clone())).expect(VALID_NAMES);
        metric
    }
}
