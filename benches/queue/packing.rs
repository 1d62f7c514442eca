//! Measures packing: a thousand small files that share imports, and the same files one import each.
//!
//! An import takes 20 s and 5 ms a row. A thousand of them would take almost three hours, so time is divided by
//! [`SCALE`] in all that the contract measures in seconds: imports, the polling interval and the window of calls. What
//! the daemon and the machine take for themselves is not divided. It weighs as many times as much here, and most where
//! there is one import only: half a second counts as 25. The packed files are therefore imported once more with nothing
//! divided, and this has the target. It is compared with the least that the others can take with two imports at once; the
//! measurement with divided time shows how near to that the daemon comes.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use marqueue::api::dto::JobDto;
use marqueue::clock::Clock;
use marqueue::simulator::Settings;
use marqueue::simulator::call_log::Call;
use serde::Deserialize;

use crate::accepts::CLIENTS;
use crate::bench_daemon::BenchDaemon;
use crate::{Report, median};

const FILES: usize = 1_000;
const ROWS: usize = 10;
const IMPORT_BASE: Duration = Duration::from_secs(20);
const IMPORT_PER_ROW: Duration = Duration::from_millis(5);
const SCALE: u32 = 50;
/// Less for files that arrive while imports run, so that one client sends each in time.
const STREAM_SCALE: u32 = 10;
const TARGET: f64 = 100.0;
/// Files that arrive while imports run, in files a second of Marketo's time.
const STREAM_RATE: f64 = 5.0;

const PACKED: &str = "/v1/jobs?target=leads&filename=leads.csv&pack=true";
const ALONE: &str = "/v1/jobs?target=leads&filename=leads.csv&pack=false";

pub async fn measure(report: &mut Report) {
    report.part(&format!(
        "packing: {FILES} files of {ROWS} rows, imports of 20 s and 5 ms a row; time divided by {SCALE}"
    ));
    let packed = gathered(PACKED, SCALE).await;
    let alone = gathered(ALONE, SCALE).await;
    show(report, "packed", &packed);
    show(report, "not packed", &alone);
    let faster = alone.total / packed.total;
    report.figure(&format!("times as fast, own work {SCALE} times as long"), &format!("{faster:.0}"));
    let fewer = alone.calls() as f64 / packed.calls() as f64;
    report.target("times fewer calls", &format!("{fewer:.0}"), ">= 100", fewer >= TARGET);

    let packed = gathered(PACKED, 1).await;
    show(report, "packed, time not divided", &packed);
    let least = import_time(ROWS as u32).as_secs_f64() * FILES as f64 / 2.0;
    report.figure("not packed, the least that Marketo takes", &format!("{least:.0} s"));
    let faster = least / packed.total;
    report.target("times as fast, not divided", &format!("{faster:.0}"), ">= 100", faster >= TARGET);

    let (stream, arrival) = streamed().await;
    let what = format!("files that arrive over {arrival:.0} s, divided by {STREAM_SCALE}");
    show(report, &what, &stream);
    let value =
        format!("{:.0}, {:.0} s", stream.wait(median), stream.wait(|waits| waits.into_iter().fold(0.0, f64::max)));
    report.figure("from acceptance to completion, median and worst", &value);
}

fn import_time(rows: u32) -> Duration {
    IMPORT_BASE + IMPORT_PER_ROW * rows
}

/// What it took until all files were imported, in seconds of Marketo's time.
struct Run {
    total: f64,
    imports: usize,
    uploads: u64,
    polls: u64,
    reports: u64,
    cpu: f64,
    /// For each job the time from its acceptance to its end.
    waits: Vec<f64>,
}

impl Run {
    fn calls(&self) -> u64 {
        self.uploads + self.polls + self.reports
    }

    fn wait(&self, of: impl FnOnce(Vec<f64>) -> f64) -> f64 {
        of(self.waits.clone())
    }
}

fn show(report: &Report, what: &str, run: &Run) {
    report.figure(&format!("{what}: total, imports"), &format!("{:.0} s, {}", run.total, run.imports));
    let calls = format!("{}, {}, {}", run.uploads, run.polls, run.reports);
    report.figure(&format!("{what}: uploads, polls, reports"), &calls);
    report.figure(&format!("{what}: CPU s of the daemon"), &format!("{:.2}", run.cpu));
}

/// Imports files that were all accepted before the first upload. The time counts from the end of the pause.
async fn gathered(path: &str, scale: u32) -> Run {
    let daemon = start(scale).await;
    daemon.pause();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = daemon.client();
                while let number @ 0..FILES = next.fetch_add(1, Ordering::Relaxed) {
                    let (status, answer) = client.ask("POST", path, body(number).as_bytes());
                    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
                }
            });
        }
    });
    let cpu = daemon.cpu();
    let began = Clock::System.now();
    daemon.resume();
    finished(&daemon, scale, began, cpu).await
}

/// Imports files that arrive evenly while imports run. Returns also the seconds of Marketo's time from the first
/// one's acceptance to the last one's.
async fn streamed() -> (Run, f64) {
    let daemon = start(STREAM_SCALE).await;
    let cpu = daemon.cpu();
    let (began, started) = (Clock::System.now(), Instant::now());
    let mut client = daemon.client();
    for number in 0..FILES {
        let at = Duration::from_secs_f64(number as f64 / STREAM_RATE) / STREAM_SCALE;
        tokio::time::sleep(at.saturating_sub(started.elapsed())).await;
        let (status, answer) = client.ask("POST", PACKED, body(number).as_bytes());
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
    }
    let arrival = started.elapsed().as_secs_f64() * f64::from(STREAM_SCALE);
    (finished(&daemon, STREAM_SCALE, began, cpu).await, arrival)
}

async fn start(scale: u32) -> BenchDaemon {
    let settings = Settings {
        import_base: IMPORT_BASE / scale,
        import_per_row: IMPORT_PER_ROW / scale,
        window: Settings::default().window / scale,
        ..Settings::default()
    };
    let ms = |seconds: u32| seconds * 1_000 / scale;
    let instance = format!(
        "polling = {{ min = \"{}ms\", max = \"{}ms\" }}\nlimits = {{ calls = 50, window = \"{}ms\" }}\n",
        ms(5),
        ms(30),
        ms(20)
    );
    BenchDaemon::start(settings, &instance).await
}

/// Waits until no job is pending or running.
pub async fn wait_for_end(daemon: &BenchDaemon) {
    // In this order, since a pending job becomes a running one. None fails here, so none becomes pending again.
    for state in ["pending", "running"] {
        while !jobs(daemon, state, 1).is_empty() {
            // Seldom, so that the looking does not take the processor from what is looked at.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Waits until all jobs are complete. `cpu` is the daemon's processor time at the beginning.
async fn finished(daemon: &BenchDaemon, scale: u32, began: Timestamp, cpu: f64) -> Run {
    wait_for_end(daemon).await;
    let jobs = jobs(daemon, "complete", FILES);
    assert_eq!(jobs.len(), FILES, "each job is complete");
    let marketo_time = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64() * f64::from(scale);
    let end = |job: &JobDto| job.finished_at.expect("it has ended");
    let log = daemon.simulator.call_log();
    assert!(log.errors.is_empty(), "Marketo's limits are kept: {:?}", log.errors);
    Run {
        total: marketo_time(began, jobs.iter().map(end).max().expect("jobs")),
        imports: log.imports.len(),
        uploads: log.calls_of(Call::Create),
        polls: log.calls_of(Call::Status),
        reports: log.calls_of(Call::Failures) + log.calls_of(Call::Warnings),
        cpu: daemon.cpu() - cpu,
        waits: jobs.iter().map(|job| marketo_time(job.created_at, end(job))).collect(),
    }
}

#[derive(Deserialize)]
struct Page {
    jobs: Vec<JobDto>,
}

fn jobs(daemon: &BenchDaemon, state: &str, limit: usize) -> Vec<JobDto> {
    let (status, answer) = daemon.client().ask("GET", &format!("/v1/jobs?state={state}&limit={limit}"), b"");
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    serde_json::from_slice::<Page>(&answer).expect("JSON").jobs
}

/// A file of [`ROWS`] leads, none like another.
fn body(number: usize) -> String {
    let mut file = String::from("email,firstName,lastName\n");
    for row in 0..ROWS {
        writeln!(file, "{number}.{row}@example.com,Ann{row},Lee{number}").expect("writing to text");
    }
    file
}
