//! Poll interval: when each import is polled next. Pure functions.
//!
//! Marketo processes imports first in, first out, two at a time, so only our two oldest can end next. These are polled
//! when they should have ended by the durations of recent imports. The others are polled rarely, because their status
//! cannot have changed. Polling ten imports every five seconds would take 172,800 calls a day, over three times the
//! usual quota.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::after;
use crate::config::Polling;
use crate::domain::BatchState;
use crate::store::InFlightBatch;

/// The number of imports that Marketo processes at once.
pub(crate) const ACTIVE_IMPORTS: usize = 2;

/// The poll interval of an import that cannot end next, in multiples of `polling.max`. It is polled only in case that
/// Marketo does not process imports in order.
const IDLE_FACTOR: u32 = 4;

/// The poll interval of an import that takes longer than expected, or whose duration cannot be estimated, is its
/// elapsed time divided by this. Its end is thus noticed at most a quarter late.
const ELAPSED_DIVISOR: u32 = 4;

/// Returns the imports that Marketo has, each with the number of ours that may end before it. Overdue ones come last:
/// they block only their own slot, and are polled rarely.
pub(crate) fn in_order(flights: &[InFlightBatch]) -> impl Iterator<Item = (&InFlightBatch, usize)> {
    let mut on_marketo: Vec<&InFlightBatch> =
        flights.iter().filter(|flight| matches!(flight.state, BatchState::Queued | BatchState::Importing)).collect();
    on_marketo.sort_by_key(|flight| (flight.is_overdue, flight.accepted_at, flight.key));
    let older =
        |(older, flight): (usize, &InFlightBatch)| if flight.is_overdue { older.max(ACTIVE_IMPORTS) } else { older };
    on_marketo.into_iter().enumerate().map(move |(position, flight)| (flight, older((position, flight))))
}

/// What the time of a poll depends on, besides the import itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PollSchedule<'a> {
    /// Rows and duration of the imports that ended last.
    pub recent_durations: &'a [(u64, Duration)],
    pub polling: &'a Polling,
    pub now: Timestamp,
}

impl PollSchedule<'_> {
    /// Returns when to poll `flight`, which has `older` of our imports before it in Marketo's queue.
    pub(crate) fn due(&self, flight: &InFlightBatch, older: usize) -> Timestamp {
        let PollSchedule { recent_durations, polling, now } = *self;
        let accepted = flight.accepted_at.unwrap_or(now);
        let last = flight.polled_at.unwrap_or(accepted);
        // The clock was set back, so the time since the last poll is unknown. The import is polled now, which sets a
        // new start.
        if last > now {
            return now;
        }
        let due = if older >= ACTIVE_IMPORTS {
            after(last, polling.max * IDLE_FACTOR)
        } else {
            match (flight.importing_at, expected_duration(flight.rows, recent_durations)) {
                (Some(began), Some(duration)) if after(began, duration) > last => {
                    after(began, duration).clamp(after(last, polling.min), after(last, polling.max))
                }
                (Some(began), Some(duration)) => after(last, interval(after(began, duration), last, polling)),
                (began, _) => after(last, interval(began.unwrap_or(accepted), last, polling)),
            }
        };
        flight.not_before.map_or(due, |not_before| due.max(not_before))
    }
}

fn interval(since: Timestamp, last: Timestamp, polling: &Polling) -> Duration {
    let waited = Duration::try_from(last.duration_since(since)).unwrap_or(Duration::ZERO);
    (waited / ELAPSED_DIVISOR).clamp(polling.min, polling.max)
}

/// Returns the expected duration of an import of `rows` rows by the recent imports; none if there were none.
fn expected_duration(rows: u64, recent_durations: &[(u64, Duration)]) -> Option<Duration> {
    let total_rows: u64 = recent_durations.iter().map(|&(rows, _)| rows).sum();
    let total_time: Duration = recent_durations.iter().map(|&(_, duration)| duration).sum();
    (total_rows > 0).then(|| total_time.mul_f64(rows as f64 / total_rows as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::domain::{BatchKey, JobId};

    const POLLING: Polling = Polling { min: Duration::from_secs(5), max: Duration::from_secs(30) };

    fn flight(accepted: i64, importing: Option<i64>, polled: Option<i64>) -> InFlightBatch {
        let secs = |secs: i64| from_ms(secs * 1000);
        InFlightBatch {
            key: BatchKey { job: JobId(1), part: 1 },
            state: BatchState::Importing,
            group: None,
            list_id: None,
            rows: 100,
            not_before: None,
            accepted_at: Some(secs(accepted)),
            importing_at: importing.map(secs),
            polled_at: polled.map(secs),
            is_overdue: false,
        }
    }

    fn due_in_secs(flight: &InFlightBatch, older: usize, recent_durations: &[(u64, Duration)]) -> i64 {
        PollSchedule { recent_durations, polling: &POLLING, now: from_ms(1_000_000) }
            .due(flight, older)
            .as_millisecond()
            / 1000
    }

    #[test]
    fn interval_stays_between_its_minimum_and_maximum() {
        // Accepted, polled, the next poll, in seconds. No recent import.
        for (accepted, polled, next) in
            [(100, None, 105), (100, Some(105), 110), (100, Some(140), 150), (100, Some(400), 430)]
        {
            assert_eq!(due_in_secs(&flight(accepted, None, polled), 0, &[]), next);
        }
    }

    #[test]
    fn import_is_polled_when_it_should_have_ended() {
        let recent = [(50, Duration::from_secs(10))];
        assert_eq!(due_in_secs(&flight(90, Some(100), Some(100)), 1, &recent), 120);
        // Not later than the maximum interval after the last poll, not sooner than the minimum.
        assert_eq!(due_in_secs(&flight(90, Some(100), Some(100)), 1, &[(1, Duration::from_secs(10))]), 130);
        assert_eq!(due_in_secs(&flight(90, Some(100), Some(118)), 1, &recent), 123);
        // 80 s later than expected: the interval is a quarter of that.
        assert_eq!(due_in_secs(&flight(90, Some(100), Some(200)), 1, &recent), 220);
    }

    #[test]
    fn third_import_in_the_queue_is_polled_rarely() {
        assert_eq!(due_in_secs(&flight(100, None, None), 2, &[]), 220);
        assert_eq!(due_in_secs(&flight(100, None, None), 9, &[]), 220);
    }

    #[test]
    fn overdue_import_is_polled_rarely_and_after_the_others() {
        let numbered = |job, is_overdue| InFlightBatch {
            key: BatchKey { job: JobId(job), part: 1 },
            is_overdue,
            ..flight(100 + job, None, None)
        };
        let flights = [numbered(1, true), numbered(2, true), numbered(3, false), numbered(4, false)];
        let order: Vec<_> = in_order(&flights).map(|(flight, older)| (flight.key.job.0, older)).collect();
        assert_eq!(order, [(3, 0), (4, 1), (1, 2), (2, 3)]);
        let alone: Vec<_> = in_order(&flights[..1]).map(|(_, older)| older).collect();
        assert_eq!(alone, [2]);
    }

    #[test]
    fn failed_poll_waits_out_its_backoff() {
        let mut failed = flight(100, None, Some(105));
        failed.not_before = Some(from_ms(500_000));
        assert_eq!(due_in_secs(&failed, 0, &[]), 500);
    }

    #[test]
    fn clock_set_back_polls_once_then_as_usual() {
        // The time is 1000 s. The import was accepted when the clock showed 5000 s.
        for (older, not_before) in [(0, None), (5, None), (0, Some(from_ms(5_300_000)))] {
            let ahead = InFlightBatch { not_before, ..flight(4_000, None, Some(5_005)) };
            assert_eq!(due_in_secs(&ahead, older, &[]), 1_000);
            assert_eq!(due_in_secs(&flight(5_000, None, None), older, &[]), 1_000);
        }
        assert_eq!(due_in_secs(&flight(5_000, Some(5_000), Some(1_000)), 0, &[]), 1_005);
    }
}
