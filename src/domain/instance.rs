//! State of an instance: pauses, observed limits and backoff, and how events change them. Pure.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use crate::domain::enum_text::{ParseEnumError, parse_enum};
use crate::domain::event::{DeferReason, Event, FailureScope};
use crate::domain::ids::BatchKey;

/// The kind of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum PauseKind {
    /// Requested by an operator, until one resumes.
    Operator,
    /// 401 of the identity endpoint, or 603: until an operator resumes, or the daemon restarts.
    Credentials,
    /// 607, or the configured daily limit: until the quota's day is over.
    Quota,
}

impl PauseKind {
    /// Returns the name in the database, the API and the metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl std::str::FromStr for PauseKind {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, ParseEnumError> {
        parse_enum("pause", text, &[PauseKind::Operator, PauseKind::Credentials, PauseKind::Quota])
    }
}

/// A pause of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Who or what caused it.
    pub kind: PauseKind,
    /// The cause as text.
    pub reason: String,
    /// When it began.
    pub at: Timestamp,
    /// When it ends by itself; none where an operator has to end it.
    pub until: Option<Timestamp>,
}

/// The stored state of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceState {
    /// The pause that is in effect.
    pub pause: Option<Pause>,
    /// An operator's pause that is suspended by one of another kind, and takes effect again after it.
    pub suspended_pause: Option<Pause>,
    /// How many imports were in Marketo's queue when it last answered that it is full (1016).
    pub observed_slot_limit: Option<u32>,
    /// When one more than that is tried.
    pub slot_probe_at: Option<Timestamp>,
    /// Failed uploads in a row for which the instance is, or may be, the cause.
    pub service_failures: u32,
    /// No upload before this.
    pub backoff_until: Option<Timestamp>,
    /// How many uploads have ended. They are numbered in this order, which does not depend on the clock.
    pub uploads_ended: u64,
    /// The number of the last one that Marketo accepted; 0 where none was.
    pub last_success: u64,
    /// The batch whose upload failed last since then, for a reason that may be the instance's or the batch's.
    pub last_failed: Option<BatchKey>,
}

impl InstanceState {
    /// Returns the state with a pause added. An operator's pause stops uploads; the other kinds stop all calls, so they
    /// suspend the operator's pause while they last.
    pub fn with_pause(&self, pause: Pause) -> InstanceState {
        let by_operator = |pause: &&Pause| pause.kind == PauseKind::Operator;
        let (operator, other) = match pause.kind {
            PauseKind::Operator => (Some(&pause), self.pause.as_ref().filter(|pause| !by_operator(pause))),
            _ => (self.pause.as_ref().filter(by_operator).or(self.suspended_pause.as_ref()), Some(&pause)),
        };
        let (pause, suspended) = if other.is_some() { (other, operator) } else { (operator, None) };
        InstanceState { pause: pause.cloned(), suspended_pause: suspended.cloned(), ..self.clone() }
    }

    /// Returns the state without its pause, and without observed limits and backoff, so that work continues at once.
    /// Given a kind, only a pause of that kind ends, and a suspended one takes effect again.
    pub fn without_pause(&self, kind: Option<PauseKind>) -> InstanceState {
        let own = self.pause.as_ref().map(|pause| pause.kind);
        // The numbers of uploads continue, since batches refer to them.
        let InstanceState { uploads_ended, last_success, .. } = *self;
        let reset = InstanceState { uploads_ended, last_success, ..InstanceState::default() };
        match kind {
            None => reset,
            Some(_) if own == kind => InstanceState { pause: self.suspended_pause.clone(), ..reset },
            Some(_) => self.clone(),
        }
    }

    /// Returns the state after Marketo was not reachable: no upload before `until`.
    pub fn after_service_failure(&self, until: Timestamp, now: Timestamp) -> InstanceState {
        // Uploads in progress at the same time fail together, which is one failure. (A backoff beyond `until`, which
        // would be a longer one, began before the clock was set back.)
        if self.backoff_until.is_some_and(|end| now < end && end <= until) {
            return self.clone();
        }
        InstanceState {
            service_failures: self.service_failures.saturating_add(1),
            backoff_until: Some(until),
            ..self.clone()
        }
    }

    /// Returns the state after an event of the batch `key`. `in_flight` of the instance's batches occupy a slot after
    /// it.
    ///
    /// Only an accepted upload ends a series of failures. Any other answer (1016, 1019, 606, 413, a rejection of one
    /// file) can come from a gateway while imports fail, and would let all pending batches be tried again each time.
    /// One upload at a time costs little, because the first one that is accepted ends the series.
    pub fn after_event(&self, key: BatchKey, event: &Event, in_flight: u32, now: Timestamp) -> InstanceState {
        if !event.ends_upload() {
            return self.clone();
        }
        let ended = InstanceState { uploads_ended: self.uploads_ended + 1, ..self.clone() };
        match event {
            Event::Requeued { defer_reason: DeferReason::QueueFull, not_before, .. } => {
                InstanceState { observed_slot_limit: Some(in_flight), slot_probe_at: *not_before, ..ended }
            }
            Event::Requeued { defer_reason: DeferReason::Service, not_before: Some(until), .. } => {
                ended.after_service_failure(*until, now)
            }
            Event::Accepted { .. } => {
                let reset = InstanceState {
                    service_failures: 0,
                    backoff_until: None,
                    last_success: ended.uploads_ended,
                    last_failed: None,
                    ..ended
                };
                match self.observed_slot_limit {
                    // More were accepted than the observed limit, so other integrations use fewer slots. The next may
                    // follow at once.
                    Some(limit) if limit < in_flight => {
                        InstanceState { observed_slot_limit: Some(in_flight), slot_probe_at: Some(now), ..reset }
                    }
                    _ => reset,
                }
            }
            _ => match event.failure_scope() {
                Some(FailureScope::Instance { backoff_until, .. }) => {
                    // A held batch is not tried again, so the next failure would be another batch's in any case.
                    let another = self.last_failed.is_some_and(|failed| failed != key);
                    let failed = InstanceState { last_failed: Some(key), ..ended };
                    if another || matches!(event, Event::Held { .. }) {
                        failed.after_service_failure(backoff_until, now)
                    } else {
                        // Other batches are tried, one upload at a time, until one shows whether the instance is the
                        // cause.
                        InstanceState { service_failures: failed.service_failures.saturating_add(1), ..failed }
                    }
                }
                _ => ended,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;

    fn pause(kind: PauseKind) -> Pause {
        Pause { kind, reason: kind.as_str().into(), at: from_ms(1), until: None }
    }

    #[test]
    fn an_operators_pause_outlasts_the_others() {
        use PauseKind::{Credentials, Operator, Quota};
        // Pauses in their order, the pause in effect, the suspended one, and what is left when the first has ended.
        for (pauses, in_effect, suspended, left) in [
            (&[Operator][..], Operator, None, None),
            (&[Quota], Quota, None, None),
            (&[Operator, Quota], Quota, Some(Operator), Some(Operator)),
            (&[Quota, Operator], Quota, Some(Operator), Some(Operator)),
            (&[Operator, Quota, Credentials], Credentials, Some(Operator), Some(Operator)),
            (&[Quota, Operator, Operator], Quota, Some(Operator), Some(Operator)),
            (&[Quota, Credentials], Credentials, None, None),
        ] {
            let instance =
                pauses.iter().fold(InstanceState::default(), |instance, &kind| instance.with_pause(pause(kind)));
            let kind = |pause: &Option<Pause>| pause.as_ref().map(|pause| pause.kind);
            assert_eq!(
                (kind(&instance.pause), kind(&instance.suspended_pause)),
                (Some(in_effect), suspended),
                "{pauses:?}"
            );
            assert_eq!(kind(&instance.without_pause(Some(in_effect)).pause), left, "{pauses:?}");
            assert_eq!(instance.without_pause(None), InstanceState::default(), "{pauses:?}");
        }
    }

    fn batch(job: i64) -> BatchKey {
        BatchKey { job: crate::domain::JobId(job), part: 1 }
    }

    fn failed(job: i64, until: i64) -> (BatchKey, Event) {
        let scope =
            FailureScope::Instance { backoff_until: from_ms(until), tried_alone_for: std::time::Duration::ZERO };
        (batch(job), Event::Refused { reason: "611".into(), not_before: from_ms(until), scope })
    }

    fn accepted(job: i64) -> (BatchKey, Event) {
        let status = crate::domain::RemoteStatus::Queued;
        (batch(job), Event::Accepted { marketo_batch_id: "1".into(), status })
    }

    fn after(events: &[(BatchKey, Event)]) -> InstanceState {
        let begin = InstanceState::default();
        events.iter().fold(begin, |instance, (key, event)| instance.after_event(*key, event, 1, from_ms(0)))
    }

    #[test]
    fn consecutive_failures_start_the_backoff() {
        let backoff = |events: &[_]| (after(events).service_failures, after(events).backoff_until);
        assert_eq!(backoff(&[failed(1, 10)]), (1, None), "the batch may be the cause");
        assert_eq!(backoff(&[failed(1, 10), failed(1, 20)]), (2, None));
        assert_eq!(backoff(&[failed(1, 10), failed(2, 20)]), (2, Some(from_ms(20))));
        assert_eq!(backoff(&[failed(1, 10), accepted(3), failed(2, 20)]), (1, None));
        assert_eq!(backoff(&[failed(1, 10), failed(2, 20), accepted(3)]), (0, None));
        let scope = FailureScope::Instance { backoff_until: from_ms(30), tried_alone_for: std::time::Duration::ZERO };
        let held = Event::Held { reason: "502".into(), unconfirmed_until: from_ms(99), scope };
        assert_eq!(backoff(&[(batch(1), held)]), (1, Some(from_ms(30))));
    }

    #[test]
    fn only_an_accepted_upload_ends_a_series_of_failures() {
        let reason = || String::from("reason");
        let series = [failed(1, 10), failed(2, 20)];
        for event in [
            Event::Requeued {
                defer_reason: DeferReason::QueueFull,
                reason: reason().into(),
                not_before: Some(from_ms(5)),
            },
            Event::Requeued {
                defer_reason: DeferReason::ListBusy,
                reason: reason().into(),
                not_before: Some(from_ms(5)),
            },
            Event::Requeued { defer_reason: DeferReason::Calls, reason: reason().into(), not_before: None },
            Event::Rejected { reason: reason().into() },
            Event::AttemptsExhausted { reason: reason().into(), unconfirmed_until: None },
            Event::Split { reason: reason() },
            Event::Refused { reason: reason().into(), not_before: from_ms(5), scope: FailureScope::Batch },
            Event::Polled {
                status: crate::domain::RemoteStatus::Importing,
                counts: crate::domain::Counts::default(),
                waited: std::time::Duration::ZERO,
            },
            Event::Collected,
        ] {
            let name = event.name();
            let instance = after(&[&series[..], &[(batch(3), event)]].concat());
            assert_eq!((instance.service_failures, instance.backoff_until), (2, Some(from_ms(20))), "{name}");
            assert_eq!(instance.last_success, 0, "{name}");
        }
    }

    #[test]
    fn uploads_are_numbered_in_the_order_of_their_ends() {
        let instance = after(&[failed(1, 10), accepted(2), failed(3, 20)]);
        assert_eq!((instance.uploads_ended, instance.last_success, instance.last_failed), (3, 2, Some(batch(3))));
        for kind in [None, Some(PauseKind::Quota)] {
            let resumed = instance.with_pause(pause(PauseKind::Quota)).without_pause(kind);
            assert_eq!((resumed.uploads_ended, resumed.last_success, resumed.last_failed), (3, 2, None), "{kind:?}");
        }
    }

    #[test]
    fn uploads_that_fail_together_are_one_failure() {
        let failed = |instance: InstanceState, at, until| instance.after_service_failure(from_ms(until), from_ms(at));
        let outage = (0..10).fold(InstanceState::default(), |instance, n| failed(instance, 10 + n, 1_010 + 1_000 * n));
        assert_eq!((outage.service_failures, outage.backoff_until), (1, Some(from_ms(1_010))));
        let again = failed(outage, 1_020, 3_020);
        assert_eq!((again.service_failures, again.backoff_until), (2, Some(from_ms(3_020))));
        // The clock is set back.
        assert_eq!(failed(again, 100, 2_100).backoff_until, Some(from_ms(2_100)));
    }
}
