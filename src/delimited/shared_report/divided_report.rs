//! Divided report: the rows of one report of a shared import, each with the job that sent it.

use crate::delimited::report_reader::{ReportReader, ReportRow};
use crate::delimited::row_match::{ReportMatcher, RowMatch, SentMatcher, SentRow};
use crate::delimited::shared_report::types::JobReport;
use crate::domain::Format;

/// A report that was read, while the rows that were sent are matched with it.
#[derive(Debug)]
pub(super) struct MatchedReport {
    bytes: Vec<u8>,
    format: Format,
    pub matcher: SentMatcher,
}

/// One report, divided among jobs.
#[derive(Debug)]
pub(super) struct DividedReport {
    /// The share of each job, in the order of the upload.
    pub jobs: Vec<JobReport>,
    /// The rows that have a match, in rising order, counted from the first row of the upload.
    pub matched: Vec<u32>,
    /// The number of the report's rows, also of those that no job has.
    rows: u64,
    unplaced: u64,
}

impl MatchedReport {
    /// Reads a report about an import of `format` with these columns.
    pub fn read(columns: Vec<String>, format: Format, bytes: Vec<u8>) -> MatchedReport {
        let mut matcher = ReportMatcher::new(columns, format);
        matcher.push(&bytes);
        MatchedReport { bytes, format, matcher: matcher.finish() }
    }

    /// Divides the report among jobs whose first rows are `starts`. `others` are the rows, in rising order, that have a
    /// match in the other report.
    pub fn divide(self, starts: &[SentRow], others: &[u32]) -> DividedReport {
        let MatchedReport { bytes, format, matcher } = self;
        let start_rows: Vec<u32> = starts.iter().map(|start| start.row).collect();
        let found = matcher.finish_shared(others, &start_rows);
        let mut jobs = vec![JobReport::default(); starts.len()];
        for &row in &found.ambiguous {
            if let Some(job) = job_of(&start_rows, row) {
                jobs[job].found.ambiguous.push(row - start_rows[job]);
            }
        }
        // A reader of the same bytes passes the rows that the matcher read, in the same order.
        let mut sent_rows = found.rows.iter();
        let mut add = |row: ReportRow<'_>| {
            let Some(sent) = sent_rows.next().copied().flatten() else { return };
            let Some(job) = job_of(&start_rows, sent.row) else { return };
            let start = starts[job];
            let relative = SentRow { row: sent.row - start.row, line: sent.line - start.line };
            jobs[job].add(&bytes, &row, relative);
        };
        let mut reader = ReportReader::new(format);
        reader.push(&bytes, &mut add);
        reader.finish(&mut add);
        let RowMatch { ref rows, unplaced, .. } = found;
        DividedReport { jobs, matched: found.sent_rows(), rows: rows.len() as u64, unplaced }
    }
}

impl DividedReport {
    /// Returns the division of a report that does not exist.
    pub fn missing(jobs: usize) -> DividedReport {
        DividedReport { jobs: vec![JobReport::default(); jobs], matched: Vec::new(), rows: 0, unplaced: 0 }
    }

    /// Returns whether the report has as many rows as Marketo counted, all of them rows that were sent. Then a row that
    /// is neither matched nor ambiguous is not in it.
    pub fn is_whole(&self, count: Option<u64>) -> bool {
        self.unplaced == 0 && count == Some(self.rows)
    }

    /// Returns whether any row may be one of the report's, also one that is neither matched nor ambiguous. A report whose
    /// rows Marketo does not count is taken to have all.
    pub fn may_lack_rows(&self, count: Option<u64>) -> bool {
        self.unplaced > 0 || count.is_some_and(|count| count != self.rows)
    }
}

impl JobReport {
    /// Adds a row of the report `bytes`.
    fn add(&mut self, bytes: &[u8], row: &ReportRow<'_>, sent: SentRow) {
        let (header, range) = (&bytes[..row.header_bytes() as usize], row.byte_range());
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(header);
        }
        let (row, line_end) = (&bytes[range.start as usize..range.end as usize], line_end(header));
        self.bytes.extend_from_slice(row);
        // The report's last row may lack its line end, which each row of a job's share has. An LF behind a CR of the
        // row's reason would make that part of the line end.
        if !row.ends_with(b"\n") && !row.ends_with(line_end) {
            self.bytes.extend_from_slice(if row.ends_with(b"\r") { b"\r\n" } else { line_end });
        }
        self.found.rows.push(Some(sent));
    }
}

/// Returns the job that sent a row.
fn job_of(starts: &[u32], row: u32) -> Option<usize> {
    starts.partition_point(|&start| start <= row).checked_sub(1)
}

/// Returns what ends the lines of a report.
fn line_end(header: &[u8]) -> &'static [u8] {
    if header.ends_with(b"\r\n") {
        b"\r\n"
    } else if header.ends_with(b"\r") {
        b"\r"
    } else {
        b"\n"
    }
}
