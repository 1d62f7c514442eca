//! Measures how the cost of each request, and of a start, grows with what there is: pending and ended jobs, instances,
//! batches of a job, and the size of a file. Each curve becomes a plot in `docs/performance/`.
//!
//! A cost is processor time of the daemon, since wall times on shared machines say more about the others.

pub mod fill;
mod plot;

use std::time::Duration;

use marqueue::simulator::Settings;

use crate::accepts::body;
use crate::bench_daemon::BenchDaemon;
use crate::{Report, median};
use fill::copy_job;
use plot::{Curve, Plot};

const PENDING: [u64; 5] = [10, 100, 1_000, 10_000, 100_000];
const ENDED: [u64; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];
const INSTANCES: [usize; 4] = [1, 10, 100, 1_000];
const BATCHES: [u64; 5] = [1, 4, 20, 100, 400];
/// In MB. A file of 4,000 MB is measured on request only: it takes a minute, and 5 GB of disk.
const FILES: [u64; 4] = [1, 10, 100, 500];
const LARGEST_FILE: u64 = 4_000;

/// Each figure is the median of so many groups of [`ASKED`] requests: the kernel counts the time of threads that change
/// places in less than a request takes, but not exactly.
const GROUPS: usize = 5;
const ASKED: usize = 5;
const PATH: &str = "/v1/jobs?target=leads&filename=leads.csv";

pub async fn measure(report: &mut Report) {
    pending(report).await;
    ended(report).await;
    instances(report).await;
    batches(report).await;
    files(report).await;
}

/// What a daemon is asked for, in the order of a [`Curve`]'s values.
const REQUESTS: [(&str, &str, &str); 4] = [
    ("accept", "POST", PATH),
    ("list", "GET", "/v1/jobs?limit=50"),
    ("status", "GET", "/v1/status"),
    ("metrics", "GET", "/metrics"),
];

async fn pending(report: &mut Report) {
    report.part("scale: pending jobs, one instance with all slots taken; CPU ms");
    let mut daemon = BenchDaemon::start(endless_imports(), "").await;
    daemon.pause();
    add(&daemon);
    let mut curves = Curves::new(&["start"]);
    let mut there = 1;
    for count in PENDING {
        daemon.stop();
        copy_job(&daemon.database(), "pending", count - there).await;
        there = count;
        let start = daemon.start_again();
        daemon.resume();
        curves.add(report, count, &daemon, &[start]);
    }
    curves.plot("pending", "pending jobs", "CPU ms");
}

async fn ended(report: &mut Report) {
    report.part("scale: ended jobs; CPU ms");
    let settings = Settings { import_base: Duration::ZERO, import_per_row: Duration::ZERO, ..Settings::default() };
    let mut daemon = BenchDaemon::start(settings, "polling = { min = \"100ms\", max = \"1s\" }\n").await;
    add(&daemon);
    crate::packing::wait_for_end(&daemon).await;
    daemon.pause();
    let mut curves = Curves::new(&["start"]);
    let mut there = 1;
    for count in ENDED {
        daemon.stop();
        copy_job(&daemon.database(), "complete", count - there).await;
        there = count;
        let start = daemon.start_again();
        curves.add(report, count, &daemon, &[start]);
    }
    curves.plot("ended", "ended jobs", "CPU ms");
}

async fn instances(report: &mut Report) {
    report.part("scale: instances without jobs; CPU ms");
    let mut curves = Curves::new(&["start"]);
    for count in INSTANCES {
        let daemon = BenchDaemon::start_many(Settings::default(), count, "").await;
        // The socket is open before the database and the instances are.
        let (status, _) = daemon.client().ask("GET", "/healthz", b"");
        assert_eq!(status, 200);
        let start = daemon.spent_ms();
        let (status, _) = daemon.client().ask("POST", "/v1/instances/n0/pause", b"");
        assert_eq!(status, 200);
        curves.add_on(report, count as u64, &daemon, &[start], "&instance=n0");
    }
    curves.plot("instances", "instances", "CPU ms");
}

async fn batches(report: &mut Report) {
    report.part("scale: batches of one job of 1 KB each; CPU ms");
    let mut curve = Curve::new(["accept", "show", "list of ten", "explain"]);
    for count in BATCHES {
        let daemon = BenchDaemon::start(Settings::default(), "limits = { upload_bytes = 2048 }\n").await;
        daemon.pause();
        let mut client = daemon.client();
        // Rows of one length, so that each batch has as many.
        let mut file = String::from("email,firstName\n");
        for number in 0..count * 36 {
            file += &format!("{number:09}@example.com,{:>28}\n", "Ann");
        }
        let accept = cost(&daemon, || assert_eq!(client.ask("POST", PATH, file.as_bytes()).0, 201));
        let mut ask = |path: &str| cost(&daemon, || assert_eq!(client.ask("GET", path, b"").0, 200));
        let values = [accept, ask("/v1/jobs/1"), ask("/v1/jobs?limit=10"), ask("/v1/jobs/1/explain")];
        let mut client = daemon.client();
        let (_, shown) = client.ask("GET", "/v1/jobs/1", b"");
        let shown: serde_json::Value = serde_json::from_slice(&shown).expect("JSON");
        let batches = shown["batches"].as_array().map_or(0, Vec::len) as u64;
        curve.add(report, batches, &values);
    }
    curve.plot("batches", "batches of a job", "CPU ms");
}

async fn files(report: &mut Report) {
    report.part("scale: size of a file in MB");
    let largest = std::env::var_os("MARQUEUE_BENCH_LARGEST").map(|_| LARGEST_FILE);
    let mut curve = Curve::new(["CPU ms", "memory, MB"]);
    let piece = body(0).split_off("email,firstName,lastName,company\n".len()).repeat(1_000);
    for size in FILES.into_iter().chain(largest) {
        let daemon = BenchDaemon::start(Settings::default(), "").await;
        daemon.pause();
        let pieces = size * 1_000_000 / piece.len() as u64 + 1;
        let header = "email,firstName,lastName,company\n";
        let bytes = header.len() as u64 + pieces * piece.len() as u64;
        let mut file = Pieces { head: header.as_bytes(), piece: piece.as_bytes(), left: pieces, at: 0 };
        let before = daemon.spent_ms();
        let (status, answer) = daemon.client().stream(PATH, bytes, &mut file);
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
        curve.add(report, size, &[daemon.spent_ms() - before, daemon.memory("VmHWM")]);
    }
    curve.plot("files", "size of a file, MB", "CPU ms, and MB of memory");
}

/// Imports that do not end while this runs: the slots stay taken.
fn endless_imports() -> Settings {
    Settings { import_base: Duration::from_secs(100_000), ..Settings::default() }
}

/// Adds the job that is copied.
fn add(daemon: &BenchDaemon) {
    let (status, answer) = daemon.client().ask("POST", PATH, body(0).as_bytes());
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
}

/// Processor time of the daemon for one request, in milliseconds.
fn cost(daemon: &BenchDaemon, mut request: impl FnMut()) -> f64 {
    // The first fills caches.
    request();
    let groups = (0..GROUPS).map(|_| {
        let before = daemon.spent_ms();
        (0..ASKED).for_each(|_| request());
        (daemon.spent_ms() - before) / ASKED as f64
    });
    median(groups.collect())
}

/// A curve of [`REQUESTS`], with what was measured before them.
struct Curves(Curve);

impl Curves {
    fn new(first: &[&'static str]) -> Curves {
        Curves(Curve::new(first.iter().copied().chain(REQUESTS.map(|(name, ..)| name))))
    }

    fn add(&mut self, report: &Report, count: u64, daemon: &BenchDaemon, first: &[f64]) {
        self.add_on(report, count, daemon, first, "");
    }

    /// With more parameters for an accept.
    fn add_on(&mut self, report: &Report, count: u64, daemon: &BenchDaemon, first: &[f64], parameters: &str) {
        let mut client = daemon.client();
        let body = body(0);
        let mut values = first.to_vec();
        for (_, method, path) in REQUESTS {
            values.push(cost(daemon, || {
                let (status, answer) = match method {
                    "POST" => client.ask(method, &format!("{path}{parameters}"), body.as_bytes()),
                    _ => client.ask(method, path, b""),
                };
                assert!(status < 300, "{}", String::from_utf8_lossy(&answer));
            }));
        }
        self.0.add(report, count, &values);
    }

    fn plot(self, file: &str, x: &str, y: &str) {
        self.0.plot(file, x, y);
    }
}

impl Curve {
    /// Adds the values at `x`, and shows them.
    fn add(&mut self, report: &Report, x: u64, values: &[f64]) {
        let text: Vec<String> =
            self.names().iter().zip(values).map(|(name, value)| format!("{name} {value:.1}")).collect();
        report.figure(&x.to_string(), &text.join(", "));
        self.push(x as f64, values);
    }

    fn plot(self, file: &str, x: &str, y: &str) {
        if std::env::var_os("MARQUEUE_WRITE_DOCS").is_some() {
            Plot { curve: self, x: x.into(), y: y.into() }.write(file);
        }
    }
}

/// A file that is one piece again and again.
struct Pieces<'a> {
    head: &'a [u8],
    piece: &'a [u8],
    left: u64,
    at: usize,
}

impl std::io::Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if !self.head.is_empty() {
            return self.head.read(buffer);
        }
        if self.at == self.piece.len() {
            (self.left, self.at) = (self.left - 1, 0);
        }
        if self.left == 0 {
            return Ok(0);
        }
        let read = (&self.piece[self.at..]).read(buffer)?;
        self.at += read;
        Ok(read)
    }
}
