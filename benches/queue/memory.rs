//! Measures the daemon's memory, idle and while a file streams in that is far larger.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use marqueue::simulator::Settings;

use crate::Report;
use crate::bench_daemon::{BenchDaemon, cpu};
use crate::large_files::send;
use crate::leads::{copied, write_leads};

const IDLE_TARGET: f64 = 20.0;
const STREAMING_TARGET: f64 = 60.0;
const WORKED_TARGET: f64 = 25.0;
const FILE_BYTES: u64 = 1_000_000_000;

/// Clients that send a file each at the same time, and the bytes of each.
const CLIENTS: usize = 64;
const CLIENT_FILE_BYTES: u64 = 10_000_000;

/// Idle is who has had so many readings in a row without a change, [`READING`] apart. Threads that have nothing to do end
/// after ten seconds.
const READINGS_ALIKE: usize = 130;
const READING: Duration = Duration::from_millis(100);
/// A daemon that never comes to rest is measured all the same.
const MOST_READINGS: usize = 400;

pub async fn measure(report: &mut Report) {
    report.part("memory: resident, in MB of 1,000,000 bytes");
    let daemon = BenchDaemon::start(Settings::default(), "").await;
    let idle = settled(&daemon).await;
    report.target("idle, after the start", &format!("{idle:.1} MB"), "< 20 MB", idle < IDLE_TARGET);
    daemon.pause();

    // On the disk first, so that the sender does nothing but read, and that `cp` has the same work.
    let (source, copy) = (daemon.folder.path().join("leads.csv"), daemon.folder.path().join("copy.csv"));
    let bytes = write_leads(&source, FILE_BYTES);
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

    let bytes = write_leads(&source, CLIENT_FILE_BYTES);
    daemon.reset_peak();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| send(&daemon, &source, bytes));
        }
    });
    let peak = daemon.memory("VmHWM");
    let what = format!("highest with {CLIENTS} clients that send {} MB each", bytes / 1_000_000);
    report.target(&what, &format!("{peak:.1} MB"), "< 60 MB", peak < STREAMING_TARGET);
    let idle = settled(&daemon).await;
    report.target("idle after all of it", &format!("{idle:.1} MB"), "< 25 MB", idle < WORKED_TARGET);
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
