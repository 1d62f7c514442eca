//! Events: what may be recorded of a batch, and what the checker notes of it.

use std::time::Duration;

use jiff::Timestamp;
use marqueue::clock::after;
use marqueue::config;
use marqueue::domain::{BatchKey, BatchState, Event, FailureScope};
use marqueue::marketo::ErrorAction;

use super::{Checker, hold};
use crate::invariants::{CheckResult, Invariant};
use crate::model_store::ModelStore;

/// An event that was recorded for a batch, and for those that share its import.
pub struct Recorded<'a> {
    pub event: &'a Event,
    /// The batches that it changes, the one first that it was recorded for.
    pub keys: &'a [BatchKey],
    /// All batches that shared the import before the event.
    pub sharing: &'a [BatchKey],
    pub instance: &'a config::Instance,
    /// The true time.
    pub at: Duration,
    pub now: Timestamp,
}

/// For how long a batch is tried that waits alone.
const SEVEN_DAYS: Duration = Duration::from_secs(7 * 24 * 3_600);

/// What is known of an upload when it fails. Of several batches, that of the one that it was recorded for counts.
struct FailedUpload {
    /// How many creates had succeeded when the one before ended.
    successes: Option<u64>,
    /// It has been tried for too long without another's success.
    waited_alone: bool,
}

impl Checker {
    /// An event was recorded.
    pub fn recorded(&mut self, store: &ModelStore, recorded: &Recorded<'_>) -> CheckResult {
        self.futile = 0;
        let Recorded { event, keys, at, now, instance, .. } = *recorded;
        let Some(&lead) = keys.first() else { return Ok(()) };
        let track = self.track(lead);
        let failed = FailedUpload {
            successes: track.successes,
            waited_alone: track.failing_since.is_some_and(|since| after(since, SEVEN_DAYS) <= now),
        };
        let succeeded_before = self.successes;
        if event.ends_upload() {
            self.turns += 1;
            if matches!(event, Event::Accepted { .. }) {
                (self.successes, self.success_turn) = (self.successes + 1, self.turns);
            }
        }
        let counts = matches!(event.failure_scope(), Some(FailureScope::Batch))
            || (matches!(event, Event::AttemptsExhausted { .. }) && !failed.waited_alone);
        hold(Invariant::Attempts, !counts || failed.successes.is_some_and(|then| then < succeeded_before), || {
            let then = failed.successes;
            format!(
                "an attempt of {lead} counts, and of {succeeded_before} successes {then:?} were before its last upload"
            )
        })?;
        let uploaded =
            matches!(event, Event::Refused { .. } | Event::AnswerLost { .. } | Event::AttemptsExhausted { .. });
        hold(Invariant::Attempts, keys.len() == 1 || !counts || !uploaded, || {
            format!("an attempt of {lead} counts for the jobs that it shared an import with")
        })?;
        for &key in keys {
            self.recorded_of_batch(store, key, recorded, &failed)?;
        }
        if is_lost(event) {
            // A slot is kept for it once, however many batches share it.
            let unconfirmed = at + instance.polling.max * 10;
            let track = self.track(lead);
            track.unconfirmed = track.unconfirmed.max(Some(unconfirmed));
        }
        self.recorded_of_import(recorded)
    }

    fn recorded_of_batch(
        &mut self,
        store: &ModelStore,
        key: BatchKey,
        recorded: &Recorded<'_>,
        failed: &FailedUpload,
    ) -> CheckResult {
        let Recorded { event, instance, now, .. } = *recorded;
        let most = instance.max_attempts;
        let (successes, turns) = (self.successes, self.turns);
        let track = self.tracks.entry(key).or_default();
        match event {
            Event::UploadBegan => {
                track.import_failed = false;
                hold(Invariant::NoUnexplainedResend, !track.taken, || format!("{key} goes again"))?;
                let state = store.state(key);
                hold(Invariant::Sharing, state == BatchState::Uploading, || format!("{key} is sent and is {state}"))?;
            }
            Event::Requeued { .. } | Event::Split { .. } => track.reasons += 1,
            Event::Refused { scope: blame, .. } | Event::AnswerLost { scope: blame, .. } => {
                (track.reasons, track.spent) =
                    (track.reasons + 1, track.spent + u32::from(*blame == FailureScope::Batch));
            }
            Event::Held { .. } => (track.reasons, track.spent) = (track.reasons + 1, track.spent + 1),
            Event::Rejected { .. } => {
                let hopeless = matches!(track.last_ask, Some(ErrorAction::Reject | ErrorAction::TooLarge));
                track.spent += 1;
                hold(Invariant::FailsWithReason, hopeless, || {
                    format!("{key} was rejected, and Marketo answered {:?}", track.last_ask)
                })?;
            }
            Event::AttemptsExhausted { .. } => {
                track.spent += 1;
                hold(Invariant::FailsWithReason, track.spent >= most || failed.waited_alone, || {
                    format!("{key} was given up after {} of {most} attempts", track.spent)
                })?;
            }
            Event::Accepted { .. } => (track.taken, track.spent) = (true, track.spent + 1),
            Event::Settled { .. } => (track.taken, track.settled) = (true, true),
            Event::ImportLost { .. } => {
                let hopeless = track.import_failed || track.last_ask == Some(ErrorAction::Reject);
                hold(Invariant::FailsWithReason, hopeless, || format!("{key} was taken for lost for no reason"))?;
            }
            // Marketo took it and is given it again: only after Marketo has said that the import failed.
            Event::Unpacked { .. } => {
                hold(Invariant::NoUnexplainedResend, track.taken && track.import_failed, || {
                    format!("{key} is to be sent again alone, and Marketo did not say that its import failed")
                })?;
                (track.taken, track.settled, track.import_failed) = (false, false, false);
                (track.reasons, track.spent) = (track.reasons + 1, track.spent.saturating_sub(1));
            }
            Event::Retried => {
                (track.taken, track.settled, track.spent) = (false, false, 0);
                (track.successes, track.turn, track.failing_since) = (None, None, None);
                track.reasons += 1;
            }
            _ => {}
        }
        match event.failure_scope() {
            Some(FailureScope::Instance { .. }) => track.failing_since = track.failing_since.or(Some(now)),
            Some(FailureScope::Batch) => track.failing_since = None,
            _ => {}
        }
        if event.ends_upload() {
            (track.successes, track.turn) = (Some(successes), Some(turns));
        }
        let progress = &store.batch(key).progress;
        let under_way = u32::from(progress.state == BatchState::Uploading);
        let (attempts, spent) = (progress.attempts, track.spent + under_way);
        hold(Invariant::Attempts, attempts == spent && spent <= most.max(1), || {
            format!("{key} has {attempts} attempts and spent {spent} of {most} after {event:?}")
        })
    }

    /// What an event says about imports that Marketo made.
    fn recorded_of_import(&mut self, recorded: &Recorded<'_>) -> CheckResult {
        let Recorded { event, keys, sharing, instance, at, now } = *recorded;
        let key = keys[0];
        match event {
            Event::Accepted { marketo_batch_id, .. } | Event::Settled { marketo_batch_id } => {
                let made = marketo_batch_id.parse().ok().and_then(|id: u64| self.made.get_mut(&id));
                hold(Invariant::FailsWithReason, made.is_some(), || {
                    format!("{key} was accepted as an import that there is not")
                })?;
                if let Some(made) = made {
                    made.known = true;
                    made.waiting = sharing.iter().copied().collect();
                }
            }
            Event::Overdue { .. } => {
                let made = self.imports_of(key).map(|made| made.at).min();
                let waited = made.map(|made| at.saturating_sub(made));
                hold(Invariant::OverdueTime, waited.is_none_or(|waited| waited >= instance.max_import_time), || {
                    format!("{key} is overdue after {waited:?} of {:?}", instance.max_import_time)
                })?;
            }
            Event::Abandoned { counts_until } => {
                let left = Duration::try_from(counts_until.duration_since(now)).unwrap_or_default();
                for made in self.imports_of(key) {
                    made.waiting.remove(&key);
                    // Others that share it still wait for it.
                    if made.waiting.is_empty() {
                        made.given_up = Some(at + left);
                    }
                }
                sharing.iter().for_each(|&key| self.may_repeat(key));
            }
            Event::Unpacked { .. } => {
                let shared = self.imports_of(key).any(|made| made.fails && made.rows.len() > 1);
                hold(Invariant::NoUnexplainedResend, shared, || {
                    format!("{key} is to be sent again alone, and no shared import of it failed")
                })?;
                self.alone.extend(keys.iter().map(|key| key.job));
            }
            _ => {}
        }
        // Once Marketo has reported that an import is done, or unknown, it does not count any more. Its queue is first
        // in, first out, so one that is done has had others of the same batches before it.
        if matches!(event, Event::ImportEnded { .. } | Event::ImportLost { .. } | Event::Unpacked { .. }) {
            for &key in keys {
                self.imports_of(key).for_each(|made| made.excused = true);
                if matches!(event, Event::ImportEnded { .. }) {
                    let unknown = self.made.values_mut().filter(|made| !made.known && made.lead() == key);
                    unknown.for_each(|made| made.excused = true);
                }
            }
        }
        Ok(())
    }
}

/// Whether Marketo may have made an import of an upload that ended so.
fn is_lost(event: &Event) -> bool {
    matches!(
        event,
        Event::AnswerLost { .. } | Event::Held { .. } | Event::AttemptsExhausted { unconfirmed_until: Some(_), .. }
    )
}
