//! Metrics: counters, gauges and their registry, and the text that Prometheus reads.
//!
//! Counters grow by the metric events that the store publishes after each commit. Gauges are set at each scrape.

mod counters;
mod exporter;
mod gauges;
mod registry;

pub use exporter::Metrics;
pub(super) use gauges::Gauges;
