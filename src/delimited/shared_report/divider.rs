//! Report divider: reads the reports of a shared import, then the rows that were sent, job by job.

use crate::delimited::row_match::SentRow;
use crate::delimited::shared_report::divided_report::{DividedReport, MatchedReport};
use crate::delimited::shared_report::types::{JobReport, JobReports, RawReports, UnknownRows};
use crate::domain::{Counts, Format};

/// Divides the reports of a shared import among its jobs.
///
/// The reports are given first, because only the rows that are in them are kept of those that were sent. For each job,
/// in the order of the upload: [`ReportDivider::push`] as its rows come, [`ReportDivider::end_job`]. It holds the
/// reports, about 80 bytes for each row of them, and in the end each job's share.
#[derive(Debug)]
pub struct ReportDivider {
    counts: Counts,
    failures: Option<MatchedReport>,
    warnings: Option<MatchedReport>,
    jobs: Vec<SentJob>,
    /// Where the next job begins; none where it would begin within a row.
    next_start: Option<SentRow>,
}

/// A job of which the rows were read.
#[derive(Clone, Copy, Debug)]
struct SentJob {
    start: Option<SentRow>,
    rows: u64,
}

impl ReportDivider {
    /// Returns a divider for an import of `format` with the columns of the common header, as
    /// [`columns`](crate::delimited::header::columns) reads them. `counts` are Marketo's, of the whole import.
    pub fn new(columns: Vec<String>, format: Format, counts: Counts, reports: RawReports) -> ReportDivider {
        let read = |bytes| MatchedReport::read(columns.clone(), format, bytes);
        ReportDivider {
            counts,
            failures: reports.failures.map(read),
            warnings: reports.warnings.map(read),
            jobs: Vec::new(),
            next_start: Some(SentRow { row: 0, line: 0 }),
        }
    }

    /// Returns whether the rows that were sent have to be read. Without them no row of the reports has a match.
    pub fn needs_sent_rows(&self) -> bool {
        [&self.failures, &self.warnings].into_iter().flatten().any(|report| report.matcher.needs_sent_rows())
    }

    /// Reads bytes of the current job's rows as they were sent.
    pub fn push(&mut self, bytes: &[u8]) {
        for report in self.reports_in_need() {
            report.matcher.push(bytes);
        }
    }

    /// Ends the current job, whose rows end with a line end unless it is the last. `rows` is the number of its rows as
    /// Marketo counts them: blank lines are none.
    pub fn end_job(&mut self, rows: u64) {
        self.jobs.push(SentJob { start: self.next_start, rows });
        let next_start = self.reports_in_need().next().map(|report| report.matcher.next_row());
        self.next_start = next_start.unwrap_or(self.next_start);
    }

    /// Ends the upload, and returns the share of each job, in the order of the upload.
    pub fn finish(self) -> Vec<JobReports> {
        let ReportDivider { counts, failures, warnings, jobs, .. } = self;
        // Where a job's rows end within a row, the first row of the next job is part of it, and so no row is certain to
        // be of one job.
        let starts: Option<Vec<SentRow>> = jobs.iter().map(|job| job.start).collect();
        let Some(starts) = starts else { return vec![JobReports::unknown(); jobs.len()] };
        let divide = |report: Option<MatchedReport>, others: &[u32]| match report {
            Some(report) => report.divide(&starts, others),
            None => DividedReport::missing(starts.len()),
        };
        let failures = divide(failures, &[]);
        let warnings = divide(warnings, &failures.matched);
        let sent: u64 = jobs.iter().map(|job| job.rows).sum();
        let is_accounted_for = counts.processed.zip(counts.failed).is_some_and(|(p, f)| p.checked_add(f) == Some(sent));
        let evidence = Evidence {
            failures: if is_accounted_for && failures.is_whole(counts.failed) { Trust::Whole } else { Trust::Partial },
            warnings: if warnings.is_whole(counts.warned) { Trust::Whole } else { Trust::Partial },
            may_lack_warnings: warnings.may_lack_rows(counts.warned),
        };
        let shares = failures.jobs.into_iter().zip(warnings.jobs);
        jobs.iter()
            .zip(shares)
            .map(|(job, (failures, warnings))| evidence.judge(job.rows, failures, warnings))
            .collect()
    }

    fn reports_in_need(&mut self) -> impl Iterator<Item = &mut MatchedReport> {
        let reports = [&mut self.failures, &mut self.warnings].into_iter().flatten();
        reports.filter(|report| report.matcher.needs_sent_rows())
    }
}

/// How far rows that stand in no report can be judged.
#[derive(Clone, Copy, Debug)]
struct Evidence {
    failures: Trust,
    warnings: Trust,
    /// Any row that stands in no report may have a warning.
    may_lack_warnings: bool,
}

/// Whether a report has all rows that it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    Whole,
    /// It lacks rows, has rows that were not sent, or Marketo's counts do not say how many it should have.
    Partial,
}

impl Evidence {
    /// Returns what is known of a job of `rows` rows.
    fn judge(self, rows: u64, failures: JobReport, warnings: JobReport) -> JobReports {
        if self.failures == Trust::Partial {
            let counts = Counts::default();
            return JobReports { failures, warnings, counts, unknown: UnknownRows::AllOthers };
        }
        let is_exact = |report: &JobReport| report.found.ambiguous.is_empty();
        let found = |report: &JobReport| report.found.rows.len() as u64;
        let failed = Some(found(&failures)).filter(|_| is_exact(&failures));
        let processed = failed.and_then(|failed| rows.checked_sub(failed));
        let is_counted = self.warnings == Trust::Whole && is_exact(&warnings);
        let counts = Counts {
            processed,
            failed: failed.filter(|_| processed.is_some()),
            warned: is_counted.then(|| found(&warnings)),
        };
        // A row of the warning file that is not found may be any row: a packed file has no blank lines, so its rows are
        // numbered one after the other.
        let may_be_warned: Vec<u32> = if self.may_lack_warnings { (0..rows as u32).collect() } else { Vec::new() };
        let unknown = unknown_rows(&failures, &warnings, may_be_warned);
        let unknown = match counts.failed {
            Some(_) if unknown.is_empty() => UnknownRows::None,
            _ => UnknownRows::Rows(unknown),
        };
        JobReports { failures, warnings, counts, unknown }
    }
}

impl JobReports {
    /// Returns the share of a job of which nothing is known.
    fn unknown() -> JobReports {
        JobReports {
            failures: JobReport::default(),
            warnings: JobReport::default(),
            counts: Counts::default(),
            unknown: UnknownRows::AllOthers,
        }
    }
}

/// Returns the rows that may be in a report, and to which no row of a report is matched. `others` are rows that may be
/// in a report as well.
fn unknown_rows(failures: &JobReport, warnings: &JobReport, others: Vec<u32>) -> Vec<u32> {
    let (failures, warnings) = (&failures.found, &warnings.found);
    let mut unknown = others;
    unknown.extend(failures.ambiguous.iter().chain(&warnings.ambiguous));
    unknown.sort_unstable();
    unknown.dedup();
    let (failed, warned) = (failures.sent_rows(), warnings.sent_rows());
    unknown.retain(|row| failed.binary_search(row).is_err() && warned.binary_search(row).is_err());
    unknown
}
