//! Poll interval: when each import is polled next. Pure functions.
//!
//! Marketo processes imports first in, first out, two at a time, so only our two oldest can end next. These are polled
//! when they should end by [`EndForecast`]. The others are polled rarely, because their status cannot have changed.
//! Polling ten imports every five seconds would take 172,800 calls a day, over three times the usual quota.
//!
//! A late poll costs no throughput: Marketo holds up to ten imports and starts the next one by itself.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::after;
use crate::config::Polling;
use crate::domain::BatchState;
use crate::scheduler::end_forecast::EndForecast;
use crate::scheduler::import_duration::ACTIVE_IMPORTS;
use crate::store::{EndedImport, InFlightBatch, Snapshot};

/// The poll interval of an import that cannot end next, in multiples of `polling.max`. It is polled only in case that
/// Marketo does not process imports in order.
const IDLE_FACTOR: u32 = 4;

/// The same in multiples of the duration of an import, where that is longer: in a full queue an import waits for four
/// pairs of others.
const IDLE_DURATIONS: u32 = 5;

/// The longest of these intervals.
const MAX_IDLE_INTERVAL: Duration = Duration::from_secs(150 * 60);

/// An import that may end next is polled after its elapsed time at the latest, or after the shortest time that it should
/// take divided by this. Estimates may be wrong, after an outage or while the clock is set for example.
const MAX_WAIT_DIVISOR: u32 = 3;

/// That time is at least and at most so many times `polling.max`.
const MAX_WAIT_FACTORS: (u32, u32) = (4, 20);

/// Where the durations of the imports that ended last agree, that time is the shortest one that the import should take, and
/// at most so many times `polling.max`. A poll shortly before the end shows more exactly when it comes.
const MAX_AGREED_WAIT_FACTOR: u32 = 60;

/// Where a poll has shown how many rows are done, the forecast depends less on other imports. Then that time is this many times
/// the elapsed one.
const MAX_WAIT_BY_PROGRESS: u32 = 5;

/// The longest such time.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// An end that its progress promises within so many times `polling.max` is not approached in steps: the next poll comes
/// after the middle of that time.
const PROGRESS_WIDTH_FACTOR: u32 = 2;

/// So much after it: `polling.max` divided by this.
const PROGRESS_DELAY_DIVISOR: u32 = 4;

/// An import is long if it should take at least so many times `polling.max`.
const LONG_IMPORT_FACTOR: u32 = 5;

/// In this many steps an import is polled from its earliest to its latest end. The steps are no shorter than a third of
/// `polling.max` allows, and no longer than a sixth of the time between the two.
const STEPS: u32 = 3;

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

/// What the times of polls depend on.
#[derive(Clone, Debug)]
pub(crate) struct PollSchedule<'a> {
    forecast: EndForecast,
    /// How long an import takes where none has ended yet.
    longest_by_progress: Option<Duration>,
    polling: &'a Polling,
    now: Timestamp,
}

impl<'a> PollSchedule<'a> {
    /// Returns the schedule of the imports in a snapshot.
    pub fn of(snapshot: &Snapshot, polling: &'a Polling, now: Timestamp) -> PollSchedule<'a> {
        let on_marketo = || in_order(&snapshot.in_flight).map(|(flight, _)| flight).filter(|flight| !flight.is_overdue);
        let mut ended = snapshot.ended_imports.clone();
        ended.extend(snapshot.in_flight.iter().filter_map(ended_import));
        let forecast = EndForecast::of(&ended, on_marketo());
        let longest_by_progress = forecast.longest_by_progress(on_marketo());
        PollSchedule { forecast, longest_by_progress, polling, now }
    }

    /// Returns when to poll `flight`, which has `older` of our imports before it in Marketo's queue.
    pub(crate) fn due(&self, flight: &InFlightBatch, older: usize) -> Timestamp {
        let accepted = flight.accepted_at.unwrap_or(self.now);
        let last = flight.polled_at.unwrap_or(accepted);
        // The clock was set back, so the time since the last poll is unknown. The import is polled now, which sets a
        // new start.
        if last > self.now {
            return self.now;
        }
        let due = if older >= ACTIVE_IMPORTS {
            after(last, self.idle_interval(flight))
        } else {
            self.active_due(flight, last)
        };
        flight.not_before.map_or(due, |not_before| due.max(not_before))
    }

    fn idle_interval(&self, flight: &InFlightBatch) -> Duration {
        let shortest = self.polling.max * IDLE_FACTOR;
        if flight.is_overdue {
            return shortest;
        }
        let duration = self.forecast.duration(flight.rows).or(self.longest_by_progress).unwrap_or(Duration::ZERO);
        duration.saturating_mul(IDLE_DURATIONS).min(MAX_IDLE_INTERVAL).max(shortest)
    }

    /// Returns when to poll an import that may end next.
    fn active_due(&self, flight: &InFlightBatch, last: Timestamp) -> Timestamp {
        let polling = self.polling;
        let accepted = flight.accepted_at.unwrap_or(self.now);
        let began = self.forecast.began(flight).unwrap_or(accepted);
        let Some(window) = self.forecast.window(flight) else { return after(last, interval(began, last, polling)) };
        let (earliest, latest) = (window.earliest, window.latest);
        // It has not begun as was expected: what Marketo imports before it is not ours.
        if last >= began && flight.polled_at.is_some() && flight.importing_at.is_none() {
            return after(last, interval(accepted, last, polling));
        }
        if last >= latest {
            return after(last, interval(latest, last, polling));
        }
        let width = window.width();
        let step = (width / STEPS).min(polling.max / STEPS).max(width / (2 * STEPS)).max(polling.min);
        let due = if window.is_by_progress && width <= polling.max * PROGRESS_WIDTH_FACTOR {
            after(earliest, width / 2 + polling.max / PROGRESS_DELAY_DIVISOR).min(latest)
        } else if last >= earliest {
            after(last, step)
        } else if width > step * (STEPS + 1) {
            earliest
        } else {
            after(earliest, step).min(latest)
        };
        let since_began = |time: Timestamp| Duration::try_from(time.duration_since(began)).unwrap_or(Duration::ZERO);
        let shortest_bound = polling.max * MAX_WAIT_FACTORS.0;
        let longest = if window.is_by_progress {
            since_began(last).saturating_mul(MAX_WAIT_BY_PROGRESS).min(MAX_WAIT).max(shortest_bound)
        } else {
            let agree = self.forecast.durations_agree();
            let (divisor, most) =
                if agree { (1, MAX_AGREED_WAIT_FACTOR) } else { (MAX_WAIT_DIVISOR, MAX_WAIT_FACTORS.1) };
            let bound = since_began(last).max(since_began(earliest) / divisor);
            bound.clamp(shortest_bound, polling.max * most)
        };
        // A poll when it should have begun corrects the forecast of those behind it. Beside a long import that is not worth a
        // call.
        let is_long = since_began(earliest) >= polling.max * LONG_IMPORT_FACTOR;
        let from = if is_long { began.min(after(last, self.idle_interval(flight))).max(last) } else { last };
        due.clamp(after(last, polling.min), after(from, longest))
    }
}

/// Returns the import of a batch that is only waiting for its reports: Marketo has ended it and begun the next one.
fn ended_import(flight: &InFlightBatch) -> Option<EndedImport> {
    let (accepted_at, ended_at) = (flight.accepted_at?, flight.polled_at?);
    let is_ended = flight.state == BatchState::Collecting && ended_at >= accepted_at;
    is_ended.then_some(EndedImport { rows: flight.rows, accepted_at, ended_at })
}

fn interval(since: Timestamp, last: Timestamp, polling: &Polling) -> Duration {
    let waited = Duration::try_from(last.duration_since(since)).unwrap_or(Duration::ZERO);
    (waited / ELAPSED_DIVISOR).clamp(polling.min, polling.max)
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
            rows_done: 0,
            not_before: None,
            accepted_at: Some(secs(accepted)),
            importing_at: importing.map(secs),
            polled_at: polled.map(secs),
            is_overdue: false,
        }
    }

    /// Imports of 100 rows that took 20 s each, one after the other, the last of which ended at this second.
    fn ended(last: i64) -> Vec<EndedImport> {
        let secs = |secs: i64| from_ms(secs * 1000);
        let import = |back: i64| EndedImport {
            rows: 100,
            accepted_at: secs(last - 20 * back - 20),
            ended_at: secs(last - 20 * back),
        };
        (0..2).map(import).collect()
    }

    fn due_in_secs(flight: &InFlightBatch, older: usize, ended_imports: Vec<EndedImport>) -> i64 {
        let snapshot = Snapshot { in_flight: vec![flight.clone()], ended_imports, ..Snapshot::default() };
        let due = PollSchedule::of(&snapshot, &POLLING, from_ms(1_000_000)).due(flight, older);
        due.as_millisecond() / 1000
    }

    #[test]
    fn interval_stays_between_its_minimum_and_maximum() {
        // Accepted, polled, the next poll, in seconds. No recent import.
        for (accepted, polled, next) in
            [(100, None, 105), (100, Some(105), 110), (100, Some(140), 150), (100, Some(400), 430)]
        {
            assert_eq!(due_in_secs(&flight(accepted, None, polled), 0, vec![]), next);
        }
    }

    #[test]
    fn import_is_polled_when_it_should_have_ended() {
        // It begins at 100 and takes 20 s, give or take 6.
        assert_eq!(due_in_secs(&flight(100, None, None), 0, ended(100)), 119);
        assert_eq!(due_in_secs(&flight(100, Some(100), Some(119)), 0, ended(100)), 124);
        // Not sooner than the minimum interval.
        assert_eq!(due_in_secs(&flight(100, Some(100), Some(125)), 0, ended(100)), 130);
        // 80 s later than expected: the interval is a quarter of that.
        assert_eq!(due_in_secs(&flight(100, Some(100), Some(206)), 0, ended(100)), 226);
    }

    #[test]
    fn a_long_import_is_polled_by_its_progress() {
        let hour = vec![EndedImport { rows: 100, accepted_at: from_ms(-3_600_000), ended_at: from_ms(0) }];
        assert_eq!(due_in_secs(&flight(100, None, None), 0, hour.clone()), 700, "an early end is noticed");
        let half = InFlightBatch { rows_done: 50, ..flight(100, Some(100), Some(500)) };
        let due = due_in_secs(&half, 0, hour);
        assert!((850..890).contains(&due), "it ends at 900: {due}");
        let begun = InFlightBatch { rows: 1_000, rows_done: 100, ..flight(100, Some(100), Some(400)) };
        assert_eq!(due_in_secs(&begun, 0, vec![]), 1_900, "five times what it has taken");
        let nearly = InFlightBatch { rows_done: 95, ..flight(100, Some(100), Some(860)) };
        let due = due_in_secs(&nearly, 0, vec![]);
        assert!((900..=905).contains(&due), "it ends at 900: {due}");
    }

    #[test]
    fn agreed_durations_delay_the_first_poll_of_an_import() {
        // Each took so many minutes, one after the other. The next one begins at second 0, when the last has ended.
        let next_due = |minutes: &[i64]| {
            let mut begin = 0;
            let imports = minutes.iter().map(|minutes| {
                let end = begin;
                begin -= 60_000 * minutes;
                EndedImport { rows: 100, accepted_at: from_ms(begin), ended_at: from_ms(end) }
            });
            due_in_secs(&flight(0, None, None), 0, imports.collect())
        };
        assert_eq!(next_due(&[20, 20, 20, 20, 20]), 1_200);
        assert_eq!(next_due(&[20, 20, 20]), 400, "too few to rely on");
        assert_eq!(next_due(&[20, 20, 20, 20, 90, 90]), 400, "too different to rely on");
        assert_eq!(next_due(&[60, 60, 60, 60]), 1_800, "in half an hour at the latest");
    }

    #[test]
    fn imports_behind_a_long_one_are_polled_rarely() {
        let long = InFlightBatch { rows_done: 50, ..flight(0, Some(0), Some(900)) };
        let behind = InFlightBatch { key: BatchKey { job: JobId(9), part: 1 }, ..flight(0, None, None) };
        let snapshot = Snapshot { in_flight: vec![long, behind.clone()], ..Snapshot::default() };
        let due = PollSchedule::of(&snapshot, &POLLING, from_ms(1_000_000)).due(&behind, 5);
        assert_eq!(due, from_ms(9_000_000), "at least every two and a half hours");
    }

    #[test]
    fn an_import_whose_reports_are_fetched_has_ended() {
        // Both that were imported have ended, and the next one takes the slot of the first for 20 s.
        let collecting = |job, polled| InFlightBatch {
            key: BatchKey { job: JobId(job), part: 1 },
            state: BatchState::Collecting,
            ..flight(80, Some(80), Some(polled))
        };
        let next = flight(81, None, None);
        let in_flight = vec![collecting(2, 100), collecting(3, 101), next.clone()];
        let snapshot = Snapshot { in_flight, ended_imports: ended(80), ..Snapshot::default() };
        let due = PollSchedule::of(&snapshot, &POLLING, from_ms(102_000)).due(&next, 0);
        assert_eq!(due, from_ms(121_000), "not as if it had begun when it was accepted");
    }

    #[test]
    fn an_import_that_has_not_begun_in_time_is_polled_on() {
        let queued = InFlightBatch { state: BatchState::Queued, ..flight(100, None, Some(120)) };
        assert_eq!(due_in_secs(&queued, 0, ended(100)), 125);
    }

    #[test]
    fn third_import_in_the_queue_is_polled_rarely() {
        assert_eq!(due_in_secs(&flight(100, None, None), 2, vec![]), 220);
        assert_eq!(due_in_secs(&flight(100, None, None), 9, vec![]), 220);
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
        assert_eq!(due_in_secs(&failed, 0, vec![]), 500);
    }

    #[test]
    fn clock_set_back_polls_once_then_as_usual() {
        // The time is 1000 s. The import was accepted when the clock showed 5000 s.
        for (older, not_before) in [(0, None), (5, None), (0, Some(from_ms(5_300_000)))] {
            let ahead = InFlightBatch { not_before, ..flight(4_000, None, Some(5_005)) };
            assert_eq!(due_in_secs(&ahead, older, vec![]), 1_000);
            assert_eq!(due_in_secs(&flight(5_000, None, None), older, vec![]), 1_000);
        }
        assert_eq!(due_in_secs(&flight(5_000, Some(5_000), Some(1_000)), 0, vec![]), 1_005);
    }

    /// Returns the polls beyond the last one of each of these imports, whose durations are in seconds, and the median time
    /// from an end to its poll. Marketo imports two at a time in their order, and ten are in its queue.
    fn extra_polls(durations: &[i64]) -> (f64, i64) {
        const ROWS: u64 = 900;
        let (mut accepted, mut begins, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let (mut flights, mut ended_imports) = (Vec::<InFlightBatch>::new(), Vec::new());
        let (mut now, mut polls, mut delays) = (0_i64, 0_u32, Vec::new());
        let ms = |second: i64| from_ms(second * 1000);
        while delays.len() < durations.len() {
            while flights.len() < 10 && accepted.len() < durations.len() {
                let number = accepted.len();
                let mut free: Vec<i64> = ends.clone();
                free.sort_unstable_by_key(|&end: &i64| std::cmp::Reverse(end));
                let begin = free.get(1).copied().unwrap_or(0).max(now);
                // An upload takes a second.
                now += 1;
                accepted.push(now);
                begins.push(begin);
                ends.push(begin + durations[number]);
                let key = BatchKey { job: JobId(number as i64), part: 1 };
                flights.push(InFlightBatch { key, rows: ROWS, state: BatchState::Queued, ..flight(now, None, None) });
            }
            let snapshot =
                Snapshot { in_flight: flights.clone(), ended_imports: ended_imports.clone(), ..Snapshot::default() };
            let schedule = PollSchedule::of(&snapshot, &POLLING, ms(now));
            let due = in_order(&flights).map(|(flight, older)| (schedule.due(flight, older), flight.key));
            let (due, key) = due.min().unwrap();
            now = now.max(due.as_millisecond().div_euclid(1000) + 1);
            polls += 1;
            let number = key.job.0 as usize;
            if now >= ends[number] {
                delays.push(now - ends[number]);
                flights.retain(|flight| flight.key != key);
                ended_imports
                    .insert(0, EndedImport { rows: ROWS, accepted_at: ms(accepted[number]), ended_at: ms(now) });
                ended_imports.truncate(20);
            } else {
                let flight = flights.iter_mut().find(|flight| flight.key == key).unwrap();
                flight.polled_at = Some(ms(now));
                if now >= begins[number] {
                    flight.state = BatchState::Importing;
                    flight.importing_at = flight.importing_at.or(Some(ms(now)));
                    let done = (now - begins[number]) as u64 * ROWS / durations[number] as u64;
                    flight.rows_done = done;
                }
            }
        }
        delays.sort_unstable();
        (f64::from(polls) / durations.len() as f64 - 1.0, delays[delays.len() / 2])
    }

    #[test]
    fn imports_of_any_length_need_few_polls() {
        for (mean, most) in [(30, 2.0), (60, 2.6), (300, 1.2), (1_800, 1.6)] {
            let percent = |number: i64| 70 + number * 23 % 40 * 60 / 39;
            let durations: Vec<i64> = (0..40).map(|number| mean * percent(number) / 100).collect();
            let (extra, delay) = extra_polls(&durations);
            assert!(extra <= most && delay <= 10, "imports of {mean} s: {extra:.2} polls, known after {delay} s");
        }
    }
}
