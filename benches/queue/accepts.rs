//! Measures how many files the daemon accepts in a second, each answered only once it is on the disk.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use marqueue::simulator::Settings;

use crate::bench_daemon::{BenchDaemon, cpu};
use crate::client::Client;
use crate::{Report, median};

const JOBS: usize = 500;
const JOB_BYTES: usize = 1024;
pub const CLIENTS: usize = 16;
const ROUNDS: usize = 7;
const TARGET: f64 = 2_000.0;
const PATH: &str = "/v1/jobs?target=leads&filename=leads.csv";

pub async fn measure(report: &mut Report) {
    report.part(&format!("accepts: {JOBS} jobs of {JOB_BYTES} bytes from {CLIENTS} clients, {ROUNDS} rounds"));
    let daemon = BenchDaemon::start(Settings::default(), "").await;
    daemon.pause();
    measure_in(report, &daemon, "paused");
    drop(daemon);
    // The contract's limits: ten imports in flight, and behind them a queue that grows by 500 a round, which the
    // scheduler looks at again whenever something has come.
    let daemon = BenchDaemon::start(Settings::default(), "").await;
    measure_in(report, &daemon, "scheduler at work");
}

/// Measures what it costs an accept that its job may share an import, with rounds of both kinds by turns.
pub async fn measure_packed(report: &Report) {
    report.part(&format!("packing: accepts, {JOBS} jobs of {JOB_BYTES} bytes from {CLIENTS} clients, {ROUNDS} rounds"));
    let daemon = BenchDaemon::start(Settings::default(), "").await;
    daemon.pause();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| daemon.client()).collect();
    let bodies: Vec<String> = (0..JOBS).map(body).collect();
    round(&mut clients, &bodies, PATH);
    let (mut alone, mut packed, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut accepts = |pack| round(&mut clients, &bodies, &format!("{PATH}&pack={pack}")).0;
        let (without, with) = (accepts(false), accepts(true));
        alone.push(without);
        packed.push(with);
        ratios.push(with / without);
    }
    let value = format!("{:.0}, {:.0}", median(packed), median(alone));
    report.figure("durable accepts a second with pack, without", &value);
    report.figure("with pack, as many times as without", &format!("{:.2}", median(ratios)));
}

struct Round {
    accepts: f64,
    worst: Duration,
    appends: f64,
}

fn measure_in(report: &mut Report, daemon: &BenchDaemon, state: &str) {
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| daemon.client()).collect();
    let bodies: Vec<String> = (0..JOBS).map(body).collect();
    // The first fills caches and grows files.
    round(&mut clients, &bodies, PATH);
    let (database, log) = (daemon.size("q.db"), daemon.size("q.db-wal"));
    let (mut daemons, mut ours) = (0.0, 0.0);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let appends = appends(daemon.folder.path());
        let before = (daemon.cpu(), cpu("self"));
        let (accepts, worst) = round(&mut clients, &bodies, PATH);
        daemons += daemon.cpu() - before.0;
        ours += cpu("self") - before.1;
        rounds.push(Round { accepts, worst, appends });
    }
    let each = |of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
    let accepts = median(each(|round| round.accepts));
    let least = each(|round| round.accepts).into_iter().fold(f64::INFINITY, f64::min);
    let what = format!("{state}: durable accepts a second (worst round)");
    report.target(&what, &format!("{accepts:.0} ({least:.0})"), &format!(">= {TARGET}"), accepts >= TARGET);
    let worst = rounds.iter().map(|round| round.worst).max().unwrap_or_default();
    report.figure(&format!("{state}: worst answer"), &format!("{:.1} ms", worst.as_secs_f64() * 1e3));
    let (appends, ratio) = (median(each(|round| round.appends)), median(each(|round| round.accepts / round.appends)));
    let what = format!("{state}: appends with fdatasync a second, accepts to one");
    report.figure(&what, &format!("{appends:.0}, {ratio:.2}"));
    let thousands = (ROUNDS * JOBS) as f64 / 1e3;
    let what = format!("{state}: CPU s for 1,000 accepts, daemon and bench");
    report.figure(&what, &format!("{:.2}, {:.2}", daemons / thousands, ours / thousands));
    let what = format!("{state}: database and its log after {JOBS} jobs");
    report.figure(&what, &format!("{database:.2}, {log:.2} MB"));
    let what = format!("{state}: resident memory after {} jobs", (ROUNDS + 1) * JOBS);
    report.figure(&what, &format!("{:.1} MB", daemon.memory("VmRSS")));
}

/// Sends every body, and gives accepts a second and the longest wait for an answer.
fn round(clients: &mut [Client], bodies: &[String], path: &str) -> (f64, Duration) {
    let next = AtomicUsize::new(0);
    let worst = Mutex::new(Duration::ZERO);
    let began = Instant::now();
    thread::scope(|scope| {
        for client in clients {
            let (next, worst) = (&next, &worst);
            scope.spawn(move || {
                let mut longest = Duration::ZERO;
                while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let asked = Instant::now();
                    let (status, answer) = client.ask("POST", path, body.as_bytes());
                    longest = longest.max(asked.elapsed());
                    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
                }
                let mut worst = worst.lock().expect("no client panicked");
                *worst = worst.max(longest);
            });
        }
    });
    let took = began.elapsed();
    (bodies.len() as f64 / took.as_secs_f64(), worst.into_inner().expect("no client panicked"))
}

/// What the disk gives to one who waits for it after each kilobyte, a second.
fn appends(folder: &Path) -> f64 {
    let mut file = File::create(folder.join("appends")).expect("a file");
    let began = Instant::now();
    for _ in 0..JOBS {
        file.write_all(&[b'x'; JOB_BYTES]).expect("there is room");
        file.sync_data().expect("the disk writes");
    }
    JOBS as f64 / began.elapsed().as_secs_f64()
}

/// A file of leads of about [`JOB_BYTES`] bytes, none like another.
fn body(number: usize) -> String {
    let mut file = String::from("email,firstName,lastName,company\n");
    let mut row = 0;
    while file.len() < JOB_BYTES - 60 {
        writeln!(file, "{number}.{row}@example.com,Ann{row},Lee{number},\"Acme, Inc. {row}\"")
            .expect("writing to text");
        row += 1;
    }
    file
}
