//! Property tests: a row of a report is matched to the row that it was made of, to an equal one, or to none.
//!
//! The `csv` crate writes both files: it shares no code with the lexer.

use proptest::prelude::*;

use crate::delimited::row_match::{ReportMatcher, RowMatch};
use crate::delimited::test_dialect::{Dialect, OF_FILES, OF_REPORTS, dialect};

/// A table, a report about it, and how both are written.
#[derive(Clone, Debug)]
struct Case {
    names: Vec<String>,
    rows: Vec<Vec<String>>,
    sent: Dialect,
    report: Dialect,
    /// The columns of the report, in its order.
    columns: Vec<usize>,
    /// The rows of the report, in its order; each row at most once.
    reported: Vec<usize>,
    reason: String,
    /// A column that was not sent.
    added_column: bool,
}

fn case() -> impl Strategy<Value = Case> {
    // Few values, so that rows and columns are often equal.
    let value = prop::sample::select(vec!["", "", "a", "a", "b", " a", "é", "a\nb", "a\"", "x,y;z\tw", "\r", "\"\""]);
    let name = prop::sample::select(vec!["email", "name", "city", "note", "note"]);
    (1..5_usize, 1..12_usize).prop_flat_map(move |(columns, rows)| {
        let row = prop::collection::vec(value.clone().prop_map(str::to_owned), columns);
        let any_order = |all: usize| {
            (Just((0..all).collect::<Vec<_>>()).prop_shuffle(), 0..all + 1)
                .prop_map(|(order, kept)| order[..kept].to_vec())
        };
        let in_order = prop::bool::weighted(0.5);
        (
            (prop::collection::vec(name.clone().prop_map(str::to_owned), columns), prop::collection::vec(row, rows)),
            (dialect(OF_FILES), dialect(OF_REPORTS)),
            (any_order(columns), in_order, any_order(rows)),
            (value.clone().prop_map(str::to_owned), prop::bool::weighted(0.2)),
        )
            .prop_map(
                move |((names, rows), (sent, report), (some, in_order, reported), (reason, added_column))| Case {
                    names,
                    rows,
                    sent: Dialect { backslashes: false, ..sent },
                    report,
                    columns: if in_order { (0..columns).collect() } else { some },
                    reported,
                    reason,
                    added_column,
                },
            )
    })
}

impl Case {
    fn sent(&self) -> Vec<u8> {
        self.sent.write(&self.rows)
    }

    fn report(&self) -> Vec<u8> {
        let record = |row: &[String], added: &str, reason: &str| -> Vec<String> {
            let values = self.columns.iter().map(|&column| row[column].clone());
            let added = self.added_column.then(|| added.to_owned());
            values.chain(added).chain([reason.to_owned()]).collect()
        };
        let header = record(&self.names, "id", "Import Failure Reason");
        let rows = self.reported.iter().map(|&row| record(&self.rows[row], "7", &self.reason));
        self.report.write(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
    }

    fn matched(&self, report: &[u8], size: usize) -> RowMatch {
        let mut matcher = ReportMatcher::new(self.names.clone(), self.sent.format);
        report.chunks(size).for_each(|chunk| matcher.push(chunk));
        let mut matcher = matcher.finish();
        self.sent().chunks(size).for_each(|chunk| matcher.push(chunk));
        matcher.finish(&[])
    }

    /// Returns the columns by which rows are distinguished in the report.
    fn told_apart_by(&self) -> Vec<usize> {
        let times = |name: &String, among: &mut dyn Iterator<Item = usize>| {
            among.filter(|&column| self.names[column] == *name).count()
        };
        let is_unique = |column: &usize| {
            let name = &self.names[*column];
            times(name, &mut (0..self.names.len())) == 1 && times(name, &mut self.columns.iter().copied()) == 1
        };
        self.columns.iter().copied().filter(is_unique).collect()
    }

    /// Returns the rows that cannot be distinguished from `row` in the report.
    fn fitting(&self, row: usize) -> Vec<usize> {
        let by = self.told_apart_by();
        let is_equal = |other: &usize| by.iter().all(|&column| self.rows[*other][column] == self.rows[row][column]);
        (0..self.rows.len()).filter(is_equal).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn rows_are_matched_to_a_right_row_or_to_none(case in case(), size in 1..60_usize) {
        let found = case.matched(&case.report(), size);
        let mut used = found.sent_rows();
        used.dedup();
        prop_assert_eq!(used.len(), found.sent_rows().len(), "each row is used once");
        let text = String::from_utf8(case.sent()).unwrap();
        if case.report.backslashes {
            // Quotes are read otherwise than they were meant, so rows may run together. A row that is read by chance as
            // it was sent is matched.
            for sent in found.rows.iter().flatten() {
                let fits = |&row: &usize| case.fitting(row).contains(&(sent.row as usize));
                prop_assert!(case.reported.iter().any(fits), "{:?}", sent);
            }
            return Ok(());
        }
        prop_assert_eq!(found.rows.len(), case.reported.len());
        let mut open = 0;
        for (sent, &source) in found.rows.iter().zip(&case.reported) {
            let fitting = case.fitting(source);
            let is_told = fitting.iter().all(|&row| case.rows[row] == case.rows[source]);
            prop_assert_eq!(sent.is_some(), is_told, "the row of {}", source);
            if let Some(sent) = sent {
                prop_assert_eq!(&case.rows[sent.row as usize], &case.rows[source]);
                let before: usize = case.rows[..sent.row as usize].iter().flatten()
                    .map(|value| value.matches('\n').count()).sum();
                prop_assert_eq!(sent.line as usize, sent.row as usize + before, "{}", text);
            } else {
                open += 1;
                for row in fitting {
                    prop_assert!(found.ambiguous.contains(&(row as u32)));
                }
            }
        }
        prop_assert_eq!((found.unmatched(), found.unplaced), (open, 0));
        prop_assert_eq!(RowMatch::decode(&found.encode()), Ok(found));
    }

    #[test]
    fn matches_of_a_damaged_report_do_not_depend_on_chunks(
        case in case(),
        at in any::<prop::sample::Index>(),
        byte in prop::sample::select(b"\",\n\r;\ta\xff".as_slice()),
        size in 1..60_usize,
    ) {
        let mut report = case.report();
        let at = at.index(report.len());
        report[at] = byte;
        let found = case.matched(&report, size);
        prop_assert_eq!(&found, &case.matched(&report, 10_000));
        prop_assert!(found.sent_rows().iter().all(|&row| (row as usize) < case.rows.len()));
    }
}
