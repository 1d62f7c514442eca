//! Importing the same files through marketorestpython and through the daemon: total time, and calls of Marketo.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use marqueue::simulator::call_log::{Call, CallLog};
use marqueue::simulator::{Settings, Simulator};

use super::{MISSING, installed, timed};
use crate::Report;
use crate::accepts::{PATH, body};
use crate::bench_daemon::BenchDaemon;
use crate::packing::wait_for_end;

const FILES: usize = 24;
/// Divides all that is seconds on Marketo.
const SCALE: u32 = 20;
const IMPORT: Duration = Duration::from_secs(30);
/// How long a program waits before it asks again.
const INTERVAL: Duration = Duration::from_secs(10);
const SCRIPT: &str = "benches/queue/peers/import_with_marketorestpython.py";

/// In seconds of Marketo's time.
struct Run {
    total: f64,
    calls: u64,
}

pub async fn measure(report: &mut Report) {
    report.part(&format!("peers: {FILES} imports of 30 s; time divided by {SCALE}"));
    let ours = with_daemon().await;
    show(report, "marqueue", &ours, &ours);
    let Some(python) = installed("python/bin/python3") else {
        report.figure("marketorestpython", MISSING);
        return;
    };
    for (name, threads) in [("one file at a time", 1), ("in ten threads", 10)] {
        let theirs = with_python(&python, threads).await;
        show(report, &format!("marketorestpython, {name}"), &theirs, &ours);
    }
}

fn show(report: &Report, what: &str, run: &Run, ours: &Run) {
    let value = format!("{:.0} s ({:.2}), {}", run.total, run.total / ours.total, run.calls);
    report.figure(&format!("{what}: total (to marqueue's), calls"), &value);
}

fn settings() -> Settings {
    Settings {
        import_base: IMPORT / SCALE,
        import_per_row: Duration::ZERO,
        window: Settings::default().window / SCALE,
        // What published clients send: the token as a parameter.
        lenient: true,
        ..Settings::default()
    }
}

fn run(began: Instant, log: &CallLog) -> Run {
    let calls = [Call::Create, Call::Status, Call::Failures, Call::Warnings].map(|call| log.calls_of(call));
    Run { total: (began.elapsed() * SCALE).as_secs_f64(), calls: calls.into_iter().sum() }
}

async fn with_daemon() -> Run {
    let ms = |seconds: u32| seconds * 1_000 / SCALE;
    let instance = format!(
        "polling = {{ min = \"{}ms\", max = \"{}ms\" }}\nlimits = {{ calls = 50, window = \"{}ms\" }}\n",
        ms(5),
        ms(30),
        ms(20)
    );
    let daemon = BenchDaemon::start(settings(), &instance).await;
    let mut client = daemon.client();
    let began = Instant::now();
    for number in 0..FILES {
        let (status, answer) = client.ask("POST", PATH, body(number).as_bytes());
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
    }
    wait_for_end(&daemon).await;
    run(began, &daemon.simulator.call_log())
}

async fn with_python(python: &Path, threads: u32) -> Run {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let simulator = Simulator::start(listener, settings()).expect("the simulator starts");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for number in 0..FILES {
        fs::write(folder.path().join(format!("leads{number}.csv")), body(number)).expect("there is room");
    }
    // The start of the interpreter is no part of an import.
    let start = timed(Command::new(python).args(["-c", "import marketorestpython.client"]));
    let began = Instant::now() + start;
    timed(
        Command::new(python)
            .arg(SCRIPT)
            .arg(simulator.base_url())
            .arg(folder.path())
            .arg(threads.to_string())
            .arg((INTERVAL / SCALE).as_secs_f64().to_string()),
    );
    run(began, &simulator.call_log())
}
