//! Handlers of the native API: one module for each group of routes.

pub(super) mod backup;
pub mod create;
pub(super) mod derived_job;
pub(super) mod erase;
pub(super) mod events;
pub(super) mod file_check;
pub(super) mod health;
pub(super) mod instances;
pub(super) mod jobs;
pub(super) mod joined_report;
pub(super) mod metrics;
pub(super) mod queue;
pub(super) mod reasons;
pub(super) mod report_rows;
pub(super) mod reports;
pub(super) mod results;
pub(super) mod retry;
pub(super) mod retry_failed_rows;
pub(super) mod row_results;
pub(super) mod settle;
pub(super) mod stats;
pub(super) mod status;

pub(crate) use reasons::job_reasons;
