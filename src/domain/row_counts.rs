//! Row counts of a job or a batch: Marketo's counts, compared with the rows that were sent.
//!
//! A count that Marketo did not give is unknown and never 0, so that a job with uncounted failed rows does not look
//! complete.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::import::Counts;
use crate::domain::state_machine::BatchState;

/// The rows of a job or a batch, and Marketo's counts of them so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct RowCounts {
    /// Rows that were submitted.
    pub total: u64,
    /// Rows that were imported, those with a warning included. Null where Marketo did not count them.
    pub processed: Option<u64>,
    /// Rows that were not imported. Null where Marketo did not count them.
    pub failed: Option<u64>,
    /// Imported rows with a warning. Null where Marketo did not count them.
    pub warned: Option<u64>,
    /// `total - processed - failed` of complete batches: 0 where Marketo's counts add up, negative where it counted
    /// more rows than were sent, null where it gave no count.
    pub unaccounted: Option<i64>,
}

/// The counts of a batch, with what decides how they are interpreted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchCounts {
    /// Its state.
    pub state: BatchState,
    /// Marketo's counts.
    pub counts: Counts,
    /// Whether Marketo has or had an import of the batch, or may have an unconfirmed one.
    pub may_be_imported: bool,
}

impl Default for RowCounts {
    fn default() -> RowCounts {
        RowCounts::uncounted(0)
    }
}

impl RowCounts {
    /// Returns the counts of `total` rows that were not sent yet.
    pub fn uncounted(total: u64) -> RowCounts {
        RowCounts { total, processed: Some(0), failed: Some(0), warned: Some(0), unaccounted: Some(0) }
    }

    /// Returns the counts of a complete import.
    pub fn complete(total: u64, counts: Counts) -> RowCounts {
        let Counts { processed, failed, warned } = counts;
        RowCounts { total, processed, failed, warned, unaccounted: difference(total, processed, failed) }
    }

    /// Returns the counts of a batch in any state.
    pub(crate) fn from_batch(total: u64, batch: BatchCounts) -> RowCounts {
        let Counts { processed, failed, warned } = batch.counts;
        let none_is_zero = match batch.state {
            BatchState::Complete => return RowCounts::complete(total, batch.counts),
            // Marketo has not processed its rows yet.
            BatchState::Pending | BatchState::Uploading | BatchState::Queued => true,
            BatchState::Importing | BatchState::Collecting | BatchState::Held => false,
            BatchState::Failed | BatchState::Cancelled => !batch.may_be_imported,
        };
        let known = |count: Option<u64>| count.or(none_is_zero.then_some(0));
        RowCounts {
            total,
            processed: known(processed),
            failed: known(failed),
            warned: known(warned),
            unaccounted: Some(0),
        }
    }

    /// Adds the counts of a batch, except for `total`. A count that is unknown of one batch is unknown of the sum.
    pub fn add_counts(&mut self, batch: &RowCounts) {
        let sum = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
        self.processed = sum(self.processed, batch.processed);
        self.failed = sum(self.failed, batch.failed);
        self.warned = sum(self.warned, batch.warned);
        self.unaccounted = self.unaccounted.zip(batch.unaccounted).map(|(a, b)| a.saturating_add(b));
    }

    /// Returns how many rows Marketo has processed, failed ones included; none where a count is unknown.
    pub fn done(&self) -> Option<u64> {
        Some(self.processed?.saturating_add(self.failed?))
    }

    /// Returns whether Marketo counted every row of each complete batch, and no more rows than were sent.
    pub fn is_accounted_for(&self) -> bool {
        self.unaccounted == Some(0)
    }

    /// Returns what is wrong with the counts, in one sentence without a full stop; none where they add up.
    pub fn discrepancy(&self) -> Option<String> {
        let count =
            |count: Option<u64>| count.map_or_else(|| "an unknown number".to_owned(), |count| count.to_string());
        let counted = format!("{} processed and {} failed", count(self.processed), count(self.failed));
        let rows = |number: u64| if number == 1 { "1 row".to_owned() } else { format!("{number} rows") };
        match self.unaccounted {
            Some(0) => None,
            Some(more) if more < 0 => Some(format!(
                "Marketo counted {} more than the {} sent: {counted}",
                rows(more.unsigned_abs()),
                self.total
            )),
            Some(less) => {
                let (less, is_or_are) = (less.unsigned_abs(), if less == 1 { "is" } else { "are" });
                Some(format!("{} of {} {is_or_are} unaccounted for: Marketo counted {counted}", rows(less), self.total))
            }
            None => Some(format!("Marketo did not count all of the {} sent: {counted}", rows(self.total))),
        }
    }
}

fn difference(total: u64, processed: Option<u64>, failed: Option<u64>) -> Option<i64> {
    let difference = i128::from(total) - i128::from(processed?) - i128::from(failed?);
    Some(i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(processed: Option<u64>, failed: Option<u64>) -> Counts {
        Counts { processed, failed, warned: Some(0) }
    }

    #[test]
    fn sums_are_compared_with_the_rows_sent() {
        for (total, processed, failed, unaccounted) in [
            (2, Some(2), Some(0), Some(0)),
            (2, Some(0), Some(2), Some(0)),
            (2, Some(1), Some(0), Some(1)),
            (1, Some(2), Some(0), Some(-1)),
            (0, Some(u64::MAX), Some(u64::MAX), Some(i64::MIN)),
            (u64::MAX, Some(0), Some(0), Some(i64::MAX)),
            (2, None, Some(0), None),
            (2, Some(2), None, None),
            (2, None, None, None),
        ] {
            let rows = RowCounts::complete(total, counts(processed, failed));
            assert_eq!(rows.unaccounted, unaccounted, "{total} {processed:?} {failed:?}");
            assert_eq!(
                (rows.is_accounted_for(), rows.discrepancy().is_none()),
                (unaccounted == Some(0), unaccounted == Some(0))
            );
        }
    }

    #[test]
    fn discrepancy_of_counts_is_shown_with_its_figures() {
        for (total, processed, failed, expected) in [
            (2, Some(1), Some(0), "1 row of 2 is unaccounted for: Marketo counted 1 processed and 0 failed"),
            (5, Some(1), Some(1), "3 rows of 5 are unaccounted for: Marketo counted 1 processed and 1 failed"),
            (1, Some(2), Some(0), "Marketo counted 1 row more than the 1 sent: 2 processed and 0 failed"),
            (
                2,
                None,
                Some(0),
                "Marketo did not count all of the 2 rows sent: an unknown number processed and 0 failed",
            ),
        ] {
            assert_eq!(RowCounts::complete(total, counts(processed, failed)).discrepancy().as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_missing_count_is_zero_only_before_any_import() {
        use BatchState as S;
        for (state, may_be_imported, processed) in [
            (S::Pending, false, Some(0)),
            (S::Uploading, false, Some(0)),
            (S::Queued, true, Some(0)),
            (S::Importing, true, None),
            (S::Collecting, true, None),
            (S::Complete, true, None),
            (S::Held, true, None),
            (S::Failed, false, Some(0)),
            (S::Failed, true, None),
            (S::Cancelled, false, Some(0)),
            (S::Cancelled, true, None),
        ] {
            let rows = RowCounts::from_batch(3, BatchCounts { state, counts: Counts::default(), may_be_imported });
            assert_eq!(rows.processed, processed, "{state} {may_be_imported}");
            assert_eq!(rows.unaccounted, if state == S::Complete { None } else { Some(0) }, "{state}");
        }
    }

    #[test]
    fn an_unknown_count_makes_the_sum_unknown() {
        let mut sum = RowCounts::uncounted(10);
        sum.add_counts(&RowCounts::complete(5, counts(Some(4), Some(1))));
        assert_eq!((sum.processed, sum.failed, sum.unaccounted), (Some(4), Some(1), Some(0)));
        sum.add_counts(&RowCounts::complete(3, counts(Some(2), Some(0))));
        sum.add_counts(&RowCounts::complete(1, counts(Some(3), Some(0))));
        assert_eq!((sum.done(), sum.unaccounted), (Some(10), Some(-1)));
        sum.add_counts(&RowCounts::complete(1, counts(None, Some(0))));
        assert_eq!((sum.processed, sum.failed, sum.done(), sum.unaccounted), (None, Some(1), None, None));
    }
}
