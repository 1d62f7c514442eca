//! Body of `GET /v1/jobs/{id}/explain`: what a job waits for.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::TimestampSchema;
use crate::domain::{JobId, JobState};
use crate::scheduler::estimate::Estimate;
use crate::scheduler::explain::{Explanation, WaitReason, Waiting};

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
    /// The same in a few sentences.
    pub text: String,
    /// When the job is checked again at the latest; none where that is unknown.
    #[schemars(with = "Option<TimestampSchema>")]
    pub until: Option<Timestamp>,
    /// When its first upload will probably begin; none where it has begun, or nothing is known.
    #[schemars(with = "Option<TimestampSchema>")]
    #[serde(default)]
    pub estimated_start: Option<Timestamp>,
    /// When its last import will probably end; none where nothing is known.
    #[schemars(with = "Option<TimestampSchema>")]
    #[serde(default)]
    pub estimated_end: Option<Timestamp>,
}

impl ExplanationDto {
    /// Returns the body for an explanation and an estimate of the same job.
    pub fn new(explanation: Explanation, estimate: Estimate) -> ExplanationDto {
        let Explanation { id, state, waits_for, text, until } = explanation;
        let Estimate { start, end } = estimate;
        ExplanationDto { id, state, waits_for, text, until, estimated_start: start, estimated_end: end }
    }
}

/// What a job waits for, in a few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Waiting")]
pub struct WaitingDto {
    /// What it waits for, for programs.
    pub waits_for: WaitReason,
    /// The same in a few words, without times.
    pub text: String,
    /// When the job is checked again at the latest; none where that is unknown.
    #[schemars(with = "Option<TimestampSchema>")]
    pub until: Option<Timestamp>,
}

impl From<Waiting> for WaitingDto {
    fn from(waiting: Waiting) -> WaitingDto {
        let Waiting { waits_for, text, until } = waiting;
        WaitingDto { waits_for, text, until }
    }
}
