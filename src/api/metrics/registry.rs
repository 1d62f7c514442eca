//! How is a metric made? Under its name, with its help, and known to the registry.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Names and texts are of this house, so none of it can go wrong: the tests make them all.
const GOOD: &str = "the names of the metrics are good, and each is there once";

/// The label of nearly all.
pub(super) const INSTANCE: &[&str] = &["instance"];

#[derive(Default)]
pub(super) struct MetricsBuilder(pub Registry);

impl MetricsBuilder {
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep(IntCounter::new(name, help).expect(GOOD))
    }

    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels).expect(GOOD))
    }

    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.keep(IntGauge::new(name, help).expect(GOOD))
    }

    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels).expect(GOOD))
    }

    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.keep(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())).expect(GOOD))
    }

    pub fn histograms(&self, name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
        self.keep(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels).expect(GOOD))
    }

    fn keep<C: Collector + Clone + 'static>(&self, made: C) -> C {
        self.0.register(Box::new(made.clone())).expect(GOOD);
        made
    }
}
