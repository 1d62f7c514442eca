//! Shared report: divides the failure and warning files of an import of several jobs among them.
//!
//! A report's row belongs to the job that sent the row that it is matched to. A row without a match belongs to nobody,
//! so that no job is shown a row of another.

mod divided_report;
mod divider;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;
mod types;

pub use divider::ReportDivider;
pub use types::{JobReport, JobReports, RawReports, UnknownRows};
