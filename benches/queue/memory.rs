//! Measures the daemon's memory, idle and while a file streams in that is far larger.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use marqueue::simulator::Settings;

use crate::Report;
use crate::bench_daemon::{BenchDaemon, cpu};

const IDLE_TARGET: f64 = 20.0;
const STREAMING_TARGET: f64 = 60.0;
const FILE_BYTES: u64 = 1_000_000_000;

/// Idle is who has had so many readings in a row without a change, [`READING`] apart.
const READINGS_ALIKE: usize = 20;
const READING: Duration = Duration::from_millis(100);
/// A daemon that never comes to rest is measured all the same.
const MOST_READINGS: usize = 150;

pub async fn measure(report: &mut Report) {
    report.part("memory: resident, in MB of 1,000,000 bytes");
    let daemon = BenchDaemon::start(Settings::default(), "").await;
    let idle = settled(&daemon).await;
    report.target("idle, after the start", &format!("{idle:.1} MB"), "< 20 MB", idle < IDLE_TARGET);
    daemon.pause();

    // On the disk first, so that the sender does nothing but read, and that `cp` has the same work.
    let (source, copy) = (daemon.folder.path().join("leads.csv"), daemon.folder.path().join("copy.csv"));
    let bytes = write_leads(&source);
    let copying = copied(&source, &copy);
    let mut client = daemon.client();
    let mut file = File::open(&source).expect("the file");
    let before = (daemon.cpu(), cpu("self"), daemon.written());
    let began = Instant::now();
    let (status, answer) = client.stream("/v1/jobs?target=leads&filename=leads.csv", bytes, &mut file);
    let took = began.elapsed();
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
    let peak = daemon.memory("VmHWM");
    let what = format!("highest while {} MB stream in", bytes / 1_000_000);
    report.target(&what, &format!("{peak:.1} MB"), "< 60 MB", peak < STREAMING_TARGET);
    let speed = |took: Duration| bytes as f64 / 1e6 / took.as_secs_f64();
    report.figure("streaming in, the same by cp and sync", &format!("{:.0}, {:.0} MB/s", speed(took), speed(copying)));
    let ratio = took.as_secs_f64() / copying.as_secs_f64();
    report.figure("streaming in, as many times as long as cp and sync", &format!("{ratio:.2}"));
    let (theirs, ours) = (daemon.cpu() - before.0, cpu("self") - before.1);
    report.figure("CPU s for it, daemon and bench", &format!("{theirs:.1}, {ours:.1}"));
    // The disk has less to do than for the copy: on a slow one that outweighs the work of making it less.
    report.figure("written to disk for it", &format!("{:.0} MB", daemon.written() - before.2));
    report.figure("database and its log", &format!("{:.0}, {:.0} MB", daemon.size("q.db"), daemon.size("q.db-wal")));
    report.figure("idle again", &format!("{:.1} MB", settled(&daemon).await));
}

/// Resident memory when it no longer changes.
async fn settled(daemon: &BenchDaemon) -> f64 {
    let (mut last, mut alike) = (0.0, 0);
    for _ in 0..MOST_READINGS {
        let now = daemon.memory("VmRSS");
        alike = if now == last { alike + 1 } else { 0 };
        last = now;
        if alike == READINGS_ALIKE {
            break;
        }
        tokio::time::sleep(READING).await;
    }
    last
}

/// `cp`, and a wait for the disk.
fn copied(from: &Path, to: &Path) -> Duration {
    let began = Instant::now();
    assert!(Command::new("cp").args([from, to]).status().expect("cp runs").success());
    assert!(Command::new("sync").arg(to).status().expect("sync runs").success());
    began.elapsed()
}

/// Leads as a list of customers has them: names that come again, numbers that do not. Returns the bytes.
fn write_leads(path: &Path) -> u64 {
    const FIRST: [&str; 8] = ["Ann", "Ben", "Chloé", "David", "Eva", "Frank", "Grace", "Hiroshi"];
    const LAST: [&str; 8] = ["Adams", "Baker", "Chen", "Díaz", "Evans", "Fischer", "García", "Hughes"];
    const CITY: [&str; 8] = ["Berlin", "Boston", "Chicago", "Dublin", "Lima", "\"Paris, Texas\"", "São Paulo", "Tokyo"];
    let file = File::create(path).expect("a file");
    let mut output = BufWriter::with_capacity(1 << 20, file);
    let header = "email,firstName,lastName,company,city,phone,leadScore\n";
    output.write_all(header.as_bytes()).expect("there is room");
    let mut bytes = header.len() as u64;
    // Marsaglia's xorshift: fast, and the same file in each run.
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut row = Vec::new();
    while bytes < FILE_BYTES {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let pick = |shift: u32| usize::from((random >> shift) as u8 % 8);
        let (first, last, city) = (FIRST[pick(0)], LAST[pick(8)], CITY[pick(16)]);
        let (number, phone, score) = (random >> 40, random % 10_000_000, random % 101);
        row.clear();
        writeln!(row, "{last}.{number}@example.com,{first},{last},Company {number:x},{city},+1 555 {phone:07},{score}")
            .expect("writing to memory");
        output.write_all(&row).expect("there is room");
        bytes += row.len() as u64;
    }
    output.into_inner().expect("there is room").sync_all().expect("the disk writes");
    bytes
}
