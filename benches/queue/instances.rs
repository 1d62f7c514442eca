//! Measures many instances in one daemon: the processor time of a job beside that with one instance, how well each
//! instance's two importing slots are used, and what a thousand idle instances take.
//!
//! Time is divided by [`SCALE`] in all that the contract measures in seconds: imports of 30 s ± 30 %, polling every 5 to
//! 30 s, 50 calls in 20 s. Each instance has a simulator of its own, since instances of one base URL share its limits.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use marqueue::api::dto::JobDto;
use marqueue::simulator::Settings;
use marqueue::simulator::call_log::CallLog;
use serde::Deserialize;

use crate::bench_daemon::BenchDaemon;
use crate::slots::two_slots;
use crate::{Report, median};

const SCALE: u32 = 4;
const INSTANCES: usize = 300;
const JOBS: usize = 12;
/// Daemons of one instance each, at the same time: the work of one is too little to be measured.
const ALONE: usize = 8;
const IDLE: usize = 1_000;
const IDLE_TIME: Duration = Duration::from_secs(10);
const READINGS: usize = 11;

const MAX_CPU_RATIO: f64 = 1.5;
const MAX_TO_BOUND: f64 = 1.05;
const MAX_STATUS: Duration = Duration::from_millis(50);
const MAX_START: Duration = Duration::from_secs(3);
const MAX_IDLE_CPU: f64 = 0.01;
const MAX_IDLE_MEMORY: f64 = 100.0;

const INSTANCE: &str = "polling = { min = \"1250ms\", max = \"7500ms\" }\nlimits = { calls = 50, window = \"5s\" }\n";

pub async fn measure(report: &mut Report) {
    report.part(&format!("instances: {INSTANCES} with {JOBS} jobs each, imports of 30 s; time divided by {SCALE}"));
    let alone = run(ALONE, 1).await;
    let together = run(1, INSTANCES).await;
    let value = format!("{:.2}, {:.2} ms", together.cpu_ms, alone.cpu_ms);
    report.figure("CPU for each job, beside one instance alone", &value);
    let ratio = together.cpu_ms / alone.cpu_ms;
    report.target("CPU for each job, ratio", &format!("{ratio:.2}"), "<= 1.5", ratio <= MAX_CPU_RATIO);
    let worst = |ratios: &[f64]| ratios.iter().copied().fold(0.0, f64::max);
    let value = format!("{:.3} ({:.3})", median(alone.to_bound.clone()), worst(&alone.to_bound));
    report.figure("one instance: total to two-slot bound, median (worst)", &value);
    let middle = median(together.to_bound.clone());
    let value = format!("{middle:.3} ({:.3})", worst(&together.to_bound));
    report.target("total to two-slot bound, median (worst)", &value, "<= 1.05", middle <= MAX_TO_BOUND);
    let status = format!("{:.0}, {:.0} ms CPU", together.status.wall_ms, together.status.cpu_ms);
    let reached = together.status.wall_ms < MAX_STATUS.as_secs_f64() * 1e3;
    report.target("status while they run", &status, "< 50 ms", reached);
    let metrics = format!("{:.0}, {:.0} ms CPU", together.metrics.wall_ms, together.metrics.cpu_ms);
    report.figure("metrics while they run", &metrics);

    report.part(&format!("instances: {IDLE}, idle"));
    let began = Instant::now();
    let daemon = BenchDaemon::start_many(settings(), IDLE, "").await;
    // The socket is open before the database and the instances are.
    let (status, _) = daemon.client().ask("GET", "/healthz", b"");
    assert_eq!(status, 200);
    let start = began.elapsed().saturating_sub(daemon.prepared);
    report.target("start", &format!("{:.2} s", start.as_secs_f64()), "< 3 s", start < MAX_START);
    report.figure("CPU for the start", &format!("{:.2} s", daemon.cpu()));
    tokio::time::sleep(IDLE_TIME / 5).await;
    let before = daemon.cpu();
    tokio::time::sleep(IDLE_TIME).await;
    let share = (daemon.cpu() - before) / IDLE_TIME.as_secs_f64();
    report.target("CPU, of a core", &format!("{:.2} %", share * 100.0), "< 1 %", share < MAX_IDLE_CPU);
    let memory = daemon.memory("VmRSS");
    report.target("resident", &format!("{memory:.0} MB"), "< 100 MB", memory < MAX_IDLE_MEMORY);
    let status = read(&daemon, "/v1/status").await;
    report.figure("status", &format!("{:.0}, {:.0} ms CPU", status.wall_ms, status.cpu_ms));
}

/// What jobs took in daemons of so many instances.
struct Run {
    /// Processor time of each job.
    cpu_ms: f64,
    /// Of each instance, the time from its first job's acceptance to its last job's end, to the least that two slots
    /// take for its imports.
    to_bound: Vec<f64>,
    status: Reading,
    metrics: Reading,
}

/// Medians of a request.
struct Reading {
    wall_ms: f64,
    cpu_ms: f64,
}

async fn run(daemons: usize, instances: usize) -> Run {
    let mut started = Vec::new();
    for _ in 0..daemons {
        started.push(BenchDaemon::start_many(settings(), instances, INSTANCE).await);
    }
    // The tokens and the first plans are no work of a job.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before: f64 = started.iter().map(BenchDaemon::exact_cpu).sum();
    for daemon in &started {
        let mut client = daemon.client();
        for instance in 0..instances {
            let path = format!("/v1/jobs?target=leads&filename=leads.csv&instance=n{instance}");
            for job in 0..JOBS {
                let (status, answer) = client.ask("POST", &path, body(instance, job).as_bytes());
                assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
            }
        }
    }
    let added = started.iter().map(BenchDaemon::exact_cpu).sum::<f64>();
    let status = read(&started[0], "/v1/status").await;
    let metrics = read(&started[0], "/metrics").await;
    // The requests are no work of a job.
    let mut read = started.iter().map(BenchDaemon::exact_cpu).sum::<f64>() - added;
    let mut to_bound = Vec::new();
    for daemon in &started {
        let jobs = loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let asked = started.iter().map(BenchDaemon::exact_cpu).sum::<f64>();
            let unended = [page(daemon, "state=running&limit=1"), page(daemon, "state=pending&limit=1")];
            let jobs = if unended.iter().all(|page| page.jobs.is_empty()) {
                page(daemon, "state=complete&limit=10000").jobs
            } else {
                Vec::new()
            };
            read += started.iter().map(BenchDaemon::exact_cpu).sum::<f64>() - asked;
            if !jobs.is_empty() {
                break jobs;
            }
        };
        assert_eq!(jobs.len(), instances * JOBS, "all jobs complete");
        for (instance, simulator) in daemon.simulators().enumerate() {
            to_bound.push(measured(&jobs, instance) / bound(&simulator.call_log()).as_secs_f64());
        }
    }
    let cpu = started.iter().map(BenchDaemon::exact_cpu).sum::<f64>() - before - read;
    Run { cpu_ms: cpu * 1e3 / (daemons * instances * JOBS) as f64, to_bound, status, metrics }
}

fn settings() -> Settings {
    Settings { window: Duration::from_secs(20) / SCALE, ..Settings::default() }
}

/// Seconds from the acceptance of an instance's first job to the end of its last.
fn measured(jobs: &[JobDto], instance: usize) -> f64 {
    let name = format!("n{instance}");
    let own = || jobs.iter().filter(|job| job.instance == name);
    let began = own().map(|job| job.created_at).min().expect("jobs");
    let ended = own().filter_map(|job| job.finished_at).max().expect("ended jobs");
    ended.duration_since(began).as_secs_f64()
}

fn bound(log: &CallLog) -> Duration {
    two_slots(log.imports.iter().map(|import| import.started.zip(import.ended).expect("it ended")))
}

/// Reads a page of the daemon some times.
async fn read(daemon: &BenchDaemon, path: &str) -> Reading {
    let mut client = daemon.client();
    let (mut wall, before) = (Vec::new(), daemon.exact_cpu());
    for _ in 0..READINGS {
        let began = Instant::now();
        let (status, answer) = client.ask("GET", path, b"");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
        wall.push(began.elapsed().as_secs_f64() * 1e3);
        // The daemon goes on with its work in between.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Reading { wall_ms: median(wall), cpu_ms: (daemon.exact_cpu() - before) * 1e3 / READINGS as f64 }
}

#[derive(Deserialize)]
struct Page {
    jobs: Vec<JobDto>,
}

fn page(daemon: &BenchDaemon, query: &str) -> Page {
    let (status, answer) = daemon.client().ask("GET", &format!("/v1/jobs?{query}"), b"");
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    serde_json::from_slice(&answer).expect("JSON")
}

/// A file of ten rows whose import takes 30 s ± 30 % of undivided time.
fn body(instance: usize, job: usize) -> String {
    // Evenly spread, and in another order for each instance.
    let ms = (21_000 + (job * 7 + instance * 5) % JOBS * 18_000 / (JOBS - 1)) as u32 / SCALE;
    let mut file = String::from("email,firstName\n");
    for row in 0..10 {
        let name = if row == 0 { format!("!lasts:{ms}ms") } else { "Ann".into() };
        writeln!(file, "{instance}.{job}.{row}@example.com,{name}").expect("writing to text");
    }
    file
}
