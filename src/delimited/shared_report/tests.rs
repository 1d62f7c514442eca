//! Unit tests: reports of small imports, divided by each rule.

use csv::ReaderBuilder;

use crate::delimited;
use crate::delimited::shared_report::{JobReport, JobReports, RawReports, ReportDivider, UnknownRows};
use crate::domain::{Counts, Format};

/// A shared import of the columns `a` and `b`.
#[derive(Clone, Copy, Debug)]
struct Import<'a> {
    jobs: &'a [&'a str],
    failures: Option<&'a str>,
    warnings: Option<&'a str>,
    counts: Counts,
}

const FAILURES: &str = "a,b,Import Failure Reason\n";
const WARNINGS: &str = "a,b,Import Warning Reason\n";

fn counts(processed: u64, failed: u64, warned: u64) -> Counts {
    Counts { processed: Some(processed), failed: Some(failed), warned: Some(warned) }
}

impl Import<'_> {
    fn divided(&self) -> Vec<JobReports> {
        let all = [1, 2, 5, 1000].map(|size| {
            let reports = RawReports {
                failures: self.failures.map(|text| text.as_bytes().to_vec()),
                warnings: self.warnings.map(|text| text.as_bytes().to_vec()),
            };
            let columns = delimited::columns(b"a,b\n", Format::Csv);
            let mut divider = ReportDivider::new(columns, Format::Csv, self.counts, reports);
            for job in self.jobs {
                if divider.needs_sent_rows() {
                    job.as_bytes().chunks(size).for_each(|chunk| divider.push(chunk));
                }
                let mut rows = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(job.as_bytes());
                divider.end_job(rows.byte_records().count() as u64);
            }
            divider.finish()
        });
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "chunking changes nothing");
        all.into_iter().next().unwrap()
    }

    /// Returns what each job is told, except its files.
    fn told(&self) -> Vec<(Counts, UnknownRows)> {
        self.divided().into_iter().map(|job| (job.counts, job.unknown)).collect()
    }
}

fn text(report: &JobReport) -> &str {
    str::from_utf8(&report.bytes).unwrap()
}

/// Returns the rows and lines of the job that the rows of its report are.
fn sent(report: &JobReport) -> Vec<(u32, u32)> {
    report.found.rows.iter().map(|sent| sent.map(|sent| (sent.row, sent.line)).unwrap()).collect()
}

#[test]
fn each_job_gets_its_rows_in_the_reports_order() {
    let import = Import {
        jobs: &["1,x\n2,x\n", "3,\"x\n\"\n\n4,x\n", "5,x\n"],
        failures: Some("\u{feff}b,Import Failure Reason,a\n"),
        warnings: Some("a,b,Import Warning Reason\r\n4,x,\"odd\r\n\"\r\n\r\n5,\"x\",odd\r\n3,\"x\n\",odd"),
        counts: counts(5, 0, 3),
    };
    let header = "a,b,Import Warning Reason\r\n";
    let divided = import.divided();
    let shown: Vec<_> = divided.iter().map(|job| (text(&job.warnings), sent(&job.warnings))).collect();
    assert_eq!(
        shown,
        [
            ("", vec![]),
            (&*format!("{header}4,x,\"odd\r\n\"\r\n3,\"x\n\",odd\r\n"), vec![(2, 3), (0, 0)]),
            (&*format!("{header}5,\"x\",odd\r\n"), vec![(0, 0)]),
        ]
    );
    assert!(divided.iter().all(|job| job.failures == JobReport::default()));
    let none = UnknownRows::None;
    assert_eq!(
        import.told(),
        [(counts(2, 0, 0), none.clone()), (counts(2, 0, 2), none.clone()), (counts(1, 0, 1), none)]
    );
}

#[test]
fn each_job_gets_its_counts() {
    let failures = format!("{FAILURES}4,x,no\n1,x,no\n3,x,no\n");
    let warnings = format!("{WARNINGS}2,x,odd\n");
    let import = Import {
        jobs: &["1,x\n2,x\n", "3,x\n4,x\n", "5,x\n"],
        failures: Some(&failures),
        warnings: Some(&warnings),
        counts: counts(2, 3, 1),
    };
    let none = UnknownRows::None;
    assert_eq!(
        import.told(),
        [(counts(1, 1, 1), none.clone()), (counts(0, 2, 0), none.clone()), (counts(1, 0, 0), none)]
    );
    let divided = import.divided();
    assert_eq!(text(&divided[1].failures), format!("{FAILURES}4,x,no\n3,x,no\n"));
    assert_eq!(sent(&divided[1].failures), [(1, 1), (0, 0)]);
    assert_eq!(text(&divided[0].warnings), warnings);
}

#[test]
fn a_last_row_gets_the_line_end_of_its_report() {
    for (report, divided) in [
        ("a,b,Import Failure Reason\r1,x,no\r2,x,no", "a,b,Import Failure Reason\r2,x,no\r"),
        ("a,b,Import Failure Reason\r1,x,no\r2,x,no\r", "a,b,Import Failure Reason\r2,x,no\r"),
        ("a,b,Import Failure Reason\r\n1,x,no\r\n2,x,no", "a,b,Import Failure Reason\r\n2,x,no\r\n"),
        ("a,b,Import Failure Reason\r\n1,x,no\r\n2,x,no\n", "a,b,Import Failure Reason\r\n2,x,no\n"),
        ("a,b,Import Failure Reason\n1,x,no\n2,x,no\r", "a,b,Import Failure Reason\n2,x,no\r\r\n"),
        ("a\tb\tImport Failure Reason\n1\tx\tno\n2\tx\tno", "a\tb\tImport Failure Reason\n2\tx\tno\n"),
    ] {
        let failures = Some(report);
        let import = Import { jobs: &["1,x\n", "2,x\n"], failures, warnings: None, counts: counts(0, 2, 0) };
        assert_eq!(text(&import.divided()[1].failures), divided);
    }
}

#[test]
fn equal_rows_of_two_jobs_are_known_if_all_or_none_failed() {
    let jobs = &["1,x\n2,x\n1,x\n", "1,x\n"];
    let unknown = |rows: &[u32]| UnknownRows::Rows(rows.to_vec());
    let nothing = Counts { warned: Some(0), ..Counts::default() };
    for (failed, told) in [
        (0, [(counts(3, 0, 0), UnknownRows::None), (counts(1, 0, 0), UnknownRows::None)]),
        (1, [(nothing, unknown(&[0, 2])), (nothing, unknown(&[0]))]),
        (2, [(nothing, unknown(&[0, 2])), (nothing, unknown(&[0]))]),
        (3, [(counts(1, 2, 0), UnknownRows::None), (counts(0, 1, 0), UnknownRows::None)]),
    ] {
        let report = format!("{FAILURES}{}", "1,x,no\n".repeat(failed as usize));
        let import = Import { jobs, failures: Some(&report), warnings: None, counts: counts(4 - failed, failed, 0) };
        assert_eq!(import.told(), told, "{failed} failed");
        let rows: usize = import.divided().iter().map(|job| job.failures.found.rows.len()).sum();
        assert_eq!(rows, if failed == 3 { 3 } else { 0 }, "{failed} failed");
    }
}

#[test]
fn equal_rows_of_one_job_are_interchangeable() {
    let (failures, warnings) = (format!("{FAILURES}1,x,no\n"), format!("{WARNINGS}1,x,odd\n"));
    let (failures, warnings) = (Some(&*failures), Some(&*warnings));
    let import = Import { jobs: &["2,x\n", "1,x\n1,x\n1,x\n"], failures, warnings, counts: counts(3, 1, 1) };
    assert_eq!(import.told()[1], (counts(2, 1, 1), UnknownRows::None));
    let job = &import.divided()[1];
    assert_eq!((sent(&job.failures), sent(&job.warnings)), (vec![(0, 0)], vec![(1, 1)]));
}

#[test]
fn an_unknown_warning_leaves_the_failed_rows_known() {
    let (failures, warnings) = (format!("{FAILURES}2,x,no\n"), format!("{WARNINGS}1,x,odd\n"));
    let (failures, warnings) = (Some(&*failures), Some(&*warnings));
    let import = Import { jobs: &["1,x\n2,x\n", "1,x\n"], failures, warnings, counts: counts(2, 1, 1) };
    let unknown = |processed, failed| {
        let counts = Counts { processed: Some(processed), failed: Some(failed), warned: None };
        (counts, UnknownRows::Rows(vec![0]))
    };
    assert_eq!(import.told(), [unknown(1, 1), unknown(1, 0)]);
}

#[test]
fn equal_rows_with_different_outcomes_are_unknown_in_each_job() {
    let (failures, warnings) = (format!("{FAILURES}1,x,no\n"), format!("{WARNINGS}1,x,odd\n"));
    let (failures, warnings) = (Some(&*failures), Some(&*warnings));
    let import = Import { jobs: &["1,x\n", "1,x\n"], failures, warnings, counts: counts(1, 1, 1) };
    let unknown = (Counts::default(), UnknownRows::Rows(vec![0]));
    assert_eq!(import.told(), [unknown.clone(), unknown]);
    assert!(import.divided().iter().all(|job| job.failures.bytes.is_empty() && job.warnings.bytes.is_empty()));
}

#[test]
fn a_missing_column_leaves_rows_that_differ_in_it_unknown() {
    let import = Import {
        jobs: &["1,x\n2,y\n", "3,x\n", "4,z\n"],
        failures: Some("b,Import Failure Reason\nx,no\ny,no\n"),
        warnings: Some("a,Import Warning Reason\n3,odd\n"),
        counts: counts(2, 2, 1),
    };
    let unknown =
        |warned, rows: &[u32]| (Counts { warned: Some(warned), ..Counts::default() }, UnknownRows::Rows(rows.to_vec()));
    // The second job's row has a warning, so it is known; that the count is not, is the rule for any such row.
    let known = (counts(1, 0, 0), UnknownRows::None);
    assert_eq!(import.told(), [unknown(0, &[0]), unknown(1, &[]), known]);
    let files: Vec<_> = import.divided().iter().map(|job| text(&job.failures).to_owned()).collect();
    assert_eq!(files, ["b,Import Failure Reason\ny,no\n", "", ""]);
}

#[test]
fn more_ambiguous_rows_than_were_sent_leave_all_rows_unknown() {
    let failures = "b,Import Failure Reason\nx,no\nx,no\nx,no\n";
    let import = Import {
        jobs: &["1,x\n", "2,x\n", "3,y\n"],
        failures: Some(failures),
        warnings: None,
        counts: counts(0, 3, 0),
    };
    // The row of the third job failed, and the report has another one in its place.
    for told in import.told() {
        assert_eq!(told, (Counts::default(), UnknownRows::AllOthers));
    }
}

#[test]
fn jobs_get_their_rows_and_no_count_of_an_incomplete_division() {
    let row = format!("{FAILURES}1,x,no\n");
    let unplaced = format!("{row}9,x,no\n");
    let malformed = format!("{row}2,x\n");
    let twice = format!("{row}1,x,no\n");
    let counted = |processed, failed| Counts { processed, failed, warned: Some(0) };
    for (failures, counts, is_shown) in [
        (&unplaced, counted(Some(0), Some(2)), true),
        (&malformed, counted(Some(0), Some(2)), true),
        (&twice, counted(Some(0), Some(2)), true),
        // Fewer or more rows than Marketo counted.
        (&row, counted(Some(0), Some(2)), true),
        (&row, counted(Some(2), Some(0)), true),
        // Marketo's counts are not those of the rows that were sent, or not known.
        (&row, counted(Some(0), Some(1)), true),
        (&row, counted(None, Some(1)), true),
        (&row, counted(Some(1), None), true),
        (&row, counted(Some(u64::MAX), Some(1)), true),
        // Failed rows, and no file that has them.
        (&String::new(), counted(Some(1), Some(1)), false),
        (&FAILURES.to_owned(), counted(Some(1), Some(1)), false),
        (&"<html>\n<p>1,x</p>\n".to_owned(), counted(Some(1), Some(1)), false),
    ] {
        let failures = Some(&**failures).filter(|report| !report.is_empty());
        let import = Import { jobs: &["1,x\n", "2,x\n"], failures, warnings: None, counts };
        let unknown = (Counts::default(), UnknownRows::AllOthers);
        assert_eq!(import.told(), [unknown.clone(), unknown], "{import:?}");
        let files: Vec<_> = import.divided().iter().map(|job| text(&job.failures).to_owned()).collect();
        assert_eq!(files, [if is_shown { &row } else { "" }, ""], "{import:?}");
    }
}

#[test]
fn a_warning_that_is_not_found_may_be_that_of_any_other_row() {
    let one = format!("{WARNINGS}1,x,odd\n");
    let unplaced = format!("{WARNINGS}1,x,odd\n9,x,odd\n");
    let imported = Counts { processed: Some(1), failed: Some(0), warned: None };
    let (known, unknown) = ((imported, UnknownRows::None), (imported, UnknownRows::Rows(vec![0])));
    for (warnings, warned, told) in [
        // As of a job that goes alone, nothing shows that there are warnings.
        (None, None, [&known, &known]),
        (Some(&one), None, [&known, &known]),
        (None, Some(1), [&unknown, &unknown]),
        (Some(&one), Some(2), [&known, &unknown]),
        (Some(&unplaced), Some(2), [&known, &unknown]),
        (Some(&unplaced), None, [&known, &unknown]),
    ] {
        let counts = Counts { warned, ..counts(2, 0, 0) };
        let warnings = warnings.map(|report| &**report);
        let import = Import { jobs: &["1,x\n", "2,x\n"], failures: None, warnings, counts };
        assert_eq!(import.told().iter().collect::<Vec<_>>(), told, "{import:?}");
        let shown = import.divided()[0].warnings.found.rows.len();
        assert_eq!(shown, usize::from(warnings.is_some()));
    }
}

#[test]
fn rows_need_not_be_pushed_without_reports() {
    let import = Import { jobs: &["1,x\n2,x\n", "3,x\n"], failures: None, warnings: None, counts: counts(3, 0, 0) };
    assert_eq!(import.told(), [(counts(2, 0, 0), UnknownRows::None), (counts(1, 0, 0), UnknownRows::None)]);
    let failed = Import { counts: counts(2, 1, 0), ..import };
    let unknown = (Counts::default(), UnknownRows::AllOthers);
    assert_eq!(failed.told(), [unknown.clone(), unknown]);
}

#[test]
fn a_job_that_ends_within_a_row_makes_all_rows_unknown() {
    let failures = format!("{FAILURES}1,x,no\n");
    let import = |jobs| Import { jobs, failures: Some(&failures), warnings: None, counts: counts(1, 1, 0) }.divided();
    for jobs in [&["1,x\n2,\"", "3,x\n"], &["1,x\n2,x", "3,x\n"]] {
        for job in import(jobs) {
            assert_eq!((job.failures, job.unknown), (JobReport::default(), UnknownRows::AllOthers));
        }
    }
    // Nothing follows the last job.
    assert_eq!(import(&["1,x\n", "2,x"])[0].counts, counts(0, 1, 0));
}

#[test]
fn a_blank_line_that_is_reported_leaves_the_counts_unknown() {
    let columns = vec!["a".to_owned()];
    let failures = Some(b"a,Import Failure Reason\n,no\n1,no\n".to_vec());
    let reports = RawReports { failures, warnings: None };
    let mut divider = ReportDivider::new(columns, Format::Csv, counts(0, 2, 0), reports);
    divider.push(b"\n1\n");
    divider.end_job(1);
    divider.push(b"2\n");
    divider.end_job(1);
    let divided = divider.finish();
    assert_eq!((divided[0].counts.failed, &divided[0].unknown), (None, &UnknownRows::Rows(Vec::new())));
    assert_eq!(divided[1].counts, counts(1, 0, 0));
}
