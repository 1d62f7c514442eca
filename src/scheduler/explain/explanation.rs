//! The explanation of what a job waits for.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{JobId, JobState};

/// What a job waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The job.
    pub id: JobId,
    /// The job's state.
    pub state: JobState,
    /// What it waits for, for programs.
    pub waits_for: WaitReason,
    /// The same in a few sentences.
    pub text: String,
    /// When the job is checked again at the latest; none where that is unknown.
    pub until: Option<Timestamp>,
}

/// What a job can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WaitReason {
    /// Nothing: the job has ended.
    Nothing,
    /// An operator: a batch is held, or the instance has a pause that an operator made or has to end.
    Operator,
    /// The end of the quota day.
    Quota,
    /// The end of the instance's backoff: Marketo is unreachable, or all uploads fail.
    Service,
    /// The end of the batch's backoff after a refusal.
    Backoff,
    /// The job's earliest time. Its name is that of the parameter.
    #[serde(rename = "not_before")]
    NotBefore,
    /// An earlier job of its group.
    Group,
    /// Another import into its static list.
    List,
    /// A slot in Marketo's queue.
    Slot,
    /// The rate limiter: the limit of calls in the window is reached.
    Calls,
    /// The next plan, which may upload it.
    Turn,
    /// The upload that is under way.
    Upload,
    /// Marketo's queue.
    MarketoQueue,
    /// The end of the import.
    Import,
    /// Marketo's failure and warning files.
    Files,
}

/// What a job waits for, in a few words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What it waits for, for programs.
    pub waits_for: WaitReason,
    /// The same in a few words, without the job's name and without times.
    pub text: String,
    /// When the job is checked again at the latest; none where that is unknown.
    pub until: Option<Timestamp>,
}

/// The variable part of an explanation.
pub(super) struct Wait {
    pub(super) waits_for: WaitReason,
    /// The reason in a few words, for lists.
    pub(super) short: String,
    pub(super) text: String,
    pub(super) until: Option<Timestamp>,
}

impl Wait {
    /// Returns a wait whose end is unknown.
    pub(super) fn new(waits_for: WaitReason, short: impl Into<String>, text: impl Into<String>) -> Wait {
        Wait { waits_for, short: short.into(), text: text.into(), until: None }
    }

    pub(super) fn until(self, until: impl Into<Option<Timestamp>>) -> Wait {
        Wait { until: until.into(), ..self }
    }
}
