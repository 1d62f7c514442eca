//! What can happen to a batch?

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The four states of an import as Marketo names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RemoteStatus {
    Queued,
    Importing,
    Complete,
    Failed,
}

/// Rows of one batch as Marketo counted them. Each may be missing from an answer.
///
/// Processed means succeeded, so a file's rows are `processed + failed`; a row with a warning is a processed one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub processed: Option<u64>,
    pub failed: Option<u64>,
    pub warned: Option<u64>,
}

/// What an upload that used up no attempt has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeferReason {
    /// 1016: ten imports stand in Marketo's queue, ours and others'.
    QueueFull,
    /// 1019: another import fills the same static list.
    ListBusy,
    /// 606, 615: too many calls, in the window or at once.
    Calls,
    /// 607, 401, 603: the instance is paused, not the batch.
    Instance,
    /// Marketo could not be reached, or said that it is down for everyone (429, 503, 608, 614).
    Service,
}

impl DeferReason {
    pub fn as_str(self) -> &'static str {
        match self {
            DeferReason::QueueFull => "queue-full",
            DeferReason::ListBusy => "list-busy",
            DeferReason::Calls => "calls",
            DeferReason::Instance => "instance",
            DeferReason::Service => "service",
        }
    }
}

/// What a failed upload is put down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureScope {
    /// A create of another batch has succeeded since this batch's last upload: the attempt counts.
    Batch,
    /// Nothing of the instance has succeeded since: no attempt counts. Where the failure before this one was another
    /// batch's, the instance makes no upload before `backoff_until`.
    Instance {
        backoff_until: Timestamp,
        /// For how long the batch has been tried alone by then.
        tried_alone_for: Duration,
    },
    /// The daemon ended in the middle of it: no attempt counts, and it says nothing about Marketo.
    Daemon,
}

/// What happened to a batch. Each is recorded in the same transaction as the move that it causes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The next thing to leave is the upload. One attempt is counted.
    UploadBegan,
    /// The upload surely made no import and the batch is not to blame. The attempt is given back.
    Requeued { defer_reason: DeferReason, reason: String, not_before: Option<Timestamp> },
    /// Marketo refused in passing, or the upload broke off: nothing was made.
    Refused { reason: String, not_before: Timestamp, scope: FailureScope },
    /// The answer was lost, and the policy is to send again. Until `unconfirmed_until` the import that may exist counts as one.
    AnswerLost { reason: String, not_before: Timestamp, unconfirmed_until: Timestamp, scope: FailureScope },
    /// The answer was lost, and the policy is to ask a person. `unconfirmed_until` as above.
    Held { reason: String, unconfirmed_until: Timestamp, scope: FailureScope },
    /// Marketo found the batch too large (413), and it was cut in two. The attempt is given back.
    Split { reason: String },
    /// Marketo will never take this batch.
    Rejected { reason: String },
    /// The attempts are used up, or the batch was tried alone for too long. `unconfirmed_until` as above, where the last answer
    /// was lost.
    AttemptsExhausted { reason: String, unconfirmed_until: Option<Timestamp> },
    /// Marketo made an import of it.
    Accepted { marketo_batch_id: String, status: RemoteStatus },
    /// A person found the import on Marketo that nobody knew of.
    Settled { marketo_batch_id: String },
    /// Marketo was asked: the import waits or is being worked on.
    /// `waited` is how much longer it was waited for, as far as the clock can be believed.
    Polled { status: RemoteStatus, counts: Counts, waited: Duration },
    /// Marketo was asked, and gave a status word that nobody documents: that is no end. It is asked again at `not_before`.
    UnknownStatus { reason: String, waited: Duration, not_before: Timestamp },
    /// Marketo has not ended the import within `max_import_time`: it is followed on, and an operator may give it up.
    Overdue { reason: String },
    /// An operator gave up an import that Marketo does not end. Until `counts_until` it counts as one of ours.
    Abandoned { counts_until: Timestamp },
    /// The import ended `Complete`.
    ImportEnded { counts: Counts, message: String },
    /// The import ended `Failed`, or Marketo no longer knows it.
    ImportLost { counts: Counts, reason: String },
    /// The failure and warning files, where there are any, are stored.
    Collected,
    /// A person said to leave it.
    Cancelled,
    /// A person said to send it again.
    Retried,
}

impl Event {
    /// Returns the event as it reads by a clock that was set by so many milliseconds since: as much is left of the time for
    /// which an unconfirmed import counts.
    pub fn moved(mut self, by_ms: i64) -> Event {
        let move_end = |until: &mut Timestamp| {
            *until = until.saturating_add(SignedDuration::from_millis(by_ms)).unwrap_or(*until);
        };
        match &mut self {
            Event::AnswerLost { unconfirmed_until, .. } | Event::Held { unconfirmed_until, .. } => {
                move_end(unconfirmed_until)
            }
            Event::AttemptsExhausted { unconfirmed_until: Some(until), .. }
            | Event::Abandoned { counts_until: until } => move_end(until),
            _ => {}
        }
        self
    }

    /// The event's name in the history.
    pub fn name(&self) -> &'static str {
        match self {
            Event::UploadBegan => "upload-began",
            Event::Requeued { .. } => "requeued",
            Event::Refused { .. } => "refused",
            Event::AnswerLost { .. } => "answer-lost",
            Event::Held { .. } => "held",
            Event::Split { .. } => "split",
            Event::Rejected { .. } => "rejected",
            Event::AttemptsExhausted { .. } => "attempts-exhausted",
            Event::Accepted { .. } => "accepted",
            Event::Settled { .. } => "settled",
            Event::Polled { .. } => "polled",
            Event::UnknownStatus { .. } => "unknown-status",
            Event::Overdue { .. } => "overdue",
            Event::Abandoned { .. } => "abandoned",
            Event::ImportEnded { .. } => "import-ended",
            Event::ImportLost { .. } => "import-lost",
            Event::Collected => "collected",
            Event::Cancelled => "cancelled",
            Event::Retried => "retried",
        }
    }

    /// Whether an upload ended with it, however.
    pub fn ends_upload(&self) -> bool {
        matches!(
            self,
            Event::Requeued { .. }
                | Event::Refused { .. }
                | Event::AnswerLost { .. }
                | Event::Held { .. }
                | Event::Split { .. }
                | Event::Rejected { .. }
                | Event::AttemptsExhausted { .. }
                | Event::Accepted { .. }
        )
    }

    /// What a failed upload is put down to; none where the event says it in itself, or is no such failure.
    pub fn failure_scope(&self) -> Option<FailureScope> {
        match self {
            Event::Refused { scope: blame, .. }
            | Event::AnswerLost { scope: blame, .. }
            | Event::Held { scope: blame, .. } => Some(*blame),
            _ => None,
        }
    }

    /// What is to be said of it: Marketo's words, why it happened, or the import's id.
    pub fn message(&self) -> Option<&str> {
        match self {
            Event::Requeued { reason, .. }
            | Event::Refused { reason, .. }
            | Event::AnswerLost { reason, .. }
            | Event::Held { reason, .. }
            | Event::Split { reason }
            | Event::Rejected { reason }
            | Event::AttemptsExhausted { reason, .. }
            | Event::UnknownStatus { reason, .. }
            | Event::Overdue { reason }
            | Event::ImportLost { reason, .. } => Some(reason),
            Event::ImportEnded { message, .. } => Some(message),
            Event::Accepted { marketo_batch_id, .. } | Event::Settled { marketo_batch_id } => Some(marketo_batch_id),
            _ => None,
        }
    }
}
