//! Measures how well Marketo's two importing slots are used: the time from the first file's acceptance to the last
//! job's recorded end, against the sum of the import times over two.
//!
//! Real imports take tens of seconds, too long for a benchmark, so time is scaled by a hundred in all that the contract
//! measures in seconds: imports of 0.2 to 0.6 s for 20 to 60 s, polling every 50 to 300 ms for 5 to 30 s, 50 calls in
//! 200 ms for 50 in 20 s. What is not scaled is what the daemon and the machine take for themselves (the disk, the
//! processor, a call's way), which therefore weighs a hundred times as much here as in real life.

use std::fmt::Write as _;
use std::time::Duration;

use marqueue::api::dto::JobDto;
use marqueue::simulator::Settings;
use serde::Deserialize;

use crate::bench_daemon::BenchDaemon;
use crate::{Report, median};

const FILES: u64 = 40;
const ROUNDS: usize = 3;
const TARGET: f64 = 1.05;

const INSTANCE: &str = "polling = { min = \"50ms\", max = \"300ms\" }\n\
                        limits = { calls = 50, window = \"200ms\" }\n";

pub async fn measure(report: &mut Report) {
    report.part(&format!("slots: {FILES} imports of 0.2 to 0.6 s, {ROUNDS} rounds"));
    for (name, by_rows) in [("imports take their time by rows", true), ("rows say nothing of the time", false)] {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(round(by_rows).await);
        }
        let each = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
        let ratio = each(|round| round.measured / round.ideal);
        report.target(&format!("{name}: total to ideal"), &format!("{ratio:.3}"), "<= 1.05", ratio <= TARGET);
        let value = format!("{:.2}, {:.2}, {:.2} s", each(|r| r.measured), each(|r| r.remote), each(|r| r.ideal));
        report.figure(&format!("{name}: total as recorded, as on Marketo, ideal"), &value);
        report.figure(&format!("{name}: calls for each import"), &format!("{:.1}", each(|round| round.calls)));
    }
}

/// In seconds.
struct Round {
    /// From the first job's acceptance to the last one's end, by the daemon's records.
    measured: f64,
    /// From the first import's start to the last one's end, by the simulator's.
    remote: f64,
    ideal: f64,
    calls: f64,
}

async fn round(by_rows: bool) -> Round {
    let settings = Settings {
        import_base: Duration::ZERO,
        import_per_row: Duration::from_millis(1),
        window: Duration::from_millis(200),
        ..Settings::default()
    };
    let daemon = BenchDaemon::start(settings, INSTANCE).await;
    let mut client = daemon.client();
    for number in 0..FILES {
        let (status, answer) =
            client.ask("POST", "/v1/jobs?target=leads&filename=leads.csv", body(number, by_rows).as_bytes());
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
    }
    let jobs = loop {
        let jobs: Page = asked(&daemon, "/v1/jobs?state=complete&limit=100");
        if jobs.jobs.len() as u64 == FILES {
            break jobs.jobs;
        }
        let failed: Page = asked(&daemon, "/v1/jobs?state=failed");
        assert!(failed.jobs.is_empty(), "no job fails: {:?}", failed.jobs);
        // Seldom, so that the looking does not take the processor from what is looked at.
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let began = jobs.iter().map(|job| job.created_at).min().expect("jobs");
    let ended = jobs.iter().filter_map(|job| job.finished_at).max().expect("ended jobs");
    let ledger = daemon.simulator.call_log();
    let times = |of: fn(&marqueue::simulator::call_log::Import) -> Option<Duration>| {
        ledger.imports.iter().map(of).map(|time| time.expect("it ended")).collect::<Vec<_>>()
    };
    let (starts, ends) = (times(|import| import.started), times(|import| import.ended));
    let all: Duration = ends.iter().sum::<Duration>() - starts.iter().sum();
    let remote = ends.into_iter().max().expect("imports") - starts.into_iter().min().expect("imports");
    Round {
        measured: ended.duration_since(began).as_secs_f64(),
        remote: remote.as_secs_f64(),
        ideal: all.as_secs_f64() / 2.0,
        calls: ledger.calls.values().sum::<u64>() as f64 / FILES as f64,
    }
}

#[derive(Deserialize)]
struct Page {
    jobs: Vec<JobDto>,
}

fn asked<T: serde::de::DeserializeOwned>(daemon: &BenchDaemon, path: &str) -> T {
    let (status, answer) = daemon.client().ask("GET", path, b"");
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    serde_json::from_slice(&answer).expect("JSON")
}

/// A file whose import takes 0.2 to 0.6 s, as many milliseconds as it has rows; or one of as many rows as any other,
/// with a cell that says how long.
fn body(number: u64, by_rows: bool) -> String {
    // Long and short ones by turns and not in order: 40 times, evenly spread.
    let ms = 200 + number * 23 % FILES * 10;
    let mut file = String::from("email,firstName\n");
    let rows = if by_rows { ms } else { 10 };
    for row in 0..rows {
        let name = if row == 0 && !by_rows { format!("!lasts:{ms}ms") } else { "Ann".into() };
        writeln!(file, "{number}.{row}@example.com,{name}").expect("writing to text");
    }
    file
}
