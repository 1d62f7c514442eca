//! What may a batch do next? The table of legal moves, and how a job's state follows from its batches.
//!
//! A state is written down before the act that it announces, so a state names what may be going on at this moment,
//! never what will surely be done.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::event::{Event, RemoteStatus};
use crate::domain::{ParseEnumError, parse_enum};

/// The state of a job, as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// The file is still streaming in. The job does not exist for the scheduler, and a restart sweeps it away.
    Receiving,
    Pending,
    Running,
    /// Every batch ended `Complete` on Marketo, rows that failed included.
    Complete,
    Failed,
    Cancelled,
}

impl JobState {
    pub const ALL: [JobState; 6] = [
        JobState::Receiving,
        JobState::Pending,
        JobState::Running,
        JobState::Complete,
        JobState::Failed,
        JobState::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Receiving => "receiving",
            JobState::Pending => "pending",
            JobState::Running => "running",
            JobState::Complete => "complete",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }

    /// Nothing more will happen to the job unless a person asks for it.
    pub fn is_terminal(self) -> bool {
        matches!(self, JobState::Complete | JobState::Failed | JobState::Cancelled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, ParseEnumError> {
        parse_enum("state", text, &JobState::ALL, JobState::as_str)
    }
}

/// The state of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BatchState {
    Pending,
    /// An upload may be under way: written down before the request leaves.
    Uploading,
    Queued,
    Importing,
    /// Marketo is done; its failure and warning files are being fetched.
    Collecting,
    Complete,
    Failed,
    Cancelled,
    /// The outcome of its upload is unknown, and the policy is to ask a person. Batches of which Marketo has not ended the
    /// import within `max_import_time` are shown as held too; to the table of moves they are what Marketo says.
    Held,
}

impl BatchState {
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

    pub fn as_str(self) -> &'static str {
        match self {
            BatchState::Pending => "pending",
            BatchState::Uploading => "uploading",
            BatchState::Queued => "queued",
            BatchState::Importing => "importing",
            BatchState::Collecting => "collecting",
            BatchState::Complete => "complete",
            BatchState::Failed => "failed",
            BatchState::Cancelled => "cancelled",
            BatchState::Held => "held",
        }
    }

    /// Nothing more will happen to the batch unless a person asks for it.
    pub fn is_terminal(self) -> bool {
        matches!(self, BatchState::Complete | BatchState::Failed | BatchState::Cancelled)
    }

    /// The batch holds, or may hold, one of Marketo's places: an upload under way may already have been accepted.
    pub fn occupies_slot(self) -> bool {
        matches!(self, BatchState::Uploading | BatchState::Queued | BatchState::Importing)
    }
}

impl fmt::Display for BatchState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BatchState {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, ParseEnumError> {
        parse_enum("state", text, &BatchState::ALL, BatchState::as_str)
    }
}

/// A move that is not in the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a batch that is {from} can't be moved by \"{event}\"")]
pub struct IllegalTransitionError {
    pub from: BatchState,
    pub event: &'static str,
}

/// The table of legal moves: the state that follows `from` when `event` happens.
///
/// # Errors
/// [`Illegal`] where the event can't happen to a batch in that state. The caller then changes nothing.
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
        // A status that has already ended is not trusted from the upload's answer: the next poll brings it with counts.
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
        (S::Collecting, Event::Collected) => S::Complete,
        // What Marketo holds can't be called back, so only what is not there can be cancelled.
        (S::Pending | S::Held, Event::Cancelled) => S::Cancelled,
        (S::Failed | S::Cancelled | S::Held, Event::Retried) => S::Pending,
        _ => return Err(IllegalTransitionError { from, event: event.name() }),
    };
    Ok(to)
}

/// A job's state, from those of its batches. The job's file is whole, so it is never `receiving`.
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
    use crate::domain::event::{Counts, DeferReason, FailureScope};
    use BatchState as S;

    fn every_event() -> Vec<Event> {
        let reason = String::from("because");
        let counts = Counts::default();
        vec![
            Event::UploadBegan,
            Event::Requeued { defer_reason: DeferReason::QueueFull, reason: reason.clone(), not_before: None },
            Event::Refused { reason: reason.clone(), not_before: Timestamp::UNIX_EPOCH, scope: FailureScope::Batch },
            Event::AnswerLost {
                reason: reason.clone(),
                not_before: Timestamp::UNIX_EPOCH,
                unconfirmed_until: Timestamp::UNIX_EPOCH,
                scope: FailureScope::Batch,
            },
            Event::Held {
                reason: reason.clone(),
                unconfirmed_until: Timestamp::UNIX_EPOCH,
                scope: FailureScope::Batch,
            },
            Event::Split { reason: reason.clone() },
            Event::Rejected { reason: reason.clone() },
            Event::AttemptsExhausted { reason: reason.clone(), unconfirmed_until: None },
            Event::Accepted { marketo_batch_id: "1".into(), status: RemoteStatus::Queued },
            Event::Settled { marketo_batch_id: "1".into() },
            Event::Polled { status: RemoteStatus::Importing, counts, waited: Duration::ZERO },
            Event::UnknownStatus { reason: reason.clone(), waited: Duration::ZERO, not_before: Timestamp::UNIX_EPOCH },
            Event::Overdue { reason: reason.clone() },
            Event::Abandoned { counts_until: Timestamp::UNIX_EPOCH },
            Event::ImportEnded { counts, message: String::new() },
            Event::ImportLost { counts, reason },
            Event::Collected,
            Event::Cancelled,
            Event::Retried,
        ]
    }

    #[test]
    fn the_table_of_moves_is_this_and_no_more() {
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
             importing + polled = importing\n\
             importing + unknown-status = importing\n\
             importing + overdue = importing\n\
             importing + abandoned = cancelled\n\
             importing + import-ended = collecting\n\
             importing + import-lost = failed\n\
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
            for event in every_event() {
                assert_ne!(transition(from, &event), Ok(S::Pending), "{from} + {}", event.name());
            }
        }
    }

    #[test]
    fn a_job_is_what_its_batches_make_it() {
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
