//! What happened, for those who count? Everything that is counted passes through the writer, so it is told here, after
//! the commit that made it true.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};

use crate::domain::row_counts::RowCounts;
use crate::domain::{BatchKey, Event, JobId, JobState};
use crate::store::Store;

/// Something was committed. It says where to look, not what is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeEvent {
    Job(JobId),
    Batch(BatchKey),
    Instance(String),
    /// For those who count alone: [`Store::subscribe`] does not have it.
    Metric(MetricEvent),
}

/// One thing that happened and was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricEvent {
    /// A file became a job.
    Accepted { instance: String, bytes: u64 },
    /// An event of a batch; `code` is Marketo's code or the HTTP status, where the event is a refusal or a failure.
    Event { instance: String, event: &'static str, code: Option<String> },
    /// What Marketo counted of an import that ended.
    Rows { instance: String, rows: RowCounts },
    /// A job ended, so long after it was accepted.
    Ended { instance: String, state: JobState, took: Duration },
    /// A call is about to leave.
    Call { instance: String },
    /// A group of writes was committed.
    Commit { took: Duration },
    /// A file of the drop folder was refused.
    DropRefused,
    /// Somebody was told of a job's end, or could not be told.
    Notice { told: bool },
}

impl MetricEvent {
    /// `event` as a fact about `instance`.
    pub(super) fn from_batch_event(instance: String, event: &Event) -> MetricEvent {
        let fault = matches!(
            event,
            Event::Requeued { .. }
                | Event::Refused { .. }
                | Event::AnswerLost { .. }
                | Event::Held { .. }
                | Event::Rejected { .. }
                | Event::AttemptsExhausted { .. }
                | Event::ImportLost { .. }
        );
        let code = if fault { Some(error_code(event.message().unwrap_or_default())) } else { None };
        MetricEvent::Event { instance, event: event.name(), code }
    }

    /// A question about an import that found no good answer.
    pub(super) fn query_failed(instance: String, reason: &str) -> MetricEvent {
        MetricEvent::Event { instance, event: "query-failed", code: Some(error_code(reason)) }
    }
}

/// The code that a reason begins with: `1016`, or `http-502`; `other` where it has none.
fn error_code(reason: &str) -> String {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let (own, http) = (digits(reason), digits(reason.strip_prefix("HTTP ").unwrap_or_default()));
    match (own.len(), http.len()) {
        // Marketo's codes have three or four digits; what is longer is none, and would be a label of its own each time.
        (3..=4, _) => own,
        (_, 3) => format!("http-{http}"),
        _ => "other".to_owned(),
    }
}

/// Those who hear of commits.
pub(super) struct EventBus {
    pub changes: broadcast::Sender<ChangeEvent>,
    /// Set when somebody counts.
    pub facts: OnceLock<mpsc::UnboundedSender<MetricEvent>>,
}

impl EventBus {
    pub fn publish(&self, change: ChangeEvent) {
        // Nobody listening is no fault.
        let _ = match change {
            ChangeEvent::Metric(fact) => self.facts.get().is_some_and(|facts| facts.send(fact).is_ok()),
            other => self.changes.send(other).is_ok(),
        };
    }
}

impl Store {
    /// Every fact from now on; none where somebody has them already.
    pub fn subscribe_metrics(&self) -> Option<mpsc::UnboundedReceiver<MetricEvent>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.shared.listeners.facts.set(sender).is_ok().then_some(receiver)
    }

    /// Tells those who count of something that the store itself has no part in.
    pub fn publish_metric(&self, fact: MetricEvent) {
        self.shared.listeners.publish(ChangeEvent::Metric(fact));
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
