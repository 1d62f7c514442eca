//! What can happen to a batch?

use std::time::Duration;

use jiff::Timestamp;
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
pub enum Wait {
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

impl Wait {
    pub fn as_str(self) -> &'static str {
        match self {
            Wait::QueueFull => "queue-full",
            Wait::ListBusy => "list-busy",
            Wait::Calls => "calls",
            Wait::Instance => "instance",
            Wait::Service => "service",
        }
    }
}

/// What a failed upload is put down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// A create of another batch has succeeded since this batch's last upload: the attempt counts.
    Batch,
    /// Nothing of the instance has succeeded since: no attempt counts. Where the failure before this one was another
    /// batch's, the instance makes no upload before `quiet_until`.
    Instance {
        quiet_until: Timestamp,
        /// For how long the batch has been tried alone by then.
        alone: Duration,
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
    PutBack { wait: Wait, reason: String, not_before: Option<Timestamp> },
    /// Marketo refused in passing, or the upload broke off: nothing was made.
    Refused { reason: String, not_before: Timestamp, blame: Blame },
    /// The answer was lost, and the policy is to send again. Until `ghost_until` the import that may exist counts as one.
    AnswerLost { reason: String, not_before: Timestamp, ghost_until: Timestamp, blame: Blame },
    /// The answer was lost, and the policy is to ask a person. `ghost_until` as above.
    Held { reason: String, ghost_until: Timestamp, blame: Blame },
    /// Marketo found the batch too large (413), and it was cut in two. The attempt is given back.
    Halved { reason: String },
    /// Marketo will never take this batch.
    Rejected { reason: String },
    /// The attempts are used up, or the batch was tried alone for too long. `ghost_until` as above, where the last answer
    /// was lost.
    GivenUp { reason: String, ghost_until: Option<Timestamp> },
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
    Ended { counts: Counts, message: String },
    /// The import ended `Failed`, or Marketo no longer knows it.
    Lost { counts: Counts, reason: String },
    /// The failure and warning files, where there are any, are stored.
    Collected,
    /// A person said to leave it.
    Cancelled,
    /// A person said to send it again.
    Retried,
}

impl Event {
    /// The event's name in the history.
    pub fn name(&self) -> &'static str {
        match self {
            Event::UploadBegan => "upload-began",
            Event::PutBack { .. } => "put-back",
            Event::Refused { .. } => "refused",
            Event::AnswerLost { .. } => "answer-lost",
            Event::Held { .. } => "held",
            Event::Halved { .. } => "halved",
            Event::Rejected { .. } => "rejected",
            Event::GivenUp { .. } => "given-up",
            Event::Accepted { .. } => "accepted",
            Event::Settled { .. } => "settled",
            Event::Polled { .. } => "polled",
            Event::UnknownStatus { .. } => "unknown-status",
            Event::Overdue { .. } => "overdue",
            Event::Abandoned { .. } => "abandoned",
            Event::Ended { .. } => "import-ended",
            Event::Lost { .. } => "import-lost",
            Event::Collected => "collected",
            Event::Cancelled => "cancelled",
            Event::Retried => "retried",
        }
    }

    /// Whether an upload ended with it, however.
    pub fn ends_upload(&self) -> bool {
        matches!(
            self,
            Event::PutBack { .. }
                | Event::Refused { .. }
                | Event::AnswerLost { .. }
                | Event::Held { .. }
                | Event::Halved { .. }
                | Event::Rejected { .. }
                | Event::GivenUp { .. }
                | Event::Accepted { .. }
        )
    }

    /// What a failed upload is put down to; none where the event says it in itself, or is no such failure.
    pub fn blame(&self) -> Option<Blame> {
        match self {
            Event::Refused { blame, .. } | Event::AnswerLost { blame, .. } | Event::Held { blame, .. } => Some(*blame),
            _ => None,
        }
    }

    /// What is to be said of it: Marketo's words, why it happened, or the import's id.
    pub fn words(&self) -> Option<&str> {
        match self {
            Event::PutBack { reason, .. }
            | Event::Refused { reason, .. }
            | Event::AnswerLost { reason, .. }
            | Event::Held { reason, .. }
            | Event::Halved { reason }
            | Event::Rejected { reason }
            | Event::GivenUp { reason, .. }
            | Event::UnknownStatus { reason, .. }
            | Event::Overdue { reason }
            | Event::Lost { reason, .. } => Some(reason),
            Event::Ended { message, .. } => Some(message),
            Event::Accepted { marketo_batch_id, .. } | Event::Settled { marketo_batch_id } => Some(marketo_batch_id),
            _ => None,
        }
    }
}
