//! Matcher: reads a report, then the upload that it is about, and finds the row that was sent for each of its rows.
//!
//! Both are read once, in pieces. What is held grows with the rows of the report and with those that fit them, about 80
//! bytes a row, and not with their values.

use std::collections::HashMap;

use crate::delimited::field_reader::{FieldReader, Fields};
use crate::delimited::report_reader::{ReportReader, ReportRow};
use crate::delimited::row_match::columns::{SharedColumn, shared_columns};
use crate::delimited::row_match::row_hash::RowHash;
use crate::delimited::row_match::types::{RowMatch, SentRow};
use crate::domain::Format;

/// First step: reads the report.
#[derive(Debug)]
pub struct ReportMatcher {
    sent_columns: Vec<String>,
    format: Format,
    reader: ReportReader,
    wanted: WantedRows,
}

/// Second step: reads the rows of the upload.
#[derive(Debug)]
pub struct SentMatcher {
    reader: FieldReader,
    wanted: WantedRows,
    /// The rows so far.
    rows: u32,
    fits: Vec<Fit>,
}

/// The rows of a report, grouped by the values of the columns that it shares with the upload.
#[derive(Debug, Default)]
struct WantedRows {
    hash: RowHash,
    /// None until the report's header has been read.
    columns: Option<Vec<SharedColumn>>,
    /// The number of each group, by its hash.
    groups: HashMap<u128, u32>,
    /// By the group's number.
    sent: Vec<Candidates>,
    /// The group of each row of the report; none for a malformed one.
    rows: Vec<Option<u32>>,
}

/// What is known of the sent rows that fit one group.
#[derive(Clone, Copy, Debug)]
enum Candidates {
    None,
    /// All are equal in every column.
    Equal {
        hash: u128,
    },
    /// Which of them are in the report is unknown: some differ in a column that the report lacks, or only some of
    /// equal rows of several jobs are in it.
    Ambiguous,
}

/// A sent row that fits a group.
#[derive(Clone, Copy, Debug)]
struct Fit {
    group: u32,
    sent: SentRow,
}

impl ReportMatcher {
    /// Returns a matcher of a report about an upload with these columns, as
    /// [`columns`](crate::delimited::header::columns) reads them.
    pub fn new(sent_columns: Vec<String>, format: Format) -> Self {
        ReportMatcher { sent_columns, format, reader: ReportReader::new(format), wanted: WantedRows::default() }
    }

    /// Reads bytes of the report.
    pub fn push(&mut self, bytes: &[u8]) {
        let ReportMatcher { reader, wanted, sent_columns, .. } = self;
        reader.push(bytes, |row| wanted.add(&row, sent_columns));
    }

    /// Ends the report.
    pub fn finish(mut self) -> SentMatcher {
        self.reader.finish(|row| self.wanted.add(&row, &self.sent_columns));
        // The upload's size is limited, and so is that of its rows.
        let reader = FieldReader::new(self.format, 0, usize::MAX);
        SentMatcher { reader, wanted: self.wanted, rows: 0, fits: Vec::new() }
    }
}

impl WantedRows {
    fn add(&mut self, row: &ReportRow<'_>, sent_columns: &[String]) {
        let columns = self.columns.get_or_insert_with(|| shared_columns(sent_columns, row.columns()));
        if !row.is_well_formed() {
            self.rows.push(None);
            return;
        }
        let values = columns.iter().map(|column| row.value(column.report).unwrap_or_default());
        let next = self.sent.len() as u32;
        let group = *self.groups.entry(self.hash.hash(values)).or_insert(next);
        if group == next {
            self.sent.push(Candidates::None);
        }
        self.rows.push(Some(group));
    }

    /// Returns the group that a sent row fits.
    fn group_of(&self, fields: &Fields<'_>) -> Option<u32> {
        let columns = self.columns.as_ref()?;
        // A row that is too short has no values in its last columns, which reports show as empty ones.
        let values = columns.iter().map(|column| fields.get(column.sent).unwrap_or_default());
        self.groups.get(&self.hash.hash(values)).copied()
    }

    /// Adds a sent row to the candidates of its group.
    fn add_candidate(&mut self, group: u32, fields: &Fields<'_>) {
        let marker = fields.is_cut.then_some(&b"incomplete"[..]);
        let candidates = &mut self.sent[group as usize];
        match *candidates {
            Candidates::Ambiguous => {}
            Candidates::None => *candidates = Candidates::Equal { hash: self.hash.hash(fields.iter().chain(marker)) },
            Candidates::Equal { hash } => {
                if hash != self.hash.hash(fields.iter().chain(marker)) {
                    *candidates = Candidates::Ambiguous;
                }
            }
        }
    }

    /// Makes ambiguous the groups of equal rows of several jobs of which only some are in the report: which job's they
    /// are is unknown. `fits` returns the sent rows of a group.
    fn mark_partly_reported<'a>(&mut self, fits: impl Fn(usize) -> &'a [Fit], starts: &[u32]) {
        let mut reported = vec![0_usize; self.sent.len()];
        for group in self.rows.iter().flatten() {
            reported[*group as usize] += 1;
        }
        let job = |fit: &Fit| starts.partition_point(|&start| start <= fit.sent.row);
        for (group, candidates) in self.sent.iter_mut().enumerate() {
            let fits = fits(group);
            let is_shared = || fits.iter().any(|fit| job(fit) != job(&fits[0]));
            if matches!(candidates, Candidates::Equal { .. }) && reported[group] < fits.len() && is_shared() {
                *candidates = Candidates::Ambiguous;
            }
        }
    }
}

impl SentMatcher {
    /// Returns whether the upload has to be read. Without it no row of the report has a match.
    pub fn needs_sent_rows(&self) -> bool {
        !self.wanted.groups.is_empty()
    }

    /// Reads bytes of the upload behind its header.
    pub fn push(&mut self, bytes: &[u8]) {
        let SentMatcher { reader, wanted, rows, fits } = self;
        reader.push(bytes, |fields| add_sent(wanted, rows, fits, fields));
    }

    /// Returns the row that the next bytes begin; none within a row.
    pub fn next_row(&self) -> Option<SentRow> {
        let line = self.reader.next_line()?;
        Some(SentRow { row: self.rows, line: line as u32 })
    }

    /// Ends the upload. `others` are the rows, in rising order, that have a match in the other report of the same
    /// upload: of rows that are interchangeable, each is in one report only.
    pub fn finish(self, others: &[u32]) -> RowMatch {
        self.finish_shared(others, &[])
    }

    /// Ends an upload of several jobs; `starts` are the numbers of their first rows, in the order of the upload. Equal
    /// rows of two jobs are not interchangeable: unless all of them are in the report, they are ambiguous.
    pub fn finish_shared(self, others: &[u32], starts: &[u32]) -> RowMatch {
        let SentMatcher { reader, mut wanted, mut rows, mut fits } = self;
        reader.finish(|fields| add_sent(&mut wanted, &mut rows, &mut fits, fields));
        let is_other = |fit: &Fit| others.binary_search(&fit.sent.row).is_ok();
        fits.sort_unstable_by_key(|fit| (fit.group, is_other(fit), fit.sent.row));
        // The next unused fit of each group.
        let mut next = vec![0_usize; wanted.sent.len() + 1];
        for fit in &fits {
            next[fit.group as usize + 1] += 1;
        }
        for group in 1..next.len() {
            next[group] += next[group - 1];
        }
        if starts.len() > 1 {
            wanted.mark_partly_reported(|group| &fits[next[group]..next[group + 1]], starts);
        }
        let mut found = RowMatch { rows: Vec::with_capacity(wanted.rows.len()), ..RowMatch::default() };
        for &group in &wanted.rows {
            let fit = group.and_then(|group| {
                let at = next[group as usize];
                next[group as usize] += 1;
                fits.get(at).filter(|fit| fit.group == group)
            });
            // Of ambiguous rows, too, the report has at most as many as were sent.
            found.unplaced += u64::from(fit.is_none());
            let is_equal = |fit: &&Fit| matches!(wanted.sent[fit.group as usize], Candidates::Equal { .. });
            found.rows.push(fit.filter(is_equal).map(|fit| fit.sent));
        }
        let is_ambiguous = |fit: &&Fit| matches!(wanted.sent[fit.group as usize], Candidates::Ambiguous);
        found.ambiguous = fits.iter().filter(is_ambiguous).map(|fit| fit.sent.row).collect();
        found.ambiguous.sort_unstable();
        found
    }
}

/// Adds the next row of the upload.
fn add_sent(wanted: &mut WantedRows, rows: &mut u32, fits: &mut Vec<Fit>, fields: &Fields<'_>) {
    let row = *rows;
    *rows += 1;
    if let Some(group) = wanted.group_of(fields) {
        wanted.add_candidate(group, fields);
        // An upload has fewer lines than a u32 can count: its limit is far below 4 GB.
        fits.push(Fit { group, sent: SentRow { row, line: fields.line as u32 } });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case<'a> {
        header: &'a str,
        sent: &'a str,
        report: &'a str,
        format: Format,
    }

    fn matched(case: &Case<'_>, others: &[u32]) -> RowMatch {
        let columns = crate::delimited::columns(case.header.as_bytes(), case.format);
        let all: Vec<RowMatch> = [1, 2, 7, 1000]
            .map(|size| {
                let mut report = ReportMatcher::new(columns.clone(), case.format);
                case.report.as_bytes().chunks(size).for_each(|chunk| report.push(chunk));
                let mut sent = report.finish();
                case.sent.as_bytes().chunks(size).for_each(|chunk| sent.push(chunk));
                sent.finish(others)
            })
            .into();
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "chunking changes nothing");
        all[0].clone()
    }

    /// Returns the rows, `-` for none, and what is open.
    fn shown(found: &RowMatch) -> String {
        let rows: Vec<_> = found.rows.iter().map(|row| row.map_or("-".to_owned(), |row| row.row.to_string())).collect();
        format!("{} ambiguous {:?} unplaced {}", rows.join(" "), found.ambiguous, found.unplaced)
    }

    fn csv(header: &str, sent: &str, report: &str) -> String {
        shown(&matched(&Case { header, sent, report, format: Format::Csv }, &[]))
    }

    #[test]
    fn rows_are_found_whatever_the_order_of_rows_and_columns() {
        assert_eq!(
            csv("a,b", "1,x\n2,y\n3,z\n", "b,a,Import Failure Reason\nz,3,no\nx,1,no\n"),
            "2 0 ambiguous [] unplaced 0"
        );
    }

    #[test]
    fn quotes_and_line_ends_do_not_count() {
        let report = "\u{feff}\"a\",b,Import Failure Reason\r\n1,\"x\",no\r\n\r\n\"2\n\",\"\",no";
        assert_eq!(csv("a,b", "\"1\",x\r\n\"2\n\",\r\n", report), "0 1 ambiguous [] unplaced 0");
    }

    #[test]
    fn a_report_may_have_another_delimiter_than_the_upload() {
        let report = "a,b,Import Failure Reason\n1,\"x,y\",no\n";
        let case = Case { header: "a\tb", sent: "1\tx,y\n", report, format: Format::Tsv };
        assert_eq!(shown(&matched(&case, &[])), "0 ambiguous [] unplaced 0");
    }

    #[test]
    fn a_missing_column_leaves_rows_that_differ_in_it_without_match() {
        let sent = "1,x\n2,x\n3,y\n";
        assert_eq!(csv("a,b", sent, "b,Import Failure Reason\ny,no\n"), "2 ambiguous [] unplaced 0");
        assert_eq!(csv("a,b", sent, "b,Import Failure Reason\nx,no\n"), "- ambiguous [0, 1] unplaced 0");
        // That the missing column is empty in all rows of the report is a habit of Marketo's and no proof.
        assert_eq!(csv("a,b", ",x\n2,x\n", "b,Import Failure Reason\nx,no\n"), "- ambiguous [0, 1] unplaced 0");
    }

    #[test]
    fn equal_rows_are_used_once_each() {
        let sent = "1,x\n1,x\n\"1\",x\n2,y\n";
        let header = "a,b,Import Failure Reason\n";
        assert_eq!(csv("a,b", sent, &format!("{header}1,x,no\n1,x,no\n")), "0 1 ambiguous [] unplaced 0");
        let four = format!("{header}{}", "1,x,no\n".repeat(4));
        assert_eq!(csv("a,b", sent, &four), "0 1 2 - ambiguous [] unplaced 1");
        assert_eq!(csv("a,b", sent, "a,Import Failure Reason\n1,no\n"), "0 ambiguous [] unplaced 0");
    }

    #[test]
    fn the_other_reports_rows_are_used_last() {
        let report = "a,Import Warning Reason\n1,odd\n1,odd\n";
        let case = Case { header: "a", sent: "1\n1\n1\n", report, format: Format::Csv };
        assert_eq!(shown(&matched(&case, &[0])), "1 2 ambiguous [] unplaced 0");
        assert_eq!(shown(&matched(&case, &[0, 1])), "2 0 ambiguous [] unplaced 0");
    }

    #[test]
    fn malformed_rows_have_no_match() {
        let header = "a,b,Import Failure Reason\n";
        for (row, shown) in [
            ("1,x\n", "- ambiguous [] unplaced 1"),
            ("1,x,no, it is not\n", "- ambiguous [] unplaced 1"),
            ("1,x,\"no\n", "- ambiguous [] unplaced 1"),
            ("1 ,x,no\n", "- ambiguous [] unplaced 1"),
        ] {
            assert_eq!(csv("a,b", "1,x\n", &format!("{header}{row}")), shown, "{row:?}");
        }
        assert_eq!(csv("a,b", "1,x\n", "<html>\n<p>1,x</p>\n"), "- ambiguous [] unplaced 1");
        assert_eq!(csv("a,b", "1,x\n", ""), " ambiguous [] unplaced 0");
    }

    #[test]
    fn columns_that_were_not_sent_do_not_count() {
        assert_eq!(csv("a,b", "1,x\n2,y\n", "id,b,Import Failure Reason\n77,y,no\n"), "1 ambiguous [] unplaced 0");
        assert_eq!(csv("a,b", "1,x\n", "Import Failure Reason\nno\n"), "0 ambiguous [] unplaced 0");
    }

    #[test]
    fn rows_of_another_length_than_the_header_are_matched_if_alone() {
        let header = "a,b,Import Failure Reason\n";
        assert_eq!(csv("a,b", "1\n2,x,y\n", &format!("{header}1,,no\n2,x,no\n")), "0 1 ambiguous [] unplaced 0");
        assert_eq!(csv("a,b", "1\n1,\n", &format!("{header}1,,no\n")), "- ambiguous [0, 1] unplaced 0");
    }

    #[test]
    fn lines_within_quotes_and_blank_lines_count() {
        let case = Case {
            header: "a",
            sent: "\"1\n\"\n\n3\n",
            report: "a,Import Failure Reason\n3,no\n",
            format: Format::Csv,
        };
        assert_eq!(matched(&case, &[]).rows, [Some(SentRow { row: 2, line: 3 })]);
    }
}
