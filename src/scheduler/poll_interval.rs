//! When is it worth asking how an import stands? Pure arithmetic.
//!
//! Marketo works first in first out on two imports at a time, so only our two oldest can end next. Those are asked after
//! when earlier imports of this instance say that they should be over; the others seldom, for there is no news to have.
//! Ten imports asked after every five seconds would be 172,800 calls a day, over three times the usual quota.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::after;
use crate::config::Polling;
use crate::domain::BatchState;
use crate::store::InFlightBatch;

/// How many imports Marketo works on at once.
const ACTIVE_IMPORTS: usize = 2;

/// A batch that can't be next is asked after every so many `polling.max`: only to notice if Marketo's order is not what
/// we take it to be.
const IDLE_FACTOR: u32 = 4;

/// Once an import is overdue, or nothing is known of its pace, the pause grows with the time it has taken already: a
/// quarter of it, so that the end is found at most a fourth late.
const GROWTH: u32 = 4;

/// The imports that Marketo has, each with how many of ours may end before it. Those that are overdue come last: they hold
/// up nothing but their own slot, and are asked after seldom.
pub(crate) fn in_order(flights: &[InFlightBatch]) -> impl Iterator<Item = (&InFlightBatch, usize)> {
    let mut on_marketo: Vec<&InFlightBatch> =
        flights.iter().filter(|flight| matches!(flight.state, BatchState::Queued | BatchState::Importing)).collect();
    on_marketo.sort_by_key(|flight| (flight.is_overdue, flight.accepted_at, flight.key));
    let older =
        |(older, flight): (usize, &InFlightBatch)| if flight.is_overdue { older.max(ACTIVE_IMPORTS) } else { older };
    on_marketo.into_iter().enumerate().map(move |(place, flight)| (flight, older((place, flight))))
}

/// When to ask after `flight`, which `older` of our imports stand before in Marketo's queue.
pub(crate) fn due(
    flight: &InFlightBatch,
    older: usize,
    paces: &[(u64, Duration)],
    polling: &Polling,
    now: Timestamp,
) -> Timestamp {
    let accepted = flight.accepted_at.unwrap_or(now);
    let last = flight.polled_at.unwrap_or(accepted);
    // The clock was set back: how long ago the last look was can't be told, so it is looked now, and told from then on.
    if last > now {
        return now;
    }
    let due = if older >= ACTIVE_IMPORTS {
        after(last, polling.max * IDLE_FACTOR)
    } else {
        match (flight.importing_at, expected(flight.rows, paces)) {
            (Some(began), Some(takes)) if after(began, takes) > last => {
                after(began, takes).clamp(after(last, polling.min), after(last, polling.max))
            }
            (Some(began), Some(takes)) => after(last, pause(after(began, takes), last, polling)),
            (began, _) => after(last, pause(began.unwrap_or(accepted), last, polling)),
        }
    };
    flight.not_before.map_or(due, |not_before| due.max(not_before))
}

fn pause(since: Timestamp, last: Timestamp, polling: &Polling) -> Duration {
    let waited = Duration::try_from(last.duration_since(since)).unwrap_or(Duration::ZERO);
    (waited / GROWTH).clamp(polling.min, polling.max)
}

/// How long an import of so many rows takes by the pace of the last ones; none if there were none.
fn expected(rows: u64, paces: &[(u64, Duration)]) -> Option<Duration> {
    let all_rows: u64 = paces.iter().map(|&(rows, _)| rows).sum();
    let all_time: Duration = paces.iter().map(|&(_, took)| took).sum();
    (all_rows > 0).then(|| all_time.mul_f64(rows as f64 / all_rows as f64))
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

    fn due_in_secs(flight: &InFlightBatch, older: usize, paces: &[(u64, Duration)]) -> i64 {
        due(flight, older, paces, &POLLING, from_ms(1_000_000)).as_millisecond() / 1000
    }

    #[test]
    fn the_pause_is_never_under_the_least_nor_over_the_most() {
        // Read as a table: accepted, polled, the next look. Nothing is known of the pace.
        for (accepted, polled, next) in
            [(100, None, 105), (100, Some(105), 110), (100, Some(140), 150), (100, Some(400), 430)]
        {
            assert_eq!(due_in_secs(&flight(accepted, None, polled), 0, &[]), next);
        }
    }

    #[test]
    fn an_import_is_looked_at_when_its_pace_says_that_it_is_over() {
        let pace = [(50, Duration::from_secs(10))];
        assert_eq!(due_in_secs(&flight(90, Some(100), Some(100)), 1, &pace), 120);
        // Not later than the longest pause after the last look, not sooner than the shortest.
        assert_eq!(due_in_secs(&flight(90, Some(100), Some(100)), 1, &[(1, Duration::from_secs(10))]), 130);
        assert_eq!(due_in_secs(&flight(90, Some(100), Some(118)), 1, &pace), 123);
        // Overdue by 80 s: the pause is a quarter of that.
        assert_eq!(due_in_secs(&flight(90, Some(100), Some(200)), 1, &pace), 220);
    }

    #[test]
    fn the_third_in_the_queue_is_polled_rarely() {
        assert_eq!(due_in_secs(&flight(100, None, None), 2, &[]), 220);
        assert_eq!(due_in_secs(&flight(100, None, None), 9, &[]), 220);
    }

    #[test]
    fn an_overdue_import_is_looked_at_seldom_and_takes_nobodys_turn() {
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
    fn a_question_that_failed_waits_out_its_pause() {
        let mut failed = flight(100, None, Some(105));
        failed.not_before = Some(from_ms(500_000));
        assert_eq!(due_in_secs(&failed, 0, &[]), 500);
    }

    #[test]
    fn a_clock_set_back_polls_once_then_as_usual() {
        // It is 1000 now; the clock showed 5000 when the import was accepted, and it has not been polled since.
        for (older, not_before) in [(0, None), (5, None), (0, Some(from_ms(5_300_000)))] {
            let ahead = InFlightBatch { not_before, ..flight(4_000, None, Some(5_005)) };
            assert_eq!(due_in_secs(&ahead, older, &[]), 1_000);
            assert_eq!(due_in_secs(&flight(5_000, None, None), older, &[]), 1_000);
        }
        assert_eq!(due_in_secs(&flight(5_000, Some(5_000), Some(1_000)), 0, &[]), 1_005);
    }
}
