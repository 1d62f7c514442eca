//! Batch rules: how the batches of one job depend on each other.

/// How the batches of one job depend on each other. Without any rule they are independent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchRules {
    /// Each batch waits until the one before it in the file is complete.
    pub in_order: bool,
    /// The rows of the first batch, for which all others wait until it is complete; none where they do not wait. More
    /// than zero.
    pub canary: Option<u64>,
    /// No further batch is uploaded once more than this percentage of the rows of complete batches failed; none for no
    /// such threshold. At most 99.
    pub max_failed_percent: Option<u8>,
}

impl BatchRules {
    /// Returns whether a batch waits for another one. `is_first` tells the first batch of the file.
    fn has_dependents(&self, is_first: bool) -> bool {
        self.in_order || (is_first && self.canary.is_some())
    }

    /// Returns the name of the rule by which batches wait for others. It has a meaning only where one is set.
    pub fn dependency(&self) -> &'static str {
        if self.in_order { "in_order" } else { "canary" }
    }

    /// Returns why the batches that are not uploaded yet are to be cancelled after a batch failed; none where they are
    /// independent of it.
    pub fn stop_after_failure(&self, part: u32) -> Option<StopReason> {
        let rule = self.dependency();
        self.has_dependents(part == FIRST_PART).then(|| StopReason {
            cause: StopCause::Dependency,
            text: format!("part {part} failed, and the batches behind it wait for it ({rule})"),
        })
    }

    /// Returns why the batches that are not uploaded yet are to be cancelled after imports ended with `failed` of
    /// `rows` rows failed; none where the threshold is not passed.
    pub fn stop_after_import(&self, failed: u64, rows: u64) -> Option<StopReason> {
        let max = u64::from(self.max_failed_percent?);
        let is_above = u128::from(failed) * 100 > u128::from(rows) * u128::from(max);
        is_above.then(|| StopReason {
            cause: StopCause::Threshold,
            text: format!(
                "{failed} of the {rows} rows of its complete batches failed, and max_failed_percent is {max}: no further \
                 batch was uploaded"
            ),
        })
    }
}

/// The number of the first batch of a file. Where it is split, its first half keeps the number.
pub const FIRST_PART: u32 = 1;

/// Why no further batch of a job is uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopReason {
    /// The kind of the reason.
    pub cause: StopCause,
    /// The reason with its figures.
    pub text: String,
}

/// The kind of a reason for which no further batch of a job is uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum StopCause {
    /// Too many rows failed. A retry switches the threshold off.
    Threshold,
    /// A batch failed for which the others wait.
    Dependency,
}

impl StopCause {
    /// Returns the name in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threshold_is_passed_by_more_than_its_percentage() {
        let rules = |percent| BatchRules { max_failed_percent: percent, ..BatchRules::default() };
        for (percent, failed, rows, stops) in [
            (None, 10, 10, false),
            (Some(10), 1, 10, false),
            (Some(10), 2, 19, true),
            (Some(0), 0, 10, false),
            (Some(0), 1, 1_000_000, true),
            (Some(99), 99, 100, false),
            (Some(99), 100, 100, true),
            (Some(50), 0, 0, false),
            (Some(50), u64::MAX, u64::MAX, true),
        ] {
            assert_eq!(rules(percent).stop_after_import(failed, rows).is_some(), stops, "{percent:?} {failed} {rows}");
        }
        let stop = rules(Some(10)).stop_after_import(60, 100).unwrap();
        assert!(stop.text.starts_with("60 of the 100 rows"), "{}", stop.text);
    }

    #[test]
    fn failed_batch_stops_those_that_wait_for_it() {
        let in_order = BatchRules { in_order: true, ..BatchRules::default() };
        let canary = BatchRules { canary: Some(10), ..BatchRules::default() };
        let stops = |rules: BatchRules, part| rules.stop_after_failure(part).is_some();
        assert!(stops(in_order, 1) && stops(in_order, 2));
        assert!(stops(canary, 1) && !stops(canary, 2));
        assert!(!stops(BatchRules::default(), 1));
    }
}
