//! Body of `GET /v1/jobs/{id}/reasons`: Marketo's reasons, with the rows of each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::delimited::{GroupedReason, ReasonGroup};

/// The reasons of a job's failed rows, and of those with warnings. Those with the most rows come first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Reasons")]
pub struct ReasonsDto {
    /// Of the failed rows, at most 100.
    pub failures: Vec<ReasonDto>,
    /// Of the rows with warnings, at most 100.
    pub warnings: Vec<ReasonDto>,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Reason")]
pub struct ReasonDto {
    /// Marketo's words. Reasons that differ only in values in quotes are one, with `…` in place of the values. Null for
    /// rows whose reason is unknown, because they are malformed or the job has more than 10,000 different reasons.
    pub reason: Option<String>,
    /// The number of rows.
    pub rows: u64,
    /// The smallest line of its rows in the submitted file; null where no row's line is known.
    pub first_line: Option<u64>,
}

impl From<ReasonGroup> for ReasonDto {
    fn from(group: ReasonGroup) -> ReasonDto {
        let ReasonGroup { reason, rows, first_line } = group;
        let reason = match reason {
            GroupedReason::Text(text) => Some(text),
            GroupedReason::Malformed | GroupedReason::Others => None,
        };
        ReasonDto { reason, rows, first_line }
    }
}
