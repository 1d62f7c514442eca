//! Measures what it costs to check, cut, compress and store one file, from 1 MB to 4 GB, beside `cp` and `sync` of the
//! same file.

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use marqueue::simulator::Settings;

use crate::bench_daemon::BenchDaemon;
use crate::leads::{copied, write_leads};
use crate::{Report, median};

const MB: u64 = 1_000_000;

/// The file for which there are targets of speed, in MB.
const TARGET_SIZE: u64 = 500;
const CPU_TARGET: f64 = 2.2;
const SPEED_TARGET: f64 = 350.0;

/// By so many MB the highest memory with the largest file may exceed that with [`FLAT_FROM`].
const FLAT_WITHIN: f64 = 8.0;
/// The first size, in MB, with which all that is bounded for one file is in use.
const FLAT_FROM: u64 = 10;

/// Sizes in MB, each with its rounds.
const SIZES: [(u64, usize); 4] = [(1, 15), (FLAT_FROM, 9), (100, 5), (TARGET_SIZE, 3)];
const LARGEST: (u64, usize) = (4_000, 1);

/// The largest file of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// 500 MB.
    Usual,
    /// 4 GB: it takes a minute, and 10 GB of disk.
    FourGb,
}

/// The medians of one size, and its highest memory.
struct Measured {
    cpu: f64,
    wall: f64,
    copying: f64,
    peak: f64,
}

pub async fn measure(report: &mut Report, extent: Extent) {
    let largest = (extent == Extent::FourGb).then_some(LARGEST);
    let mut flat_from = None;
    let mut last = None;
    for (size, rounds) in SIZES.into_iter().chain(largest) {
        let Measured { cpu, wall, copying, peak } = stream(size, rounds).await;
        report.part(&format!("large files: one of {size} MB, median of {rounds}"));
        let speed = |seconds: f64| size as f64 / seconds;
        let (cpu_text, wall_text) = (format!("{cpu:.2} s"), format!("{:.0} MB/s", speed(wall)));
        if size == TARGET_SIZE {
            report.target("CPU of the daemon", &cpu_text, "<= 2.2 s", cpu <= CPU_TARGET);
            let reached = speed(wall) >= SPEED_TARGET;
            report.target("speed (on two idle processors)", &wall_text, ">= 350 MB/s", reached);
        } else {
            report.figure("CPU of the daemon", &cpu_text);
            report.figure("speed", &wall_text);
        }
        report.figure("for each second of CPU", &format!("{:.0} MB", speed(cpu)));
        report.figure("cp and sync in the same run", &format!("{:.0} MB/s", speed(copying)));
        report.figure("as many times as long as cp and sync", &format!("{:.2}", wall / copying));
        report.figure("highest memory", &format!("{peak:.1} MB"));
        if size == FLAT_FROM {
            flat_from = Some(peak);
        }
        last = Some((size, peak));
    }
    if let (Some(from), Some((size, peak))) = (flat_from, last) {
        report.part("large files: memory");
        let what = format!("highest with {size} MB above that with {FLAT_FROM} MB");
        let more = peak - from;
        report.target(&what, &format!("{more:.1} MB"), "<= 8 MB", more <= FLAT_WITHIN);
    }
}

/// Streams a file of `size` MB into one new daemon, `rounds` times.
async fn stream(size: u64, rounds: usize) -> Measured {
    let daemon = BenchDaemon::start(Settings::default(), "").await;
    daemon.pause();
    let (source, copy) = (daemon.folder.path().join("leads.csv"), daemon.folder.path().join("copy.csv"));
    let bytes = write_leads(&source, size * MB);
    daemon.reset_peak();
    let (mut cpu, mut wall, mut copying) = (Vec::new(), Vec::new(), Vec::new());
    // The unit of the kernel's times is 10 ms, so those of all rounds are divided.
    let before = daemon.cpu();
    for _ in 0..rounds {
        copying.push(copied(&source, &copy).as_secs_f64());
        fs::remove_file(&copy).expect("the copy is there");
        let began = (Instant::now(), daemon.cpu());
        send(&daemon, &source, bytes);
        wall.push(began.0.elapsed().as_secs_f64());
        cpu.push(daemon.cpu() - began.1);
    }
    let mean = (daemon.cpu() - before) / rounds as f64;
    let cpu = if size < TARGET_SIZE { mean } else { median(cpu) };
    Measured { cpu, wall: median(wall), copying: median(copying), peak: daemon.memory("VmHWM") }
}

/// Sends a file over a connection of its own.
pub fn send(daemon: &BenchDaemon, source: &Path, bytes: u64) {
    let mut file = File::open(source).expect("the file");
    let (status, answer) = daemon.client().stream("/v1/jobs?target=leads&filename=leads.csv", bytes, &mut file);
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
}
