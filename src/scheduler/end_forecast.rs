//! End forecast: when each import that Marketo runs probably ends, by the imports that ended last and by the rows
//! that Marketo says are done. Pure.
//!
//! Marketo starts imports in the order of their acceptance, two at a time. So when an import began follows from the ends
//! of those before it, without a poll that finds it in progress.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::after;
use crate::domain::BatchKey;
use crate::scheduler::import_duration::ACTIVE_IMPORTS;
use crate::scheduler::import_duration::ImportDuration;
use crate::store::{EndedImport, InFlightBatch};

/// The fewest ended imports from which the spread of the durations is taken.
const MIN_SAMPLES: usize = 3;

/// The shortest and the longest duration with fewer imports, in multiples of the expected one.
const DEFAULT_SPREAD: (f64, f64) = (0.7, 1.3);

/// So many durations agree if the longest is at most so many times the shortest, both in multiples of the expected one and
/// without the outliers.
const AGREEING: (usize, f64) = (4, 3.0);

/// The part of the imports at each end of the spread that is left out: a few took unusually long.
const OUTLIERS: usize = 10;

/// An import is judged by its own progress once Marketo has done so many of its rows.
const MIN_ROWS_DONE: u64 = 4;

/// By how much of the remaining time the end may differ from the one that the progress promises: a fixed part, and one
/// that is divided by the root of the rows that are done.
const PROGRESS_TOLERANCE: (f64, f64) = (0.03, 0.3);

/// When an import probably ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndWindow {
    pub earliest: Timestamp,
    pub latest: Timestamp,
    /// It follows from the rows that are done, so the end is most likely in its middle.
    pub is_by_progress: bool,
}

impl EndWindow {
    /// Returns the time between the earliest and the latest end.
    pub fn width(&self) -> Duration {
        Duration::try_from(self.latest.duration_since(self.earliest)).unwrap_or(Duration::ZERO)
    }
}

/// The forecast of the imports of one instance.
#[derive(Clone, Debug, Default)]
pub(super) struct EndForecast {
    began: HashMap<BatchKey, Timestamp>,
    duration: Option<ImportDuration>,
    /// The shortest and the longest duration, in multiples of the expected one.
    spread: (f64, f64),
    /// The number of imports whose duration is known.
    samples: usize,
}

/// One import in the order of acceptance.
enum Entry<'a> {
    Ended(&'a EndedImport),
    InFlight(&'a InFlightBatch),
}

impl EndForecast {
    /// Makes the forecast of the imports `on_marketo` by those that ended last.
    pub fn of<'a>(ended: &[EndedImport], on_marketo: impl Iterator<Item = &'a InFlightBatch>) -> EndForecast {
        let mut entries: Vec<(Timestamp, Entry<'_>)> =
            ended.iter().map(|import| (import.accepted_at, Entry::Ended(import))).collect();
        entries.extend(on_marketo.filter_map(|flight| Some((flight.accepted_at?, Entry::InFlight(flight)))));
        // Two that were accepted in one millisecond ended in their order, most likely.
        entries.sort_by_key(|(accepted_at, entry)| match entry {
            Entry::Ended(import) => (*accepted_at, import.ended_at),
            Entry::InFlight(_) => (*accepted_at, Timestamp::MAX),
        });
        // When each of the imports that run at once has ended; none for one that has not.
        let mut free_at = [Some(Timestamp::MIN); ACTIVE_IMPORTS];
        let (mut began, mut durations) = (HashMap::new(), Vec::new());
        for (accepted_at, entry) in entries {
            let first_free = free_at.iter_mut().filter(|free| free.is_some()).min();
            match (entry, first_free) {
                (Entry::Ended(import), Some(free)) => {
                    let started = accepted_at.max(free.unwrap_or(accepted_at));
                    let took = Duration::try_from(import.ended_at.duration_since(started)).unwrap_or(Duration::ZERO);
                    durations.push((import.rows, took));
                    *free = Some(import.ended_at);
                }
                (Entry::InFlight(flight), Some(free)) => {
                    let started = accepted_at.max(free.unwrap_or(accepted_at));
                    // A poll that found it in progress shows that it began no later.
                    began.insert(flight.key, flight.importing_at.map_or(started, |found| found.min(started)));
                    *free = None;
                }
                // Marketo does not keep to the order, or other integrations' imports ended. Nothing follows from it.
                (Entry::Ended(_), None) => {}
                (Entry::InFlight(flight), None) => {
                    began.extend(flight.importing_at.map(|found| (flight.key, found)));
                }
            }
        }
        let duration = ImportDuration::fit_measured(&durations);
        EndForecast { began, duration, spread: spread(&durations, duration), samples: durations.len() }
    }

    /// Returns whether there are several durations and they are similar, so that the next one is probably similar too.
    pub fn durations_agree(&self) -> bool {
        let (shortest, longest) = self.spread;
        self.samples >= AGREEING.0 && longest <= shortest * AGREEING.1
    }

    /// Returns how long the longest of these imports takes by the rows that are done; none where no poll showed any.
    pub fn longest_by_progress<'a>(&self, imports: impl Iterator<Item = &'a InFlightBatch>) -> Option<Duration> {
        let duration = |flight: &InFlightBatch| {
            let end = self.window_by_progress(flight)?.latest;
            Duration::try_from(end.duration_since(self.began(flight)?)).ok()
        };
        imports.filter_map(duration).max()
    }

    /// Returns when an import began.
    pub fn began(&self, flight: &InFlightBatch) -> Option<Timestamp> {
        self.began.get(&flight.key).copied()
    }

    /// Returns how long an import of `rows` rows takes; none if it is unknown.
    pub fn duration(&self, rows: u64) -> Option<Duration> {
        self.duration?.estimate(rows)
    }

    /// Returns when an import probably ends; none where nothing is known.
    pub fn window(&self, flight: &InFlightBatch) -> Option<EndWindow> {
        self.window_by_progress(flight).or_else(|| {
            let (began, duration) = (self.began(flight)?, self.duration(flight.rows)?);
            let (shortest, longest) = self.spread;
            Some(EndWindow {
                earliest: after(began, duration.mul_f64(shortest)),
                latest: after(began, duration.mul_f64(longest)),
                is_by_progress: false,
            })
        })
    }

    /// Returns the end that follows from the rows that were done at the last poll.
    fn window_by_progress(&self, flight: &InFlightBatch) -> Option<EndWindow> {
        let (began, polled_at) = (self.began(flight)?, flight.polled_at?);
        let (rows, done) = (flight.rows, flight.rows_done);
        if done < MIN_ROWS_DONE || done > rows {
            return None;
        }
        let elapsed = Duration::try_from(polled_at.duration_since(began)).ok()?.as_secs_f64();
        let tolerance = PROGRESS_TOLERANCE.0 + PROGRESS_TOLERANCE.1 / (done as f64).sqrt();
        // One row more may be half done.
        let left = |done: u64| elapsed * (rows.saturating_sub(done) as f64) / done as f64;
        let at = |seconds: f64| Some(after(polled_at, Duration::try_from_secs_f64(seconds).ok()?));
        Some(EndWindow {
            earliest: at(left(done + 1) * (1.0 - tolerance))?,
            latest: at(left(done) * (1.0 + tolerance))?,
            is_by_progress: true,
        })
    }
}

/// Returns the shortest and the longest of these durations without the outliers, in multiples of the expected one.
fn spread(durations: &[(u64, Duration)], expected: Option<ImportDuration>) -> (f64, f64) {
    let ratio = |&(rows, took): &(u64, Duration)| {
        let expected = expected?.estimate(rows)?.as_secs_f64();
        (expected > 0.0).then(|| took.as_secs_f64() / expected)
    };
    let mut ratios: Vec<f64> = durations.iter().filter_map(ratio).collect();
    if ratios.len() < MIN_SAMPLES {
        return DEFAULT_SPREAD;
    }
    ratios.sort_by(f64::total_cmp);
    let left_out = ratios.len() / OUTLIERS;
    (ratios[left_out], ratios[ratios.len() - 1 - left_out])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::domain::{BatchState, JobId};

    fn at(second: i64) -> Timestamp {
        from_ms(1_000 * second)
    }

    fn ended(accepted: i64, ended: i64) -> EndedImport {
        EndedImport { rows: 100, accepted_at: at(accepted), ended_at: at(ended) }
    }

    fn flight(job: i64, accepted: i64) -> InFlightBatch {
        InFlightBatch {
            key: BatchKey { job: JobId(job), part: 1 },
            state: BatchState::Queued,
            group: None,
            list_id: None,
            rows: 100,
            rows_done: 0,
            not_before: None,
            accepted_at: Some(at(accepted)),
            importing_at: None,
            polled_at: None,
            is_overdue: false,
        }
    }

    #[test]
    fn an_import_begins_when_one_before_it_ends() {
        let flights = [flight(1, 3), flight(2, 4), flight(3, 5)];
        let forecast = EndForecast::of(&[ended(0, 30), ended(1, 40)], flights.iter());
        let began: Vec<_> = flights.iter().map(|flight| forecast.began(flight)).collect();
        assert_eq!(began, [Some(at(30)), Some(at(40)), None]);
    }

    #[test]
    fn a_long_import_keeps_its_slot_beside_short_ones() {
        let long = flight(1, 0);
        let next = flight(2, 9);
        let forecast = EndForecast::of(&[ended(1, 21), ended(2, 41)], [&long, &next].into_iter());
        assert_eq!((forecast.began(&long), forecast.began(&next)), (Some(at(0)), Some(at(41))));
        let window = forecast.window(&next).unwrap();
        assert_eq!((window.earliest, window.latest), (at(55), at(67)), "20 s, with the default spread");
    }

    #[test]
    fn progress_shows_the_end_more_exactly() {
        let importing = InFlightBatch { polled_at: Some(at(25)), rows_done: 25, ..flight(1, 0) };
        let forecast = EndForecast::of(&[], [&importing].into_iter());
        let window = forecast.window(&importing).unwrap();
        assert!(window.earliest > at(88) && window.latest < at(110), "{window:?}");
        let just_begun = InFlightBatch { rows_done: 2, ..importing };
        assert_eq!(forecast.window(&just_begun), None);
    }
}
