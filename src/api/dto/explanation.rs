//! Body of `GET /v1/jobs/{id}/explain`: what a job waits for.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::TimestampSchema;
use crate::domain::{JobId, JobState};
use crate::scheduler::explain::{Explanation, WaitReason};

/// What a job waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Explanation")]
pub struct ExplanationDto {
    /// The job.
    pub id: JobId,
    /// The job's state.
    pub state: JobState,
    /// What it waits for, for programs.
    pub waits_for: WaitReason,
    /// The same in one or two sentences.
    pub text: String,
    /// When the job is checked again at the latest; none where that is unknown.
    #[schemars(with = "Option<TimestampSchema>")]
    pub until: Option<Timestamp>,
}

impl From<Explanation> for ExplanationDto {
    fn from(explanation: Explanation) -> ExplanationDto {
        let Explanation { id, state, waits_for, text, until } = explanation;
        ExplanationDto { id, state, waits_for, text, until }
    }
}
