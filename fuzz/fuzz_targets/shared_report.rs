//! Any reports of any shared import are divided without a panic, and each byte that a job is given is from a row that
//! was matched to one of its own.
//!
//! `cargo +nightly fuzz run shared_report fuzz/corpus/shared_report fuzz/seeds/shared_report -- -max_total_time=60`
//!
//! The first three bytes of an input say how: format, size of the pushes, Marketo's counts. Then come, each behind a
//! NUL but the first: the header, the failure file, the warning file, the rows of each job.
#![no_main]

use csv::{ByteRecord, ReaderBuilder, Terminator};
use libfuzzer_sys::fuzz_target;
use marqueue::delimited::{
    JobReport, JobReports, RawReports, ReportDivider, ReportReader, ReportRow, UnknownRows, columns, decode_rows,
    encode_rows,
};
use marqueue::domain::{Counts, Format};

/// A shared import, its reports among it. An empty report is none.
struct Import<'a> {
    format: Format,
    names: Vec<String>,
    counts: Counts,
    failures: &'a [u8],
    warnings: &'a [u8],
    jobs: Vec<&'a [u8]>,
}

fuzz_target!(|input: &[u8]| {
    let [how, size, counted, files @ ..] = input else { return };
    let mut files = files.split(|&byte| byte == 0);
    let (Some(header), Some(failures), Some(warnings)) = (files.next(), files.next(), files.next()) else { return };
    let format = Format::ALL[usize::from(how % 3)];
    let mut import = Import {
        format,
        names: columns(header, format),
        counts: Counts::default(),
        failures,
        warnings,
        jobs: files.collect(),
    };
    import.counts = import.counts(*counted);
    let divided = import.divided(usize::from(*size).max(1));
    assert_eq!(divided, import.divided(usize::MAX), "chunking changes nothing");
    assert_eq!(divided.len(), import.jobs.len());
    let shares = |of: fn(&JobReports) -> &JobReport| divided.iter().map(of).collect::<Vec<_>>();
    import.check_shares(import.failures, &shares(|job| &job.failures));
    import.check_shares(import.warnings, &shares(|job| &job.warnings));
    for (job, rows) in divided.iter().zip(&import.jobs) {
        let counts = job.counts;
        assert_eq!(counts.processed.is_some(), counts.failed.is_some());
        let sum = counts.processed.zip(counts.failed).map(|(processed, failed)| processed + failed);
        assert!(sum.is_none_or(|sum| sum == lines(rows)));
        match &job.unknown {
            UnknownRows::None => assert!(counts.failed.is_some()),
            UnknownRows::AllOthers => assert_eq!(counts, Counts::default()),
            UnknownRows::Rows(unknown) => {
                assert!(unknown.is_sorted() && unknown.iter().all(|row| u64::from(*row) <= lines(rows)));
                assert_eq!(decode_rows(&encode_rows(unknown)).as_ref(), Ok(unknown));
            }
        }
    }
});

fn lines(rows: &[u8]) -> u64 {
    rows.iter().filter(|&&byte| byte == b'\n').count() as u64
}

impl Import<'_> {
    /// Returns the counts of the files, or others.
    fn counts(&self, how: u8) -> Counts {
        let sent: u64 = self.jobs.iter().map(|rows| lines(rows)).sum();
        let failed = rows(self.format, self.failures).len() as u64 + u64::from(how & 1);
        let warned = rows(self.format, self.warnings).len() as u64 + u64::from(how >> 1 & 1);
        Counts {
            processed: sent.checked_sub(failed).filter(|_| how >> 2 & 1 == 0),
            failed: Some(failed).filter(|_| how >> 3 & 1 == 0),
            warned: Some(warned).filter(|_| how >> 4 & 1 == 0),
        }
    }

    fn divided(&self, size: usize) -> Vec<JobReports> {
        let report = |bytes: &[u8]| (!bytes.is_empty()).then(|| bytes.to_vec());
        let reports = RawReports { failures: report(self.failures), warnings: report(self.warnings) };
        let mut divider = ReportDivider::new(self.names.clone(), self.format, self.counts, reports);
        for job in &self.jobs {
            if divider.needs_sent_rows() {
                job.chunks(size).for_each(|chunk| divider.push(chunk));
            }
            divider.end_job(lines(job));
        }
        divider.finish()
    }

    /// Checks what all jobs are given of one report.
    fn check_shares(&self, report: &[u8], shares: &[&JobReport]) {
        let mut left = rows(self.format, report);
        for (share, job) in shares.iter().zip(&self.jobs) {
            let given = rows(self.format, &share.bytes);
            assert_eq!(given.len(), share.found.rows.len());
            for row in &given {
                // A last row has got a line end.
                let is_same = |other: &GivenRow| row.bytes.starts_with(&other.bytes) && row.values == other.values;
                let at = left.iter().position(is_same).expect("it is a row of the report that no other job has");
                left.swap_remove(at);
                assert!(row.is_well_formed && row.bytes.len() <= share.bytes.len());
            }
            if let Some(row) = given.first() {
                assert!(report.starts_with(&share.bytes[..row.header_bytes]));
                let sizes: usize = given.iter().map(|row| row.bytes.len()).sum();
                assert_eq!(row.header_bytes + sizes, share.bytes.len());
                self.check_values(job, &given, share);
            }
        }
    }

    /// Checks that rows have the values of those of the job.
    fn check_values(&self, job: &[u8], given: &[GivenRow], share: &JobReport) {
        // The oracle keeps the CR of a CRLF and skips blank lines, so it judges rows without either.
        if job.contains(&b'\r') || job.starts_with(b"\n") || job.windows(2).any(|two| two == b"\n\n") {
            return;
        }
        let sent = parse(self.format, job);
        for (row, matched) in given.iter().zip(&share.found.rows) {
            let values = &sent[matched.expect("each row has a match").row as usize];
            for (name, value) in row.columns.iter().zip(&row.values) {
                let once = |names: &[String]| names.iter().filter(|other| *other == name).count() == 1;
                if once(&self.names) && once(&row.columns) {
                    let column = self.names.iter().position(|other| other == name).expect("it is there once");
                    assert_eq!(values.get(column).unwrap_or_default(), value);
                }
            }
        }
    }
}

/// A row of a report.
struct GivenRow {
    header_bytes: usize,
    bytes: Vec<u8>,
    columns: Vec<String>,
    values: Vec<Vec<u8>>,
    is_well_formed: bool,
}

fn rows(format: Format, report: &[u8]) -> Vec<GivenRow> {
    let mut rows = Vec::new();
    let mut keep = |row: ReportRow<'_>| {
        let range = row.byte_range();
        rows.push(GivenRow {
            header_bytes: row.header_bytes() as usize,
            bytes: report[range.start as usize..range.end as usize].to_vec(),
            columns: row.columns().to_vec(),
            values: row.values().map(<[u8]>::to_vec).collect(),
            is_well_formed: row.is_well_formed(),
        });
    };
    let mut reader = ReportReader::new(format);
    reader.push(report, &mut keep);
    reader.finish(&mut keep);
    rows
}

fn parse(format: Format, bytes: &[u8]) -> Vec<ByteRecord> {
    // Behind a header, for the oracle would take a byte-order mark off the first value.
    ReaderBuilder::new()
        .delimiter(format.delimiter())
        .terminator(Terminator::Any(b'\n'))
        .flexible(true)
        .from_reader([b"h\n", bytes].concat().as_slice())
        .into_byte_records()
        .map(|record| record.expect("bytes in memory are always read"))
        .collect()
}
