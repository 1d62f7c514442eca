//! Change events and metric events, published after the commit that they describe.
//!
//! The writer task publishes them, since everything that is counted is written by it.

use std::time::Duration;

use crate::domain::row_counts::RowCounts;
use crate::domain::{BatchKey, Event, JobId, JobState};

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
    /// The delivery of a notification of a job's end was attempted.
    NotificationAttempt {
        /// Whether it was delivered.
        is_delivered: bool,
    },
}

impl MetricEvent {
    /// Returns the metric event for a batch event of `instance`.
    pub(super) fn from_batch_event(instance: String, event: &Event) -> MetricEvent {
        let is_failure = matches!(
            event,
            Event::Requeued { .. }
                | Event::Refused { .. }
                | Event::AnswerLost { .. }
                | Event::Held { .. }
                | Event::Rejected { .. }
                | Event::AttemptsExhausted { .. }
                | Event::ImportLost { .. }
        );
        let code = if is_failure { Some(error_code(event.message().unwrap_or_default())) } else { None };
        MetricEvent::Event { instance, event: event.name(), code }
    }

    /// Returns the metric event for a failed query of an import's status or reports.
    pub(super) fn query_failed(instance: String, reason: &str) -> MetricEvent {
        MetricEvent::Event { instance, event: "query-failed", code: Some(error_code(reason)) }
    }
}

/// Returns the code that a reason begins with: `1016`, or `http-502`; `other` where it has none.
fn error_code(reason: &str) -> String {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let (own, http) = (digits(reason), digits(reason.strip_prefix("HTTP ").unwrap_or_default()));
    match (own.len(), http.len()) {
        // Marketo's codes have three or four digits. A longer number is no code, and would create a new label each time.
        (3..=4, _) => own,
        (_, 3) => format!("http-{http}"),
        _ => "other".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_what_a_reason_begins_with() {
        for (reason, expected) in [
            ("1016: There are 10 imports", "1016"),
            ("606: Max rate", "606"),
            ("HTTP 502 with an empty body", "http-502"),
            ("HTTP 413: too large", "http-413"),
            ("the connection was lost", "other"),
            ("12345678: hm", "other"),
            ("", "other"),
        ] {
            assert_eq!(error_code(reason), expected, "{reason}");
        }
    }
}
