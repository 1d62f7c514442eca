//! State machine: the states of jobs and batches, the legal transitions, and the derivation of a job's state.
//!
//! A state is stored before the action that it stands for, so it names what may be in progress, not what has happened.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

use crate::domain::enum_text::{ParseEnumError, parse_enum};
use crate::domain::event::Event;
use crate::domain::import::RemoteStatus;

/// The state of a job, as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, Display, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum JobState {
    /// The file is still being received. The scheduler ignores the job, and a restart deletes it.
    Receiving,
    /// No batch has been uploaded.
    Pending,
    /// Some batch has been uploaded, and not all have ended.
    Running,
    /// The imports of all batches ended `Complete`; rows of them may have failed.
    Complete,
    /// All batches have ended, and some have failed.
    Failed,
    /// All batches have ended, some are cancelled, and none has failed.
    Cancelled,
}

impl JobState {
    /// All states.
    pub const ALL: [JobState; 6] = [
        JobState::Receiving,
        JobState::Pending,
        JobState::Running,
        JobState::Complete,
        JobState::Failed,
        JobState::Cancelled,
    ];

    /// Returns the name in the database and the API.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns whether the job has ended. Only a command of an operator changes it then.
    pub fn is_terminal(self) -> bool {
        matches!(self, JobState::Complete | JobState::Failed | JobState::Cancelled)
    }
}

impl FromStr for JobState {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, ParseEnumError> {
        parse_enum("state", text, &JobState::ALL)
    }
}

/// The state of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, Display, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum BatchState {
    /// It waits for its upload.
    Pending,
    /// An upload may be in progress. The state is stored before the request is sent.
    Uploading,
    /// Its import waits in Marketo's queue.
    Queued,
    /// Its import is in progress.
    Importing,
    /// Its import has ended, and the failure and warning files are being downloaded.
    Collecting,
    /// Its import has ended, and its reports are stored.
    Complete,
    /// Marketo rejected it, or its attempts are used up.
    Failed,
    /// An operator cancelled it.
    Cancelled,
    /// The result of its upload is unknown, and the policy is to ask an operator. A batch with an overdue import is
    /// shown as held too; its stored state remains the status of the import.
    Held,
}

impl BatchState {
    /// All states.
    pub const ALL: [BatchState; 9] = [
        BatchState::Pending,
        BatchState::Uploading,
        BatchState::Queued,
        BatchState::Importing,
        BatchState::Collecting,
        BatchState::Complete,
        BatchState::Failed,
        BatchState::Cancelled,
        BatchState::Held,
    ];

    /// Returns the name in the database and the API.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns whether the batch has ended. Only a command of an operator changes it then.
    pub fn is_terminal(self) -> bool {
        matches!(self, BatchState::Complete | BatchState::Failed | BatchState::Cancelled)
    }

    /// Returns whether the batch occupies, or may occupy, a slot of Marketo's queue. An upload in progress may already
    /// have been accepted.
    pub fn occupies_slot(self) -> bool {
        matches!(self, BatchState::Uploading | BatchState::Queued | BatchState::Importing)
    }
}

impl FromStr for BatchState {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, ParseEnumError> {
        parse_enum("state", text, &BatchState::ALL)
    }
}

/// A transition that the state machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event \"{event}\" is not possible for a batch in state {from}")]
pub struct IllegalTransitionError {
    /// The batch's state.
    pub from: BatchState,
    /// The event's name.
    pub event: &'static str,
}

/// Returns the state of a batch after `event`, from its state `from`.
///
/// # Errors
/// [`IllegalTransitionError`] where the event is not possible in that state. The caller then changes nothing.
pub fn transition(from: BatchState, event: &Event) -> Result<BatchState, IllegalTransitionError> {
    use BatchState as S;
    let to = match (from, event) {
        (S::Pending, Event::UploadBegan) => S::Uploading,
        (
            S::Uploading,
            Event::Requeued { .. } | Event::Refused { .. } | Event::AnswerLost { .. } | Event::Split { .. },
        ) => S::Pending,
        (S::Uploading, Event::Held { .. }) => S::Held,
        (S::Uploading, Event::Rejected { .. } | Event::AttemptsExhausted { .. }) => S::Failed,
        // A final status in the upload's response is ignored: the next poll returns it with counts.
        (S::Uploading, Event::Accepted { status, .. }) => match status {
            RemoteStatus::Queued => S::Queued,
            _ => S::Importing,
        },
        (S::Held, Event::Settled { .. }) => S::Queued,
        (S::Queued | S::Importing, Event::Polled { status, .. }) => match status {
            RemoteStatus::Queued => S::Queued,
            _ => S::Importing,
        },
        (S::Queued | S::Importing, Event::UnknownStatus { .. } | Event::Overdue { .. }) => from,
        (S::Queued | S::Importing, Event::Abandoned { .. }) => S::Cancelled,
        (S::Queued | S::Importing, Event::ImportEnded { .. }) => S::Collecting,
        (S::Queued | S::Importing | S::Collecting, Event::ImportLost { .. }) => S::Failed,
        (S::Queued | S::Importing, Event::Unpacked { .. }) => S::Pending,
        (S::Collecting, Event::Collected) => S::Complete,
        // An import can't be undone, so only batches without a known one can be cancelled.
        (S::Pending | S::Held, Event::Cancelled) => S::Cancelled,
        (S::Failed | S::Cancelled | S::Held, Event::Retried) => S::Pending,
        _ => return Err(IllegalTransitionError { from, event: event.name() }),
    };
    Ok(to)
}

/// Derives a job's state from those of its batches. The job's file is complete, so the result is never `receiving`.
pub fn job_state(batches: impl IntoIterator<Item = BatchState>) -> JobState {
    let (mut untouched, mut open, mut failed, mut cancelled) = (true, false, false, false);
    for state in batches {
        untouched &= state == BatchState::Pending;
        open |= !state.is_terminal();
        failed |= state == BatchState::Failed;
        cancelled |= state == BatchState::Cancelled;
    }
    match () {
        () if open && untouched => JobState::Pending,
        () if open => JobState::Running,
        () if failed => JobState::Failed,
        () if cancelled => JobState::Cancelled,
        () => JobState::Complete,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::domain::event::{DeferReason, FailureScope};
    use crate::domain::import::Counts;
    use BatchState as S;

    fn every_event() -> Vec<Event> {
        let reason = String::from("because");
        let counts = Counts::default();
        vec![
            Event::UploadBegan,
            Event::Requeued { defer_reason: DeferReason::QueueFull, reason: reason.clone().into(), not_before: None },
            Event::Refused {
                reason: reason.clone().into(),
                not_before: Timestamp::UNIX_EPOCH,
                scope: FailureScope::Batch,
            },
            Event::AnswerLost {
                reason: reason.clone().into(),
                not_before: Timestamp::UNIX_EPOCH,
                unconfirmed_until: Timestamp::UNIX_EPOCH,
                scope: FailureScope::Batch,
            },
            Event::Held {
                reason: reason.clone().into(),
                unconfirmed_until: Timestamp::UNIX_EPOCH,
                scope: FailureScope::Batch,
            },
            Event::Split { reason: reason.clone() },
            Event::Rejected { reason: reason.clone().into() },
            Event::AttemptsExhausted { reason: reason.clone().into(), unconfirmed_until: None },
            Event::Accepted { marketo_batch_id: "1".into(), status: RemoteStatus::Queued },
            Event::Settled { marketo_batch_id: "1".into() },
            Event::Polled { status: RemoteStatus::Importing, counts, waited: Duration::ZERO },
            Event::UnknownStatus { reason: reason.clone(), waited: Duration::ZERO, not_before: Timestamp::UNIX_EPOCH },
            Event::Overdue { reason: reason.clone() },
            Event::Abandoned { counts_until: Timestamp::UNIX_EPOCH },
            Event::ImportEnded { counts, message: String::new() },
            Event::ImportLost { counts, reason: reason.clone().into() },
            Event::Unpacked { reason: reason.into() },
            Event::Collected,
            Event::Cancelled,
            Event::Retried,
        ]
    }

    #[test]
    fn the_transition_table_is_complete() {
        let mut table = String::new();
        for from in S::ALL {
            for event in every_event() {
                if let Ok(to) = transition(from, &event) {
                    table += &format!("{from} + {} = {to}\n", event.name());
                }
            }
        }
        assert_eq!(
            table,
            "pending + upload-began = uploading\n\
             pending + cancelled = cancelled\n\
             uploading + requeued = pending\n\
             uploading + refused = pending\n\
             uploading + answer-lost = pending\n\
             uploading + held = held\n\
             uploading + split = pending\n\
             uploading + rejected = failed\n\
             uploading + attempts-exhausted = failed\n\
             uploading + accepted = queued\n\
             queued + polled = importing\n\
             queued + unknown-status = queued\n\
             queued + overdue = queued\n\
             queued + abandoned = cancelled\n\
             queued + import-ended = collecting\n\
             queued + import-lost = failed\n\
             queued + unpacked = pending\n\
             importing + polled = importing\n\
             importing + unknown-status = importing\n\
             importing + overdue = importing\n\
             importing + abandoned = cancelled\n\
             importing + import-ended = collecting\n\
             importing + import-lost = failed\n\
             importing + unpacked = pending\n\
             collecting + import-lost = failed\n\
             collecting + collected = complete\n\
             failed + retried = pending\n\
             cancelled + retried = pending\n\
             held + settled = queued\n\
             held + cancelled = cancelled\n\
             held + retried = pending\n"
        );
    }

    #[test]
    fn no_event_resends_an_import_that_marketo_has() {
        for from in [S::Queued, S::Importing, S::Collecting] {
            // Marketo has ended that import, as failed.
            let has_failed = |event: &Event| matches!(event, Event::Unpacked { .. });
            for event in every_event().into_iter().filter(|event| !has_failed(event)) {
                assert_ne!(transition(from, &event), Ok(S::Pending), "{from} + {}", event.name());
            }
        }
    }

    #[test]
    fn the_state_of_a_job_follows_from_its_batches() {
        for (batches, expected) in [
            (vec![S::Pending, S::Pending], JobState::Pending),
            (vec![S::Pending, S::Uploading], JobState::Running),
            (vec![S::Complete, S::Pending], JobState::Running),
            (vec![S::Held], JobState::Running),
            (vec![S::Failed, S::Importing], JobState::Running),
            (vec![S::Complete, S::Complete], JobState::Complete),
            (vec![S::Complete, S::Failed, S::Cancelled], JobState::Failed),
            (vec![S::Complete, S::Cancelled], JobState::Cancelled),
        ] {
            assert_eq!(job_state(batches.clone()), expected, "{batches:?}");
        }
    }
}
