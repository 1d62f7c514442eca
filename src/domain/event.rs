//! Events of a batch: what can happen to it, with the data of each event.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use strum::IntoStaticStr;

use crate::domain::failure_reason::FailureReason;
use crate::domain::import::{Counts, RemoteStatus};

/// Why an upload was deferred without using up an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum DeferReason {
    /// 1016: Marketo's queue has ten imports, those of other integrations included.
    QueueFull,
    /// 1019: another import into the same static list is in progress.
    ListBusy,
    /// 606, 615: too many calls within the window, or at the same time.
    Calls,
    /// 607, 401, 603: the instance is paused, not the batch.
    Instance,
    /// Marketo was not reachable, or reported that the service is down (429, 503, 608, 614).
    Service,
}

impl DeferReason {
    /// Returns the name in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The cause to which a failed upload is attributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureScope {
    /// An upload of another batch has succeeded since this batch's last upload: the attempt counts.
    Batch,
    /// No upload of the instance has succeeded since: the attempt does not count. If the failure before this one was
    /// that of another batch, the instance makes no upload before `backoff_until`.
    Instance {
        /// The end of the backoff.
        backoff_until: Timestamp,
        /// How long the batch will have been tried alone by then.
        tried_alone_for: Duration,
    },
    /// The daemon ended during the upload: the attempt does not count, and nothing is known about Marketo.
    Daemon,
}

/// An event of a batch. It is recorded in the same transaction as the transition that it causes.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Event {
    /// The upload is about to be sent. One attempt is counted.
    UploadBegan,
    /// The upload created no import, and the batch is not the cause. The attempt is not counted.
    Requeued {
        /// Why the upload is deferred.
        defer_reason: DeferReason,
        /// Marketo's message, or the cause of the failure.
        reason: FailureReason,
        /// When the next attempt may begin; none for at once.
        not_before: Option<Timestamp>,
    },
    /// Marketo refused temporarily, or the upload was interrupted: no import was created.
    Refused {
        /// Marketo's message, or the cause of the failure.
        reason: FailureReason,
        /// When the next attempt may begin.
        not_before: Timestamp,
        /// The cause to which the failure is attributed.
        scope: FailureScope,
    },
    /// The answer was lost, and the policy is to send again. The unconfirmed import occupies a slot until
    /// `unconfirmed_until`.
    AnswerLost {
        /// Marketo's message, or the cause of the failure.
        reason: FailureReason,
        /// When the next attempt may begin.
        not_before: Timestamp,
        /// Until when the unconfirmed import occupies a slot.
        unconfirmed_until: Timestamp,
        /// The cause to which the failure is attributed.
        scope: FailureScope,
    },
    /// The answer was lost, and the policy is to ask an operator. `unconfirmed_until` as above.
    Held {
        /// Marketo's message, or the cause of the failure.
        reason: FailureReason,
        /// Until when the unconfirmed import occupies a slot.
        unconfirmed_until: Timestamp,
        /// The cause to which the failure is attributed.
        scope: FailureScope,
    },
    /// Marketo found the batch too large (413), and it was split in two; or it refused an import that several jobs
    /// share, and the jobs are sent again in smaller ones. The attempt is not counted.
    Split {
        /// Marketo's message, or the cause of the failure.
        reason: String,
    },
    /// Marketo rejected the batch permanently.
    Rejected {
        /// Marketo's message, or the cause of the failure.
        reason: FailureReason,
    },
    /// The attempts are used up, or the batch was tried alone for too long. `unconfirmed_until` as above, where the
    /// last answer was lost.
    AttemptsExhausted {
        /// Marketo's message, or the cause of the failure.
        reason: FailureReason,
        /// Until when the unconfirmed import occupies a slot; none where the last answer was not lost.
        unconfirmed_until: Option<Timestamp>,
    },
    /// Marketo accepted the upload and created an import.
    Accepted {
        /// Marketo's id of the import.
        marketo_batch_id: String,
        /// The import's status.
        status: RemoteStatus,
    },
    /// An operator found the unconfirmed import on Marketo.
    Settled {
        /// Marketo's id of the import.
        marketo_batch_id: String,
    },
    /// A poll found the import queued or in progress. `waited` is the time since the last poll, as far as the clock was
    /// steady.
    Polled {
        /// The import's status.
        status: RemoteStatus,
        /// Marketo's row counts.
        counts: Counts,
        /// Time waited since the last poll.
        waited: Duration,
    },
    /// A poll returned an undocumented status, which is not taken for an end. The next poll is at `not_before`.
    UnknownStatus {
        /// Marketo's message, or the cause of the failure.
        reason: String,
        /// Time waited since the last poll.
        waited: Duration,
        /// When the next attempt may begin.
        not_before: Timestamp,
    },
    /// Marketo has not ended the import within `max_import_time`. It is still polled, and an operator may abandon it.
    Overdue {
        /// Marketo's message, or the cause of the failure.
        reason: String,
    },
    /// An operator abandoned an overdue import. It occupies a slot until `counts_until`.
    Abandoned {
        /// Until when the abandoned import occupies a slot.
        counts_until: Timestamp,
    },
    /// The import ended `Complete`.
    ImportEnded {
        /// Marketo's row counts.
        counts: Counts,
        /// Marketo's message.
        message: String,
    },
    /// The import ended `Failed`, or Marketo no longer knows it.
    ImportLost {
        /// Marketo's row counts.
        counts: Counts,
        /// Marketo's message, or the cause of the failure.
        reason: FailureReason,
    },
    /// The import that several jobs share ended `Failed`: each of them is sent again, alone.
    Unpacked {
        /// That the import failed. Marketo's message may be about the rows of another job.
        reason: FailureReason,
    },
    /// The failure and warning files are stored, where there are any.
    Collected,
    /// An operator cancelled it.
    Cancelled,
    /// An operator retried it.
    Retried,
}

impl Event {
    /// Returns the event with its ends of unconfirmed imports shifted by the milliseconds by which the clock was set
    /// since.
    pub fn moved(mut self, by_ms: i64) -> Event {
        let shift = |until: &mut Timestamp| {
            *until = until.saturating_add(SignedDuration::from_millis(by_ms)).unwrap_or(*until);
        };
        match &mut self {
            Event::AnswerLost { unconfirmed_until, .. } | Event::Held { unconfirmed_until, .. } => {
                shift(unconfirmed_until)
            }
            Event::AttemptsExhausted { unconfirmed_until: Some(until), .. }
            | Event::Abandoned { counts_until: until } => shift(until),
            _ => {}
        }
        self
    }

    /// Returns the name in the history.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// Returns whether the event ends an upload, with or without success.
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

    /// Returns the cause of a failed upload; none where the event implies it, or is no failure of an upload.
    pub fn failure_scope(&self) -> Option<FailureScope> {
        match self {
            Event::Refused { scope, .. } | Event::AnswerLost { scope, .. } | Event::Held { scope, .. } => Some(*scope),
            _ => None,
        }
    }

    /// Returns why a call to Marketo or an import failed; none for an event that is no such failure.
    pub fn failure_reason(&self) -> Option<&FailureReason> {
        match self {
            Event::Requeued { reason, .. }
            | Event::Refused { reason, .. }
            | Event::AnswerLost { reason, .. }
            | Event::Held { reason, .. }
            | Event::Rejected { reason }
            | Event::AttemptsExhausted { reason, .. }
            | Event::ImportLost { reason, .. }
            | Event::Unpacked { reason } => Some(reason),
            _ => None,
        }
    }

    /// Returns Marketo's message, the reason of the event, or the import's id.
    pub fn message(&self) -> Option<&str> {
        if let Some(reason) = self.failure_reason() {
            return Some(&reason.text);
        }
        match self {
            Event::Split { reason } | Event::UnknownStatus { reason, .. } | Event::Overdue { reason } => Some(reason),
            Event::ImportEnded { message, .. } => Some(message),
            Event::Accepted { marketo_batch_id, .. } | Event::Settled { marketo_batch_id } => Some(marketo_batch_id),
            _ => None,
        }
    }
}
