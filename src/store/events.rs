//! Change events and metric events, published after the commit that they describe.
//!
//! The writer task publishes them, since everything that is counted is written by it.

use std::time::Duration;

use crate::domain::row_counts::RowCounts;
use crate::domain::{BatchKey, Event, FailureReason, JobId, JobState};

/// Names what a commit changed. The new value has to be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ChangeEvent {
    /// A job was created, or its state or its stored data changed.
    Job(JobId),
    /// A batch changed.
    Batch(BatchKey),
    /// A pause or the backoff of the instance changed.
    Instance(String),
    /// Delivered to [`crate::store::Store::subscribe_metrics`] only.
    Metric(MetricEvent),
    /// Delivered to [`crate::store::Store::subscribe_wakes`] only.
    Wake(WakeEvent),
}

/// A change that may matter to the next plan of an instance. Each write that changes a job, a batch or an instance has
/// one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WakeEvent {
    /// The name of the instance.
    pub instance: String,
    /// What changed.
    pub change: InstanceChange,
}

/// What changed in an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InstanceChange {
    /// A job was accepted.
    NewJob,
    /// A batch had an event; where it shares an import, this is the batch that leads the import.
    Batch(BatchKey),
    /// A pause or the backoff changed, or the data of a job.
    Other,
}

/// One event that the metrics count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MetricEvent {
    /// A file was accepted as a job; its size in bytes.
    Accepted {
        /// The name of the instance.
        instance: String,
        /// The size of the file in bytes.
        bytes: u64,
    },
    /// An event of a batch; `code` is Marketo's code or the HTTP status, where the event is a refusal or a failure.
    Event {
        /// The name of the instance.
        instance: String,
        /// The event's name.
        event: &'static str,
        /// Marketo's error code or the HTTP status; none unless the event is a failure.
        code: Option<String>,
    },
    /// Marketo's row counts of an import that ended.
    Rows {
        /// The name of the instance.
        instance: String,
        /// The counts.
        rows: RowCounts,
    },
    /// A job ended; `took` is the time since it was accepted.
    Ended {
        /// The name of the instance.
        instance: String,
        /// The state in which it ended.
        state: JobState,
        /// The time since it was accepted.
        took: Duration,
    },
    /// A call to Marketo begins.
    Call {
        /// The name of the instance.
        instance: String,
    },
    /// A group of writes was committed; `took` is how long that needed.
    Commit {
        /// The duration of the commit.
        took: Duration,
    },
    /// A file of the drop folder was rejected.
    DropRefused,
    /// The delivery of a notification or an alert was attempted.
    NotificationAttempt {
        /// Whether it was delivered.
        is_delivered: bool,
    },
}

impl MetricEvent {
    /// Returns the metric event for a batch event of `instance`.
    pub(super) fn from_batch_event(instance: String, event: &Event) -> MetricEvent {
        MetricEvent::Event { instance, event: event.name(), code: event.failure_reason().map(code_label) }
    }

    /// Returns the metric event for a failed query of an import's status or reports.
    pub(super) fn query_failed(instance: String, reason: &FailureReason) -> MetricEvent {
        MetricEvent::Event { instance, event: "query-failed", code: Some(code_label(reason)) }
    }
}

/// Returns the value of the label `code`; `other` where there is no code.
fn code_label(reason: &FailureReason) -> String {
    reason.code.map_or_else(|| "other".to_owned(), |code| code.to_string())
}
