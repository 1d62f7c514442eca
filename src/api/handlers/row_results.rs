//! Row results: what became of each row of a batch, from Marketo's reports and counts.

use std::collections::HashSet;
use std::sync::Arc;

use crate::api::dto::Problem;
use crate::api::handlers::joined_report::ReportPart;
use crate::api::handlers::report_rows::ReportRows;
use crate::delimited;
use crate::domain::{BatchKey, BatchState, ReportKind};
use crate::scheduler::{BatchMatch, matched_rows};
use crate::store::{Batch, Job, Store, StoreError};

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowOutcome {
    Imported,
    ImportedWithWarning,
    Failed,
    /// Marketo has no import with it.
    NotSent,
    /// Marketo's reports and counts do not tell.
    Unknown,
}

impl RowOutcome {
    /// Returns the value of the column `Marketo Result`.
    pub fn as_str(self) -> &'static str {
        match self {
            RowOutcome::Imported => "imported",
            RowOutcome::ImportedWithWarning => "imported with warning",
            RowOutcome::Failed => "failed",
            RowOutcome::NotSent => "not sent",
            RowOutcome::Unknown => "unknown",
        }
    }
}

/// The outcome of one row, with Marketo's reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RowResult {
    pub outcome: RowOutcome,
    /// Empty where there is none.
    pub reason: Arc<[u8]>,
}

/// The outcomes of a batch's rows.
#[derive(Debug)]
pub(super) struct RowResults {
    /// Of rows that stand in no report.
    others: RowOutcome,
    /// Rows in a report, by their numbers. The next one is last.
    reported: Vec<ReportedRow>,
    /// Rows that may be in a report. The next one is last.
    ambiguous: Vec<u32>,
    /// The number of the next row.
    row: u32,
    no_reason: Arc<[u8]>,
}

#[derive(Clone, Debug)]
struct ReportedRow {
    row: u32,
    result: RowResult,
}

impl RowResults {
    /// Reads the reports of a batch.
    ///
    /// # Errors
    /// 410 where the reports are erased; 503 and 500 of the database.
    pub async fn of_batch(store: &Store, job: &Job, batch: &Batch) -> Result<RowResults, Problem> {
        if batch.state != BatchState::Complete || batch.id_given_twice {
            return Ok(RowResults::all(unreported_outcome(batch)));
        }
        let matches = ReportMatches {
            failures: matched_rows(store, job, batch, ReportKind::Failures).await?,
            warnings: matched_rows(store, job, batch, ReportKind::Warnings).await?,
        };
        let mut results = match unknown_rows(store, BatchKey { job: job.id, part: batch.part }).await? {
            Some(unknown) => RowResults { ambiguous: unknown, ..RowResults::all(known_rows(batch, &matches)) },
            None => RowResults::all(other_rows(batch, &matches)),
        };
        for matched in [&matches.failures, &matches.warnings].into_iter().flatten() {
            results.ambiguous.extend(&matched.found.ambiguous);
        }
        results.ambiguous.sort_unstable_by(|a, b| b.cmp(a));
        let reports =
            [(ReportKind::Failures, RowOutcome::Failed), (ReportKind::Warnings, RowOutcome::ImportedWithWarning)];
        for (kind, outcome) in reports {
            if let Some(bytes) = batch.report_bytes(kind) {
                let part = ReportPart { kind, part: batch.part, bytes };
                results.add_report(ReportRows::new(store, job.clone(), vec![part]), outcome).await?;
            }
        }
        // A row that is in both reports failed: the sort is stable, and the first of them is last.
        results.reported.sort_by_key(|reported| reported.row);
        results.reported.dedup_by_key(|reported| reported.row);
        results.reported.reverse();
        Ok(results)
    }

    fn all(others: RowOutcome) -> RowResults {
        RowResults { others, reported: Vec::new(), ambiguous: Vec::new(), row: 0, no_reason: Arc::from([]) }
    }

    /// Adds the rows of a report that have a match. Equal reasons are held once.
    async fn add_report(&mut self, mut rows: ReportRows, outcome: RowOutcome) -> Result<(), Problem> {
        let mut reasons: HashSet<Arc<[u8]>> = HashSet::new();
        let reported = &mut self.reported;
        while rows
            .next(|row, origin| {
                let Some(sent) = origin.sent else { return };
                let reason = row.reason().unwrap_or_default();
                let reason = match reasons.get(reason) {
                    Some(known) => known.clone(),
                    None => {
                        let new: Arc<[u8]> = Arc::from(reason);
                        reasons.insert(new.clone());
                        new
                    }
                };
                reported.push(ReportedRow { row: sent.row, result: RowResult { outcome, reason } });
            })
            .await?
        {}
        Ok(())
    }

    /// Returns the result of the next row.
    pub fn next(&mut self) -> RowResult {
        let row = self.row;
        self.row += 1;
        if let Some(reported) = self.reported.pop_if(|reported| reported.row == row) {
            return reported.result;
        }
        let mut is_ambiguous = false;
        while self.ambiguous.pop_if(|next| *next <= row).is_some() {
            is_ambiguous = true;
        }
        let outcome = if is_ambiguous { RowOutcome::Unknown } else { self.others };
        RowResult { outcome, reason: self.no_reason.clone() }
    }
}

/// Returns the outcome of all rows of a batch of which there are no reliable reports.
fn unreported_outcome(batch: &Batch) -> RowOutcome {
    match batch.state {
        BatchState::Pending | BatchState::Failed | BatchState::Cancelled if !batch.may_be_imported => {
            RowOutcome::NotSent
        }
        _ => RowOutcome::Unknown,
    }
}

/// The matches of a batch's reports; none where there is no report, or its match could not be made.
#[derive(Clone, Debug, Default)]
struct ReportMatches {
    failures: Option<BatchMatch>,
    warnings: Option<BatchMatch>,
}

impl ReportMatches {
    /// Returns each report's kind and match.
    fn each(&self) -> [(ReportKind, Option<&BatchMatch>); 2] {
        [(ReportKind::Failures, self.failures.as_ref()), (ReportKind::Warnings, self.warnings.as_ref())]
    }
}

/// Reads the rows of a batch whose outcome is unknown where that of all others is known; none where the batch's counts
/// have to tell.
async fn unknown_rows(store: &Store, key: BatchKey) -> Result<Option<Vec<u32>>, StoreError> {
    let Some(encoded) = store.unknown_rows(key).await? else { return Ok(None) };
    let damaged =
        |error| StoreError::Damaged(format!("the unknown rows of job {}, part {}: {error}", key.job, key.part));
    delimited::decode_rows(&encoded).map(Some).map_err(damaged)
}

/// Returns the outcome of the rows of a complete batch that stand in no report, where it is stored which rows are
/// unknown. They are imported, unless a row of the reports is not found again: it could be any of them.
fn known_rows(batch: &Batch, matches: &ReportMatches) -> RowOutcome {
    let is_found = |(kind, matched): (ReportKind, Option<&BatchMatch>)| match matched {
        Some(BatchMatch { found, .. }) => found.unmatched() == 0,
        None => batch.report_bytes(kind).is_none(),
    };
    if matches.each().into_iter().all(is_found) { RowOutcome::Imported } else { RowOutcome::Unknown }
}

/// Returns the outcome of the rows of a complete batch that stand in no report, as its counts tell. They are imported
/// only where Marketo's counts add up, and each row that it counted as failed, or as one with a warning, was found.
fn other_rows(batch: &Batch, matches: &ReportMatches) -> RowOutcome {
    let counts = &batch.rows;
    // In a report whose match could not be made, any row may stand.
    let is_found = |(kind, matched): (ReportKind, Option<&BatchMatch>)| {
        let count = match kind {
            ReportKind::Failures => counts.failed,
            ReportKind::Warnings => counts.warned,
        };
        match matched {
            Some(BatchMatch { found, .. }) => {
                found.unplaced == 0 && count.is_none_or(|count| count == found.rows.len() as u64)
            }
            None => batch.report_bytes(kind).is_none() && count.is_none_or(|count| count == 0),
        }
    };
    if counts.is_accounted_for() && matches.each().into_iter().all(is_found) {
        RowOutcome::Imported
    } else {
        RowOutcome::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delimited::{RowMatch, SentRow};
    use crate::domain::Counts;
    use crate::domain::row_counts::RowCounts;

    fn complete(processed: Option<u64>, failed: Option<u64>, warned: Option<u64>) -> Batch {
        let rows = RowCounts::complete(10, Counts { processed, failed, warned });
        Batch { state: BatchState::Complete, rows, may_be_imported: true, ..Batch::new(1, 10, 0, 1) }
    }

    fn matched(rows: u32, unplaced: u64) -> BatchMatch {
        let rows = (0..rows).map(|row| Some(SentRow { row, line: row })).collect();
        BatchMatch { first_line: 2, found: RowMatch { rows, ambiguous: Vec::new(), unplaced } }
    }

    #[test]
    fn rows_in_no_report_are_imported_where_all_is_accounted_for() {
        let (two, open) = (matched(2, 0), matched(2, 1));
        for (counts, failures, warnings, imported) in [
            ((Some(10), Some(0), Some(0)), None, None, true),
            ((Some(8), Some(2), Some(2)), Some(&two), Some(&two), true),
            ((Some(8), Some(2), None), Some(&two), None, true),
            ((Some(8), Some(2), Some(0)), None, None, false),
            ((Some(7), Some(3), Some(0)), Some(&two), None, false),
            ((Some(8), Some(2), Some(0)), Some(&open), None, false),
            ((Some(8), Some(2), Some(2)), Some(&two), Some(&open), false),
            ((Some(8), Some(2), Some(1)), Some(&two), None, false),
            ((Some(8), None, None), Some(&two), None, false),
            ((Some(8), Some(1), None), Some(&matched(1, 0)), None, false),
            ((None, None, None), None, None, false),
        ] {
            let batch = complete(counts.0, counts.1, counts.2);
            let matches = ReportMatches { failures: failures.cloned(), warnings: warnings.cloned() };
            let found = other_rows(&batch, &matches);
            assert_eq!(found == RowOutcome::Imported, imported, "{counts:?} {failures:?} {warnings:?}");
        }
        // A file of failures is there whose match could not be made.
        let batch = Batch { warnings_bytes: Some(9), ..complete(Some(10), Some(0), None) };
        assert_eq!(other_rows(&batch, &ReportMatches::default()), RowOutcome::Unknown);
    }

    #[test]
    fn rows_that_are_not_listed_as_unknown_need_no_counts() {
        let ambiguous =
            BatchMatch { found: RowMatch { rows: vec![None], ambiguous: vec![0, 1], unplaced: 0 }, ..matched(0, 0) };
        for (failures_bytes, failures, outcome) in [
            (None, None, RowOutcome::Imported),
            (Some(9), Some(matched(2, 0)), RowOutcome::Imported),
            (Some(9), Some(ambiguous), RowOutcome::Unknown),
            // The match could not be made.
            (Some(9), None, RowOutcome::Unknown),
        ] {
            let batch = Batch { failures_bytes, ..complete(None, None, None) };
            let matches = ReportMatches { failures, warnings: None };
            assert_eq!(known_rows(&batch, &matches), outcome, "{matches:?}");
            assert_eq!(other_rows(&batch, &matches), RowOutcome::Unknown, "without counts");
        }
    }

    #[test]
    fn rows_that_marketo_cannot_have_are_not_sent() {
        use BatchState::{Cancelled, Failed, Held, Importing, Pending, Uploading};
        for (state, may_be_imported, outcome) in [
            (Pending, false, RowOutcome::NotSent),
            (Pending, true, RowOutcome::Unknown),
            (Failed, false, RowOutcome::NotSent),
            (Failed, true, RowOutcome::Unknown),
            (Cancelled, false, RowOutcome::NotSent),
            (Uploading, false, RowOutcome::Unknown),
            (Importing, true, RowOutcome::Unknown),
            (Held, true, RowOutcome::Unknown),
        ] {
            let batch = Batch { state, may_be_imported, ..Batch::new(1, 10, 0, 1) };
            assert_eq!(unreported_outcome(&batch), outcome, "{state} {may_be_imported}");
        }
    }

    #[test]
    fn results_come_in_the_order_of_the_rows() {
        let result = |outcome, reason: &str| RowResult { outcome, reason: Arc::from(reason.as_bytes()) };
        let reported = |row, reason| ReportedRow { row, result: result(RowOutcome::Failed, reason) };
        let mut results = RowResults {
            reported: vec![reported(4, "b"), reported(1, "a")],
            ambiguous: vec![3, 2, 2],
            ..RowResults::all(RowOutcome::Imported)
        };
        let shown: Vec<_> = (0..6).map(|_| results.next()).collect();
        let (imported, unknown) = (result(RowOutcome::Imported, ""), result(RowOutcome::Unknown, ""));
        assert_eq!(
            shown,
            [
                imported.clone(),
                result(RowOutcome::Failed, "a"),
                unknown.clone(),
                unknown,
                result(RowOutcome::Failed, "b"),
                imported
            ]
        );
    }
}
