//! Measures how many files the daemon accepts in a second, each answered only once it is on the disk.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
pub const PATH: &str = "/v1/jobs?target=leads&filename=leads.csv";

/// Clients, with the jobs of a round: enough for the ticks of processor time.
const LOADS: [(usize, usize); 3] = [(1, 500), (16, 2_000), (64, 6_000)];
const GRID_ROUNDS: usize = 5;
/// Of one client: so many accepts for each append with fdatasync, or so many a second.
const APPEND_RATIO: f64 = 0.4;
const ONE_CLIENT: f64 = 2_000.0;
const MANY_CLIENTS: f64 = 10_000.0;
const CPU_EACH: f64 = 0.10;
const WORST: Duration = Duration::from_millis(50);
/// Those who send files of [`STREAM_BYTES`], one after another, while small jobs are accepted.
const STREAMS: usize = 2;
const STREAM_BYTES: usize = 10_000_000;

pub async fn measure(report: &mut Report) {
    report.part(&format!("accepts over the socket and TCP: jobs of {JOB_BYTES} bytes, {GRID_ROUNDS} rounds, paused"));
    let daemon = BenchDaemon::start_with_tcp(Settings::default()).await;
    daemon.pause();
    for (count, jobs) in LOADS {
        let clients = (0..count).map(|_| daemon.client()).collect();
        measure_load(report, &daemon, "socket", clients, jobs);
        measure_load(report, &daemon, "TCP", daemon.tcp_clients(count), jobs);
    }
    drop(daemon);
    // The contract's limits: ten imports in flight, and behind them a queue that grows each round, which the scheduler
    // looks at again whenever something has come.
    let (clients, jobs) = LOADS[2];
    report.part(&format!("accepts while files of {} MB stream in, scheduler at work", STREAM_BYTES / 1_000_000));
    let daemon = BenchDaemon::start_with_tcp(Settings::default()).await;
    measure_beside_streams(report, &daemon, clients, jobs);
    let value = format!("{:.1} MB", daemon.memory("VmRSS"));
    report.figure("resident memory afterwards", &value);
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

/// A round, and what the disk alone gave before it.
struct Round {
    accepts: f64,
    worst: Duration,
    appends: f64,
}

/// Measures rounds of so many jobs with these clients, and its processor time.
fn measure_load(report: &mut Report, daemon: &BenchDaemon, over: &str, mut clients: Vec<Client>, jobs: usize) {
    let bodies: Vec<String> = (0..jobs).map(body).collect();
    // The first fills caches and grows files.
    round(&mut clients, &bodies[..jobs / 4], PATH);
    let (mut daemons, mut ours) = (0.0, 0.0);
    let mut rounds = Vec::new();
    for _ in 0..GRID_ROUNDS {
        let appends = appends(daemon.folder.path());
        let before = (daemon.cpu(), cpu("self"));
        let (accepts, worst) = round(&mut clients, &bodies, PATH);
        daemons += daemon.cpu() - before.0;
        ours += cpu("self") - before.1;
        rounds.push(Round { accepts, worst, appends });
    }
    let each = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    let (accepts, ratio) = (each(|round| round.accepts), each(|round| round.accepts / round.appends));
    let name = format!("{over}, {}", counted(clients.len()));
    let what = format!("{name}: accepts a second");
    let value = format!("{accepts:.0}");
    match clients.len() {
        1 => report.figure(&what, &value),
        64 => report.target(&what, &value, ">= 10000", accepts >= MANY_CLIENTS),
        _ => report.target(&what, &value, ">= 2000", accepts >= ONE_CLIENT),
    }
    let what = format!("{name}: accepts to an append with fdatasync");
    let value = format!("{ratio:.2} of {:.0}/s", each(|round| round.appends));
    if clients.len() == 1 {
        let reached = ratio >= APPEND_RATIO || accepts >= ONE_CLIENT;
        report.target(&what, &value, ">= 0.4 or 2000/s", reached);
    } else {
        report.figure(&what, &value);
    }
    let ms = 1e3 / (GRID_ROUNDS * jobs) as f64;
    let what = format!("{name}: CPU ms for each, daemon, bench");
    let (daemons, ours) = (daemons * ms, ours * ms);
    let value = format!("{daemons:.3}, {ours:.3}");
    if clients.len() == 64 {
        report.target(&what, &value, "<= 0.10", daemons <= CPU_EACH);
    } else {
        report.figure(&what, &value);
    }
    let worst = rounds.iter().map(|round| round.worst).max().unwrap_or_default();
    report.figure(&format!("{name}: worst answer"), &format!("{:.1} ms", worst.as_secs_f64() * 1e3));
}

/// The number of clients in words.
pub fn counted(clients: usize) -> String {
    if clients == 1 { "1 client".into() } else { format!("{clients} clients") }
}

/// Measures rounds of small jobs from many clients while a few others send large files.
fn measure_beside_streams(report: &mut Report, daemon: &BenchDaemon, count: usize, jobs: usize) {
    let bodies: Vec<String> = (0..jobs).map(body).collect();
    let mut clients = daemon.tcp_clients(count);
    let streams = daemon.tcp_clients(STREAMS);
    let file = file_of(0, STREAM_BYTES);
    round(&mut clients, &bodies[..jobs / 4], PATH);
    let (ended, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let rounds: Vec<(f64, Duration)> = thread::scope(|scope| {
        for mut client in streams {
            let (ended, sent, file) = (&ended, &sent, &file);
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let (status, answer) = client.stream(PATH, file.len() as u64, &mut file.as_bytes());
                    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let rounds = (0..GRID_ROUNDS).map(|_| round(&mut clients, &bodies, PATH)).collect();
        ended.store(true, Ordering::Relaxed);
        rounds
    });
    let accepts = median(rounds.iter().map(|(accepts, _)| *accepts).collect());
    report.figure(&format!("TCP, {count} clients: accepts a second"), &format!("{accepts:.0}"));
    let worst = rounds.into_iter().map(|(_, worst)| worst).max().unwrap_or_default();
    let value = format!("{:.1} ms", worst.as_secs_f64() * 1e3);
    report.target(&format!("TCP, {count} clients: worst answer"), &value, "< 50 ms", worst < WORST);
    report.figure(&format!("files that {STREAMS} others sent meanwhile"), &sent.into_inner().to_string());
}

/// Sends every body, and gives accepts a second and the longest wait for an answer.
pub fn round(clients: &mut [Client], bodies: &[String], path: &str) -> (f64, Duration) {
    let requests: Vec<Vec<u8>> = bodies.iter().map(|body| clients[0].request("POST", path, body.as_bytes())).collect();
    let next = AtomicUsize::new(0);
    let worst = Mutex::new(Duration::ZERO);
    let began = Instant::now();
    thread::scope(|scope| {
        for client in clients {
            let (next, worst, requests) = (&next, &worst, &requests);
            scope.spawn(move || {
                let mut longest = Duration::ZERO;
                while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let asked = Instant::now();
                    let (status, answer) = client.send(request);
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
pub fn appends(folder: &Path) -> f64 {
    let mut file = File::create(folder.join("appends")).expect("a file");
    let began = Instant::now();
    for _ in 0..JOBS {
        file.write_all(&[b'x'; JOB_BYTES]).expect("there is room");
        file.sync_data().expect("the disk writes");
    }
    JOBS as f64 / began.elapsed().as_secs_f64()
}

/// A file of leads of about [`JOB_BYTES`] bytes, none like another.
pub fn body(number: usize) -> String {
    file_of(number, JOB_BYTES)
}

pub fn file_of(number: usize, bytes: usize) -> String {
    let mut file = String::from("email,firstName,lastName,company\n");
    let mut row = 0;
    while file.len() < bytes - 60 {
        writeln!(file, "{number}.{row}@example.com,Ann{row},Lee{number},\"Acme, Inc. {row}\"")
            .expect("writing to text");
        row += 1;
    }
    file
}
