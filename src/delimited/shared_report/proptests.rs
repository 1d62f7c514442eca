//! Property tests: whatever a shared import's reports are like, no job is told of another's rows or told what is wrong.
//!
//! Each case is a table divided among jobs, of which it is known which rows failed and which have a warning.

use std::collections::HashMap;

use proptest::prelude::*;

use crate::delimited::report_reader::{ReportReader, ReportRow};
use crate::delimited::shared_report::{JobReport, JobReports, RawReports, ReportDivider, UnknownRows};
use crate::delimited::test_dialect::{Dialect, OF_FILES, OF_REPORTS, dialect};
use crate::domain::Counts;

type Row = Vec<String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Imported,
    Warned,
    Failed,
}

/// What Marketo does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    FileMissing,
    RowMissing,
    /// A row that was not sent is in the report.
    AlienRow,
    CountMissing,
    CountTooHigh,
}

/// One report, and how it is written.
#[derive(Clone, Debug)]
struct Report {
    /// The outcome of its rows.
    of: Outcome,
    dialect: Dialect,
    /// Its columns, in its order.
    columns: Vec<usize>,
    fault: Fault,
}

#[derive(Clone, Debug)]
struct Case {
    names: Vec<String>,
    jobs: Vec<Vec<Row>>,
    /// Of each row of the upload.
    outcomes: Vec<Outcome>,
    /// The rows of the upload in the order in which the reports have them.
    order: Vec<usize>,
    sent: Dialect,
    failures: Report,
    warnings: Report,
}

fn report(of: Outcome, columns: usize) -> impl Strategy<Value = Report> {
    use Fault::{AlienRow, CountMissing, CountTooHigh, FileMissing, Nothing, RowMissing};
    let fault = prop_oneof![
        4 => Just(Nothing),
        1 => prop::sample::select(vec![FileMissing, RowMissing, AlienRow, CountMissing, CountTooHigh]),
    ];
    let all: Vec<usize> = (0..columns).collect();
    let some = (Just(all.clone()).prop_shuffle(), 0..=columns).prop_map(|(order, kept)| order[..kept].to_vec());
    let columns = prop_oneof![1 => Just(all), 1 => some];
    (dialect(OF_REPORTS), columns, fault).prop_map(move |(dialect, columns, fault)| Report {
        of,
        dialect: Dialect { backslashes: false, ..dialect },
        columns,
        fault,
    })
}

fn case() -> impl Strategy<Value = Case> {
    use Outcome::{Failed, Imported, Warned};
    // Few values, so that rows are often equal within a job and across jobs.
    let value = prop::sample::select(vec!["", "a", "a", "a", "b", "b", " a", "é", "a\nb", "a\"", "x,y;z\tw", "\r"]);
    let name = prop::sample::select(vec!["email", "name", "city", "note", "zip"]);
    (1..5_usize, prop::collection::vec(1..5_usize, 1..=6)).prop_flat_map(move |(columns, sizes)| {
        let rows: usize = sizes.iter().sum();
        let row = prop::collection::vec(value.clone().prop_map(str::to_owned), columns);
        let jobs: Vec<_> = sizes.into_iter().map(|size| prop::collection::vec(row.clone(), size)).collect();
        let outcome = prop::sample::select(vec![Imported, Imported, Warned, Failed, Failed]);
        (
            prop::collection::vec(name.clone().prop_map(str::to_owned), columns),
            (jobs, prop::collection::vec(outcome, rows), Just((0..rows).collect::<Vec<_>>()).prop_shuffle()),
            (dialect(OF_FILES), report(Failed, columns), report(Warned, columns)),
        )
            .prop_map(|(names, (jobs, outcomes, order), (sent, failures, warnings))| Case {
                names,
                jobs,
                outcomes,
                order,
                sent: Dialect { backslashes: false, ..sent },
                failures,
                warnings,
            })
    })
}

impl Case {
    fn rows(&self) -> Vec<&Row> {
        self.jobs.iter().flatten().collect()
    }

    /// Returns the job of each row of the upload.
    fn jobs_of_rows(&self) -> Vec<usize> {
        self.jobs.iter().enumerate().flat_map(|(job, rows)| rows.iter().map(move |_| job)).collect()
    }

    fn times(&self, outcome: Outcome) -> u64 {
        self.outcomes.iter().filter(|&&other| other == outcome).count() as u64
    }

    /// Returns the columns by which rows are distinguished in a report.
    fn told_apart_by(&self, report: &Report) -> Vec<usize> {
        let is_unique = |column: &usize| self.names.iter().filter(|name| **name == self.names[*column]).count() == 1;
        report.columns.iter().copied().filter(is_unique).collect()
    }

    /// Returns the fault that the report really has: a report without rows can't lack one, and a row that was not sent
    /// must differ from those that were.
    fn fault(&self, report: &Report) -> Fault {
        let is_possible = match report.fault {
            Fault::FileMissing | Fault::RowMissing => self.times(report.of) > 0,
            Fault::AlienRow => !self.told_apart_by(report).is_empty(),
            Fault::Nothing | Fault::CountMissing | Fault::CountTooHigh => true,
        };
        if is_possible { report.fault } else { Fault::Nothing }
    }

    /// Returns the rows of the upload that a report has, in its order.
    fn listed(&self, report: &Report) -> Vec<usize> {
        let missing = match self.fault(report) {
            Fault::FileMissing => usize::MAX,
            Fault::RowMissing => 1,
            _ => 0,
        };
        self.order.iter().copied().filter(|&row| self.outcomes[row] == report.of).skip(missing).collect()
    }

    fn written(&self, report: &Report) -> Option<Vec<u8>> {
        let record = |row: &[String], reason: &str| -> Row {
            report.columns.iter().map(|&column| row[column].clone()).chain([reason.to_owned()]).collect()
        };
        let reason = if report.of == Outcome::Failed { "Import Failure Reason" } else { "Import Warning Reason" };
        let mut records = vec![record(&self.names, reason)];
        if self.fault(report) == Fault::AlienRow {
            records.push(record(&vec!["not sent".to_owned(); self.names.len()], "no"));
        }
        let rows = self.rows();
        records.extend(self.listed(report).into_iter().map(|row| record(rows[row], &format!("no {row}"))));
        let is_there = records.len() > 1 || report.dialect.quotes_all;
        (is_there && self.fault(report) != Fault::FileMissing).then(|| report.dialect.write(&records))
    }

    fn count(&self, report: &Report) -> Option<u64> {
        let count = self.times(report.of);
        match self.fault(report) {
            Fault::CountMissing => None,
            Fault::CountTooHigh => Some(count + 1),
            _ => Some(count),
        }
    }

    fn divided(&self, reports: RawReports, size: usize) -> Vec<JobReports> {
        let counts = Counts {
            processed: Some(self.outcomes.len() as u64 - self.times(Outcome::Failed)),
            failed: self.count(&self.failures),
            warned: self.count(&self.warnings),
        };
        let mut divider = ReportDivider::new(self.names.clone(), self.sent.format, counts, reports);
        for rows in &self.jobs {
            if divider.needs_sent_rows() {
                self.sent.write(rows).chunks(size).for_each(|chunk| divider.push(chunk));
            }
            divider.end_job(rows.len() as u64);
        }
        divider.finish()
    }

    /// Returns which rows of the upload may be in a report, without it being known which are.
    fn ambiguous(&self, report: &Report) -> Vec<bool> {
        let (rows, jobs, listed) = (self.rows(), self.jobs_of_rows(), self.listed(report));
        let by = self.told_apart_by(report);
        let is_ambiguous = |row: usize| {
            let fits = |other: &usize| by.iter().all(|&column| rows[*other][column] == rows[row][column]);
            let fitting: Vec<usize> = (0..rows.len()).filter(fits).collect();
            let found = fitting.iter().filter(|other| listed.contains(other)).count();
            let is_equal = fitting.iter().all(|&other| rows[other] == rows[row]);
            let is_shared = fitting.iter().any(|&other| jobs[other] != jobs[row]);
            found > 0 && (!is_equal || is_shared && found < fitting.len())
        };
        (0..rows.len()).map(is_ambiguous).collect()
    }

    /// Checks that a job's share of a report is a report of rows of the job.
    fn check_share(&self, report: &JobReport, job: usize) -> Result<(), TestCaseError> {
        let (mut reader, mut read) = (ReportReader::new(self.sent.format), Vec::new());
        let mut keep = |row: ReportRow<'_>| {
            let named = row.columns().iter().zip(row.values());
            let values = named.map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()));
            read.push((row.is_well_formed(), values.collect::<Vec<_>>()));
        };
        reader.push(&report.bytes, &mut keep);
        prop_assert!(!report.bytes.is_empty() || report.found.rows.is_empty());
        let all_ended = read.len();
        prop_assert_eq!(all_ended, report.found.rows.len(), "each row has a line end and a match");
        for ((is_well_formed, values), sent) in read.iter().zip(&report.found.rows) {
            let sent = sent.expect("each row has a match");
            let row = &self.jobs[job][sent.row as usize];
            prop_assert!(is_well_formed);
            for (name, value) in values {
                let mut columns = (0..self.names.len()).filter(|&column| self.names[column] == *name);
                if let (Some(column), None) = (columns.next(), columns.next()) {
                    prop_assert_eq!(&row[column], value);
                }
            }
            let line_ends = |row: &Row| row.iter().map(|value| value.matches('\n').count() as u32).sum::<u32>();
            let before: u32 = self.jobs[job][..sent.row as usize].iter().map(|row| line_ends(row) + 1).sum();
            prop_assert_eq!(sent.line, before);
        }
        Ok(())
    }
}

/// Returns how often each row is among those of some numbers.
fn counted(rows: &[Row], numbers: impl Iterator<Item = usize>) -> HashMap<&Row, usize> {
    let mut times = HashMap::new();
    numbers.for_each(|number| *times.entry(&rows[number]).or_insert(0) += 1);
    times
}

/// Returns whether each row is as often in `all` as in `part`, or more often.
fn is_part(part: &HashMap<&Row, usize>, all: &HashMap<&Row, usize>) -> bool {
    part.iter().all(|(row, times)| all.get(row).unwrap_or(&0) >= times)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn each_job_is_told_what_is_true_of_its_rows(case in case(), size in 1..60_usize) {
        let reports = RawReports { failures: case.written(&case.failures), warnings: case.written(&case.warnings) };
        let divided = case.divided(reports, size);
        prop_assert_eq!(divided.len(), case.jobs.len());
        let (failures_fault, warnings_fault) = (case.fault(&case.failures), case.fault(&case.warnings));
        let (may_have_failed, may_be_warned) = (case.ambiguous(&case.failures), case.ambiguous(&case.warnings));
        let mut first = 0;
        for (job, (rows, told)) in case.jobs.iter().zip(&divided).enumerate() {
            let range = first..first + rows.len();
            first = range.end;
            let outcomes = &case.outcomes[range.clone()];
            let really = |outcome| (0..rows.len()).filter(move |&row| outcomes[row] == outcome);
            let said = |report: &JobReport| report.found.sent_rows();
            let (failed, warned) = (said(&told.failures), said(&told.warnings));
            case.check_share(&told.failures, job)?;
            case.check_share(&told.warnings, job)?;

            // Of equal rows of one job it does not matter which are said to have failed, but how many.
            for (said, outcome) in [(&failed, Outcome::Failed), (&warned, Outcome::Warned)] {
                let said = counted(rows, said.iter().map(|&row| row as usize));
                prop_assert!(is_part(&said, &counted(rows, really(outcome))), "job {}, {:?}", job, outcome);
            }
            for (count, outcome) in [(told.counts.failed, Outcome::Failed), (told.counts.warned, Outcome::Warned)] {
                prop_assert!(count.is_none_or(|count| count == really(outcome).count() as u64));
            }
            let is_sum = |failed| told.counts.processed == Some(rows.len() as u64 - failed);
            prop_assert!(told.counts.failed.map_or(told.counts.processed.is_none(), is_sum));

            if failures_fault != Fault::Nothing {
                prop_assert_eq!((told.counts, &told.unknown), (Counts::default(), &UnknownRows::AllOthers));
                continue;
            }
            let lacks_warnings = !matches!(warnings_fault, Fault::Nothing | Fault::CountMissing);
            let is_doubtful = |row: &u32| {
                let at = range.start + *row as usize;
                lacks_warnings || may_have_failed[at] || may_be_warned[at]
            };
            let unknown: Vec<u32> = (0..rows.len() as u32)
                .filter(is_doubtful)
                .filter(|row| !failed.contains(row) && !warned.contains(row))
                .collect();
            let told_unknown = match &told.unknown {
                UnknownRows::None => &[][..],
                UnknownRows::Rows(rows) => rows,
                UnknownRows::AllOthers => return Err(TestCaseError::fail("the failures are whole")),
            };
            prop_assert_eq!(told_unknown, &unknown);
            let is_counted = told.counts.failed.is_some();
            prop_assert_eq!(is_counted, !may_have_failed[range.clone()].contains(&true));
            prop_assert_eq!(told.unknown == UnknownRows::None, unknown.is_empty() && is_counted);
            let is_warned_counted = warnings_fault == Fault::Nothing && !may_be_warned[range.clone()].contains(&true);
            prop_assert_eq!(told.counts.warned.is_some(), is_warned_counted);

            let said_imported = (0..rows.len() as u32).filter(|row| !failed.contains(row) && !unknown.contains(row));
            let said_imported = counted(rows, said_imported.map(|row| row as usize));
            let imported = counted(rows, (0..rows.len()).filter(|&row| outcomes[row] != Outcome::Failed));
            prop_assert!(is_part(&said_imported, &imported), "job {}", job);
        }
    }

    #[test]
    fn a_damaged_report_shows_no_job_a_row_of_another(
        case in case(),
        at in any::<prop::sample::Index>(),
        byte in prop::sample::select(b"\",\n\r;\ta\xff".as_slice()),
        size in 1..60_usize,
    ) {
        let damaged = |report| {
            let mut bytes: Option<Vec<u8>> = case.written(report);
            if let Some(bytes) = &mut bytes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        };
        let reports = RawReports { failures: damaged(&case.failures), warnings: damaged(&case.warnings) };
        let divided = case.divided(reports.clone(), size);
        prop_assert_eq!(&divided, &case.divided(reports, 10_000));
        for (job, told) in divided.iter().enumerate() {
            case.check_share(&told.failures, job)?;
            case.check_share(&told.warnings, job)?;
        }
    }
}
