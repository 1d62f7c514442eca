//! Response of `POST /v1/jobs/{id}/retry`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::dto::job::JobDto;

/// The job that is sent again, or the new one.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RetriedJob {
    /// The job.
    #[serde(flatten)]
    pub job: JobDto,
    /// With `rows=failed`: the number of failed rows that are not in the new job, because they can't be told from other
    /// rows that were sent.
    #[serde(default)]
    pub rows_without_line: u64,
    /// The first ten of them.
    #[serde(default)]
    pub without_line: Vec<ReportPlace>,
}

impl From<JobDto> for RetriedJob {
    fn from(job: JobDto) -> RetriedJob {
        RetriedJob { job, rows_without_line: 0, without_line: Vec::new() }
    }
}

/// A row of a batch's failure file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportPlace {
    /// The batch.
    pub part: u32,
    /// The line in the batch's failure file (`failures?part=`), its header being line 1.
    pub report_line: u64,
}
