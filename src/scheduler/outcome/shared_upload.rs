//! Outcome of a failed upload that several jobs share: whether its jobs are sent again alone. Which of them is the cause
//! is unknown.

use jiff::Timestamp;

use crate::domain::{Event, FailureReason, FailureScope};

/// A failed upload of several jobs.
#[derive(Clone, Copy, Debug)]
pub struct FailedSharedUpload<'a> {
    /// What would be recorded for a job that was sent alone.
    pub event: &'a Event,
    /// How many jobs shared it with the one for which the event is recorded.
    pub others: u32,
    /// The upload broke off. One of the files could not be read, for example.
    pub is_broken_off: bool,
    /// The time of the outcome.
    pub now: Timestamp,
}

impl FailedSharedUpload<'_> {
    /// Returns the event after which the jobs are sent again alone. It uses up no attempt: the rows of one job may have
    /// caused what the attempt of each would count for. None where `event` is recorded, and the jobs may share the next
    /// import.
    pub fn sent_alone(&self) -> Option<Event> {
        let FailedSharedUpload { event, others, is_broken_off, now } = *self;
        let alone = |reason: &FailureReason| {
            let text = format!("{reason} (an import with {others} other jobs; it is sent again alone)");
            reason.clone().with_text(text)
        };
        let lost = |reason: &FailureReason, not_before, unconfirmed_until| Event::AnswerLost {
            reason: alone(reason),
            not_before,
            unconfirmed_until,
            scope: FailureScope::Daemon,
        };
        match event {
            Event::Rejected { reason }
            | Event::AttemptsExhausted { reason, unconfirmed_until: None }
            | Event::Refused { reason, scope: FailureScope::Batch, .. } => {
                Some(Event::Split { reason: alone(reason).text })
            }
            Event::Refused { reason, .. } if is_broken_off => Some(Event::Split { reason: alone(reason).text }),
            Event::AnswerLost { reason, not_before, unconfirmed_until, scope: FailureScope::Batch } => {
                Some(lost(reason, *not_before, *unconfirmed_until))
            }
            Event::AttemptsExhausted { reason, unconfirmed_until: Some(until) } => Some(lost(reason, now, *until)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::domain::DeferReason;

    #[test]
    fn jobs_are_sent_alone_where_one_of_them_may_be_the_cause() {
        use FailureScope::{Batch, Daemon};
        let instance = FailureScope::Instance { backoff_until: from_ms(9), tried_alone_for: std::time::Duration::ZERO };
        let refused = |scope| Event::Refused { reason: "611".into(), not_before: from_ms(9), scope };
        let lost = |scope| {
            let (not_before, unconfirmed_until) = (from_ms(9), from_ms(90));
            Event::AnswerLost { reason: "cut".into(), not_before, unconfirmed_until, scope }
        };
        let exhausted = |unconfirmed_until| Event::AttemptsExhausted { reason: "cut".into(), unconfirmed_until };
        let requeued =
            Event::Requeued { defer_reason: DeferReason::QueueFull, reason: "1016".into(), not_before: None };
        let held = Event::Held { reason: "cut".into(), unconfirmed_until: from_ms(90), scope: Batch };
        for (event, is_broken_off, expected) in [
            (Event::Rejected { reason: "1003".into() }, false, Some(("split", None))),
            (refused(Batch), false, Some(("split", None))),
            (refused(instance), false, None),
            (refused(instance), true, Some(("split", None))),
            (exhausted(None), false, Some(("split", None))),
            (exhausted(Some(from_ms(90))), false, Some(("answer-lost", Some((from_ms(5), from_ms(90)))))),
            (lost(Batch), false, Some(("answer-lost", Some((from_ms(9), from_ms(90)))))),
            (lost(instance), false, None),
            (lost(Daemon), false, None),
            (requeued, false, None),
            (held, false, None),
        ] {
            let alone = FailedSharedUpload { event: &event, others: 2, is_broken_off, now: from_ms(5) }.sent_alone();
            let times = |event: &Event| match event {
                // The attempt does not count.
                Event::AnswerLost { not_before, unconfirmed_until, scope: Daemon, .. } => {
                    Some((*not_before, *unconfirmed_until))
                }
                _ => None,
            };
            assert_eq!(alone.as_ref().map(|alone| (alone.name(), times(alone))), expected, "{event:?}");
            let message = alone.as_ref().and_then(Event::message).unwrap_or("with 2 other jobs");
            assert!(message.contains("with 2 other jobs"), "{message}");
        }
    }
}
