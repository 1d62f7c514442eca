//! Import duration: how long Marketo takes for an import of so many rows, by the imports that ended last. Pure.
//!
//! A fixed part and a part for each row are fitted to them with medians (the estimator of Theil and Sen), so that a few
//! imports that took unusually long change little.

use std::time::Duration;

use jiff::Timestamp;

use crate::store::EndedImport;

/// The number of imports that Marketo processes at once.
pub(crate) const ACTIVE_IMPORTS: usize = 2;

/// An import of more rows than this many times the largest one that is known has no estimate.
const MAX_EXTRAPOLATION: u64 = 10;

/// The time that an import takes by its rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct ImportDuration {
    fixed_ms: f64,
    per_row_ms: f64,
    /// Rows of the largest import that is known.
    largest: u64,
}

/// One import that is known.
#[derive(Clone, Copy, Debug)]
struct Sample {
    rows: u64,
    ms: f64,
}

impl ImportDuration {
    /// Fits the duration to these imports; none if there are none.
    pub(super) fn fit(imports: &[EndedImport]) -> Option<ImportDuration> {
        ImportDuration::fit_samples(&samples(imports))
    }

    /// Fits the duration to imports of so many rows that took so long; none if there are none.
    pub(super) fn fit_measured(imports: &[(u64, Duration)]) -> Option<ImportDuration> {
        let sample = |&(rows, took): &(u64, Duration)| Sample { rows, ms: took.as_secs_f64() * 1000.0 };
        ImportDuration::fit_samples(&imports.iter().map(sample).collect::<Vec<_>>())
    }

    fn fit_samples(samples: &[Sample]) -> Option<ImportDuration> {
        let largest = samples.iter().map(|sample| sample.rows).max()?;
        let time_a_row = || median(samples.iter().map(|sample| sample.ms / sample.rows.max(1) as f64).collect());
        let Some(slope) = median(slopes(samples)) else {
            // All have the same size: how much of the time is fixed is unknown, and a smaller import takes at most as
            // long.
            return Some(ImportDuration { fixed_ms: 0.0, per_row_ms: time_a_row()?, largest });
        };
        let per_row_ms = slope.max(0.0);
        let fixed_ms = median(samples.iter().map(|sample| sample.ms - per_row_ms * sample.rows as f64).collect())?;
        if fixed_ms < 0.0 {
            return Some(ImportDuration { fixed_ms: 0.0, per_row_ms: time_a_row()?, largest });
        }
        Some(ImportDuration { fixed_ms, per_row_ms, largest })
    }

    /// Returns how long an import of `rows` rows takes; none if it is far larger than all that are known.
    pub(super) fn estimate(&self, rows: u64) -> Option<Duration> {
        if rows > self.largest.saturating_mul(MAX_EXTRAPOLATION) {
            return None;
        }
        Duration::try_from_secs_f64((self.fixed_ms + self.per_row_ms * rows as f64) / 1000.0).ok()
    }
}

/// Returns the mean duration of the imports; zero if there are none.
pub(super) fn mean_duration(imports: &[EndedImport]) -> Duration {
    let samples = samples(imports);
    let total: f64 = samples.iter().map(|sample| sample.ms).sum();
    Duration::try_from_secs_f64(total / 1000.0 / samples.len().max(1) as f64).unwrap_or(Duration::ZERO)
}

/// Returns the rows and the durations of the imports. The time in which an import waited in Marketo's queue for one of
/// ours is not a part of its duration.
fn samples(imports: &[EndedImport]) -> Vec<Sample> {
    let mut imports = imports.to_vec();
    imports.sort_by_key(|import| import.accepted_at);
    // When each of the imports that run at once has ended.
    let mut free_at = [Timestamp::MIN; ACTIVE_IMPORTS];
    let mut samples = Vec::with_capacity(imports.len());
    for import in imports {
        free_at.sort();
        let began = import.accepted_at.max(free_at[0]);
        free_at[0] = import.ended_at.max(free_at[0]);
        let ms = import.ended_at.duration_since(began).as_millis().max(0) as f64;
        samples.push(Sample { rows: import.rows, ms });
    }
    samples
}

/// Returns the time for each further row between any two imports of different size.
fn slopes(samples: &[Sample]) -> Vec<f64> {
    let mut slopes = Vec::new();
    for (index, one) in samples.iter().enumerate() {
        let others = samples[index + 1..].iter().filter(|other| other.rows != one.rows);
        slopes.extend(others.map(|other| (other.ms - one.ms) / (other.rows as f64 - one.rows as f64)));
    }
    slopes
}

/// Returns the median; none of no values.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], upper) } else { upper })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;

    /// Imports of so many rows that took so many seconds, one after the other.
    fn one_after_the_other(imports: &[(u64, i64)]) -> Vec<EndedImport> {
        let at = |index: usize, second: i64| from_ms((1_000_000 * index as i64) + 1_000 * second);
        let ended = |(index, &(rows, seconds)): (usize, &(u64, i64))| EndedImport {
            rows,
            accepted_at: at(index, 0),
            ended_at: at(index, seconds),
        };
        imports.iter().enumerate().map(ended).collect()
    }

    fn seconds(imports: &[(u64, i64)], rows: u64) -> Option<u64> {
        let duration = ImportDuration::fit(&one_after_the_other(imports))?.estimate(rows)?;
        Some(duration.as_secs_f64().round() as u64)
    }

    #[test]
    fn duration_has_a_fixed_part_and_a_part_per_row() {
        let imports = [(100, 20), (200, 30), (400, 50), (1000, 110)];
        for (rows, expected) in [(0, 10), (100, 20), (300, 40), (2_000, 210)] {
            assert_eq!(seconds(&imports, rows), Some(expected), "{rows}");
        }
    }

    #[test]
    fn a_few_slow_imports_change_little() {
        let mut imports: Vec<_> = (1..=9).map(|n| (100 * n, 10 + 10 * i64::try_from(n).unwrap())).collect();
        imports[4].1 = 5_000;
        imports[7].1 = 900;
        let found = seconds(&imports, 500).unwrap();
        assert!((50..=75).contains(&found), "{found}");
    }

    #[test]
    fn imports_of_one_size_give_the_time_of_a_row() {
        assert_eq!(seconds(&[(100, 9), (100, 10), (100, 40)], 100), Some(10));
        assert_eq!(seconds(&[(100, 10)], 300), Some(30));
        // Larger ones that were faster do not make rows cost less than nothing.
        assert_eq!(seconds(&[(100, 20), (200, 10)], 150), Some(15));
    }

    #[test]
    fn no_duration_without_imports_of_similar_size() {
        assert_eq!(seconds(&[], 1), None);
        assert_eq!(seconds(&[(100, 10)], 1_000), Some(100));
        assert_eq!(seconds(&[(100, 10)], 1_001), None);
    }

    #[test]
    fn waiting_for_our_own_imports_is_no_part_of_the_duration() {
        // All were accepted at once, and Marketo ran two at a time, 10 s each.
        let imports: Vec<_> = [10, 10, 20, 20, 30, 30]
            .map(|second| EndedImport { rows: 100, accepted_at: from_ms(0), ended_at: from_ms(second * 1_000) })
            .into();
        let duration = ImportDuration::fit(&imports).unwrap();
        assert_eq!(duration.estimate(100), Some(Duration::from_secs(10)));
    }
}
