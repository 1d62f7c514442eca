//! Measures dividing the report of a shared import: 10 MB of a thousand jobs, half of the rows failed.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

use marqueue::delimited::{JobReports, RawReports, ReportDivider, columns, encode_rows};
use marqueue::domain::{Counts, Format, ReportKind};
use marqueue::simulator::Settings;
use marqueue::store::{DividedFile, PackedRowMatch};

use crate::Report;
use crate::bench_daemon::{BenchDaemon, cpu};
use crate::row_match::{HEADER, UPLOAD_BYTES, reset_peak, resident, write_files};

const JOBS: usize = 1_000;
const CPU_TARGET: f64 = 1.5;
const MEMORY_TARGET: f64 = 120.0;

/// Measures the dividing by itself, and the compression of what is stored.
pub fn measure(report: &mut Report) {
    report.part(&format!("dividing a report: 10 MB of {JOBS} jobs, half of the rows failed"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (sent, failed) = (folder.path().join("sent.csv"), folder.path().join("failed.csv"));
    let ends = write_files(&sent, &failed);
    let rows = ends.len();
    reset_peak();
    let (memory, began) = (resident("VmRSS"), cpu("self"));
    let failures = std::fs::read(&failed).expect("the file");
    let half = Some(rows as u64 / 2);
    let counts = Counts { processed: Some(rows as u64 - rows as u64 / 2), failed: half, warned: Some(0) };
    let columns = columns(HEADER.as_bytes(), Format::Csv);
    let reports = RawReports { failures: Some(failures), warnings: None };
    let mut divider = ReportDivider::new(columns, Format::Csv, counts, reports);
    let mut file = File::open(&sent).expect("the file");
    let (mut row, mut at) = (0, 0);
    for job in 1..=JOBS {
        let end = rows * job / JOBS;
        let mut bytes = vec![0; ends[end - 1] - at];
        file.read_exact(&mut bytes).expect("the file is read");
        divider.push(&bytes);
        divider.end_job((end - row) as u64);
        (row, at) = (end, ends[end - 1]);
    }
    let divided = divider.finish();
    let divided_at = cpu("self");
    let failed: u64 = divided.iter().filter_map(|job| job.counts.failed).sum();
    assert_eq!((divided.len(), Some(failed)), (JOBS, half), "each row has its job");
    let stored: Vec<_> = divided.into_iter().map(compressed).collect();
    let (took, peak) = (cpu("self") - began, resident("VmHWM") - memory);
    assert_eq!(stored.len(), JOBS);
    report.target("CPU for it, with compression", &format!("{took:.2} s"), "< 1.5 s", took < CPU_TARGET);
    report.target("highest memory for it", &format!("{peak:.1} MB"), "< 120 MB", peak < MEMORY_TARGET);
    report.figure("CPU without compression", &format!("{:.2} s", divided_at - began));
}

/// Compresses the files and matches of a job as the daemon stores them.
fn compressed(reports: JobReports) -> (DividedFile, PackedRowMatch) {
    let kind = ReportKind::Failures;
    let file = DividedFile::compress(kind, &reports.failures.bytes).expect("zstd has memory");
    let found = reports.failures.found.encode();
    // The daemon encodes it too, empty as it is here.
    encode_rows(&[]);
    (file, PackedRowMatch::compress(kind, 2, &found).expect("zstd has memory"))
}

/// Measures the daemon from the upload of such an import to its last job's end.
pub async fn measure_daemon(report: &mut Report) {
    report.part(&format!("packing: the daemon imports 10 MB of {JOBS} jobs, half of the rows failed"));
    let settings = Settings { import_base: Duration::ZERO, import_per_row: Duration::ZERO, ..Settings::default() };
    let daemon = BenchDaemon::start(settings, "polling = { min = \"100ms\", max = \"1s\" }\n").await;
    daemon.pause();
    let mut client = daemon.client();
    for job in 0..JOBS {
        let (status, answer) =
            client.ask("POST", "/v1/jobs?target=leads&filename=leads.csv&pack=true", body(job).as_bytes());
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
    }
    daemon.reset_peak();
    let (memory, began) = (daemon.memory("VmRSS"), daemon.cpu());
    daemon.resume();
    crate::packing::wait_for_end(&daemon).await;
    let (took, peak) = (daemon.cpu() - began, daemon.memory("VmHWM"));
    report.target(
        "highest memory, from the upload to the last end",
        &format!("{peak:.1} MB"),
        "< 120 MB",
        peak < MEMORY_TARGET,
    );
    report.figure("memory before it", &format!("{memory:.1} MB"));
    report.figure("CPU s from the upload to the last end", &format!("{took:.2}"));
    report.figure("imports", &daemon.simulator.call_log().imports.len().to_string());
}

/// A file of a thousandth of an upload, of which every second row fails.
fn body(job: usize) -> String {
    let mut file = String::from(HEADER);
    let mut row = 0;
    while file.len() < UPLOAD_BYTES / JOBS - 200 {
        let score =
            if row % 2 == 1 { "!fail:Invalid value for field 'leadScore'".into() } else { (row % 101).to_string() };
        writeln!(file, "user.{job}.{row}@example.com,Ann,Adams,Company {},Berlin,+1 555 {row:07},{score}", row % 1000)
            .expect("writing to text");
        row += 1;
    }
    file
}
