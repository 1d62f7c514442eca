//! Measures row matching by itself: an upload of 10 MB, and a report in which half of its rows failed.

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::Path;

use marqueue::delimited::{ReportMatcher, RowMatch, columns};
use marqueue::domain::Format;

use crate::Report;
use crate::bench_daemon::cpu;

pub const UPLOAD_BYTES: usize = 10_000_000;
/// The store's chunks.
const PIECE_BYTES: usize = 256 * 1024;
const CPU_TARGET: f64 = 1.0;
const MEMORY_TARGET: f64 = 60.0;

pub const HEADER: &str = "email,firstName,lastName,company,city,phone,leadScore\n";

pub fn measure(report: &mut Report) {
    report.part("row matching: 10 MB, half of the rows failed");
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Read from files, so that neither is in memory.
    let (sent, failed) = (folder.path().join("sent.csv"), folder.path().join("failed.csv"));
    let rows = write_files(&sent, &failed).len();
    reset_peak();
    let (memory, began) = (resident("VmRSS"), cpu("self"));
    let found = matched(&sent, &failed);
    let (took, peak) = (cpu("self") - began, resident("VmHWM") - memory);
    assert_eq!((found.rows.len(), found.unmatched()), (rows / 2, 0), "each row has its match");
    report.target("CPU for it", &format!("{took:.2} s"), "< 1 s", took < CPU_TARGET);
    report.target("highest memory for it", &format!("{peak:.1} MB"), "< 60 MB", peak < MEMORY_TARGET);
    let bytes = found.encode();
    report.figure("rows, and bytes of the match", &format!("{rows}, {}", bytes.len()));
    let packed = zstd::bulk::compress(&bytes, 1).expect("zstd has memory");
    report.figure("bytes of the match, compressed", &packed.len().to_string());
}

fn matched(sent: &Path, failed: &Path) -> RowMatch {
    let mut matcher = ReportMatcher::new(columns(HEADER.as_bytes(), Format::Csv), Format::Csv);
    pieces(failed, |piece| matcher.push(piece));
    let mut matcher = matcher.finish();
    pieces(sent, |piece| matcher.push(piece));
    matcher.finish(&[])
}

fn pieces(path: &Path, mut push: impl FnMut(&[u8])) {
    let mut file = fs::File::open(path).expect("the file");
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece).expect("the file is read") {
            0 => return,
            read => push(&piece[..read]),
        }
    }
}

/// Writes the rows of an upload, and a report with every second row. Returns where each row ends, in bytes from the
/// first one's begin.
pub fn write_files(sent: &Path, failed: &Path) -> Vec<usize> {
    let (mut upload, mut report) = (String::new(), HEADER.replace('\n', ",Import Failure Reason\n"));
    let mut ends = Vec::new();
    let mut row = String::new();
    while HEADER.len() + upload.len() < UPLOAD_BYTES - 200 {
        row.clear();
        let rows = ends.len();
        let city = if rows % 3 == 0 { "\"Paris, Texas\"" } else { "Berlin" };
        let phone = rows * 7 % 10_000_000;
        write!(
            row,
            "user.{rows}@example.com,Ann,Adams,Company {},{city},+1 555 {phone:07},{}",
            rows % 1000,
            rows % 101
        )
        .expect("writing to memory");
        if rows % 2 == 1 {
            writeln!(report, "{row},\"Invalid value '{rows}' for field 'phone'\"").expect("writing to memory");
        }
        upload += &row;
        upload.push('\n');
        ends.push(upload.len());
    }
    fs::write(sent, upload).expect("there is room");
    fs::write(failed, report).expect("there is room");
    ends
}

/// Makes the highest memory so far that of now.
pub fn reset_peak() {
    fs::write("/proc/self/clear_refs", "5").expect("the kernel resets its own figure");
}

/// This process's memory in MB of 1,000,000 bytes.
pub fn resident(what: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("this process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).expect("the kernel's words");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0 / 1e6
}
