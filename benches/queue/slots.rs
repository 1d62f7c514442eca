//! Measures how well Marketo's two importing slots are used: the time from the first file's acceptance to the last
//! job's recorded end, against the sum of the import times over two.
//!
//! Real imports take tens of seconds, too long for a benchmark, so time is scaled by a hundred in all that the contract
//! measures in seconds: imports of 0.2 to 0.6 s for 20 to 60 s, polling every 50 to 300 ms for 5 to 30 s, 50 calls in
//! 200 ms for 50 in 20 s. What is not scaled is what the daemon and the machine take for themselves (the disk, the
//! processor, a call's way), which therefore weighs a hundred times as much here as in real life.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use marqueue::api::dto::JobDto;
use marqueue::clock::Clock;
use marqueue::simulator::Settings;
use marqueue::simulator::call_log::Call;
use serde::Deserialize;

use crate::bench_daemon::BenchDaemon;
use crate::{Report, median};

const FILES: u64 = 40;
const ROUNDS: usize = 3;
const TARGET: f64 = 1.05;
const MAX_TO_BOUND: f64 = 1.01;
/// Status calls of an import beyond one.
const MAX_EXTRA_CALLS: f64 = 2.0;
/// From the end of an import on Marketo to its record, in undivided time.
const MAX_NEWS: Duration = Duration::from_secs(10);

/// Files that arrive one by one.
const ARRIVALS: u64 = 30;
/// From the answer to the client to the upload's arrival at Marketo, while a slot is free.
const MAX_UPLOAD_START: Duration = Duration::from_millis(10);

/// Imports of one length, give or take 30 %, whatever their rows.
struct Length {
    name: &'static str,
    import: Duration,
    scale: u32,
    files: u64,
}

const LENGTHS: [Length; 3] = [
    Length { name: "30 s", import: Duration::from_secs(30), scale: 50, files: 40 },
    Length { name: "1 min", import: Duration::from_secs(60), scale: 100, files: 40 },
    // Less files, since the polling interval must not become as short as a call takes.
    Length { name: "30 min", import: Duration::from_secs(1800), scale: 300, files: 16 },
];

pub async fn measure(report: &mut Report) {
    report.part(&format!("slots: {FILES} imports of 0.2 to 0.6 s, {ROUNDS} rounds"));
    for (name, by_rows) in [("imports take their time by rows", true), ("rows say nothing of the time", false)] {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let bodies = (0..FILES).map(|number| body(number, by_rows)).collect();
            rounds.push(round(bodies, 100).await);
        }
        let each = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
        let ratio = each(|round| round.measured / round.ideal);
        report.target(&format!("{name}: total to ideal"), &format!("{ratio:.3}"), "<= 1.05", ratio <= TARGET);
        let value = format!("{:.2}, {:.2}, {:.2} s", each(|r| r.measured), each(|r| r.remote), each(|r| r.ideal));
        report.figure(&format!("{name}: total as recorded, as on Marketo, ideal"), &value);
        report.figure(&format!("{name}: calls for each import"), &format!("{:.1}", each(|round| round.calls)));
    }
    report.part(&format!("slots: {ARRIVALS} files, each while both slots are free"));
    let upload = median(starts_of_uploads().await) * 1e3;
    let reached = upload < MAX_UPLOAD_START.as_secs_f64() * 1e3;
    report.target("from an accept to the start of its upload, median", &format!("{upload:.1} ms"), "< 10 ms", reached);
    for length in LENGTHS {
        let Length { name, scale, .. } = length;
        report.part(&format!("slots: {} imports of {name}, 30 % more or less; time divided by {scale}", length.files));
        let round = round(length.bodies(), scale).await;
        let ratio = round.measured / round.bound;
        report.target("total to two-slot bound", &format!("{ratio:.3}"), "<= 1.01", ratio <= MAX_TO_BOUND);
        let value = format!("{:.1}", round.extra_calls);
        report.target("status calls beyond one, for each", &value, "<= 2.0", round.extra_calls <= MAX_EXTRA_CALLS);
        let news = median(round.news) * f64::from(scale);
        let reached = news <= MAX_NEWS.as_secs_f64();
        report.target("from an end to its record, median, undivided", &format!("{news:.1} s"), "<= 10 s", reached);
    }
}

impl Length {
    fn bodies(&self) -> Vec<String> {
        (0..self.files)
            .map(|number| {
                // Evenly spread from 70 to 130 %, and not in order.
                let percent = 70.0 + (number * 23 % self.files) as f64 * 60.0 / (self.files - 1) as f64;
                let ms = self.import.as_secs_f64() * 10.0 * percent / f64::from(self.scale);
                // As many rows as a file of its kind may have: they show how far an import is.
                let rows = self.import.as_secs() / 2;
                file_of(number, rows, &format!("!lasts:{ms:.0}ms"))
            })
            .collect()
    }
}

/// Returns in seconds how long after each file's acceptance its upload arrived. Time is divided by a hundred, so that the
/// limit of calls delays none.
async fn starts_of_uploads() -> Vec<f64> {
    let settings = Settings {
        import_base: Duration::from_millis(20),
        import_per_row: Duration::ZERO,
        window: Duration::from_millis(200),
        ..Settings::default()
    };
    let instance = "polling = { min = \"20ms\", max = \"300ms\" }\nlimits = { calls = 50, window = \"200ms\" }\n";
    let daemon = BenchDaemon::start(settings, instance).await;
    let mut client = daemon.client();
    let mut accepted = Vec::new();
    for number in 0..ARRIVALS {
        let file = file_of(number, 10, "Ann");
        let (status, answer) = client.ask("POST", "/v1/jobs?target=leads&filename=leads.csv", file.as_bytes());
        accepted.push(Clock::System.now());
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
        let job: JobDto = serde_json::from_slice(&answer).expect("a job");
        let ended: JobDto = asked(&daemon, &format!("/v1/jobs/{}?wait=60s", job.id));
        assert!(ended.finished_at.is_some(), "it ends within a minute");
    }
    let creates = daemon.simulator.call_log().creates;
    assert_eq!(creates.len(), accepted.len(), "each file is one upload");
    let arrived = creates.iter().map(|create| create.at.as_secs_f64());
    let since = |at: Timestamp| at.duration_since(daemon.simulated_since).as_secs_f64();
    arrived.zip(accepted).map(|(arrived, accepted)| arrived - since(accepted)).collect()
}

/// In seconds.
struct Round {
    /// From the first job's acceptance to the last one's end, by the daemon's records.
    measured: f64,
    /// From the first import's start to the last one's end, by the simulator's.
    remote: f64,
    ideal: f64,
    /// What two slots take for the imports in their order.
    bound: f64,
    calls: f64,
    extra_calls: f64,
    /// From the end of each import to its record.
    news: Vec<f64>,
}

/// Imports these files in time that is divided by `scale`.
async fn round(bodies: Vec<String>, scale: u32) -> Round {
    let files = bodies.len();
    let settings = Settings {
        import_base: Duration::ZERO,
        import_per_row: Duration::from_millis(1),
        window: Duration::from_secs(20) / scale,
        ..Settings::default()
    };
    let us = |seconds: u32| Duration::from_secs(seconds.into()).as_micros() / u128::from(scale);
    let instance = format!(
        "polling = {{ min = \"{}us\", max = \"{}us\" }}\nlimits = {{ calls = 50, window = \"{}us\" }}\n",
        us(5),
        us(30),
        us(20),
    );
    let daemon = BenchDaemon::start(settings, &instance).await;
    let mut client = daemon.client();
    for body in bodies {
        let (status, answer) = client.ask("POST", "/v1/jobs?target=leads&filename=leads.csv", body.as_bytes());
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
    }
    let jobs = loop {
        let jobs: Page = asked(&daemon, "/v1/jobs?state=complete&limit=100");
        if jobs.jobs.len() == files {
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
    let imports = starts.iter().copied().zip(ends.iter().copied());
    let bound = two_slots(imports).as_secs_f64();
    let recorded = |id: u64| -> Option<Timestamp> {
        let mut batches = jobs.iter().flat_map(|job| &job.batches);
        batches.find(|batch| batch.marketo_batch_id == Some(id.to_string()))?.polled_at
    };
    let news = ledger.imports.iter().map(|import| {
        let recorded = recorded(import.id).expect("its end was recorded").duration_since(daemon.simulated_since);
        recorded.as_secs_f64() - import.ended.expect("it ended").as_secs_f64()
    });
    let news = news.collect();
    let remote = ends.into_iter().max().expect("imports") - starts.into_iter().min().expect("imports");
    Round {
        measured: ended.duration_since(began).as_secs_f64(),
        remote: remote.as_secs_f64(),
        ideal: all.as_secs_f64() / 2.0,
        bound,
        calls: ledger.calls.values().sum::<u64>() as f64 / files as f64,
        extra_calls: ledger.calls_of(Call::Status) as f64 / files as f64 - 1.0,
        news,
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
    if by_rows { file_of(number, ms, "Ann") } else { file_of(number, 10, &format!("!lasts:{ms}ms")) }
}

fn file_of(number: u64, rows: u64, first: &str) -> String {
    let mut file = String::from("email,firstName\n");
    for row in 0..rows {
        let name = if row == 0 { first } else { "Ann" };
        writeln!(file, "{number}.{row}@example.com,{name}").expect("writing to text");
    }
    file
}

/// The time that two slots take for imports in the order in which they began.
pub fn two_slots(imports: impl Iterator<Item = (Duration, Duration)>) -> Duration {
    let mut imports: Vec<_> = imports.collect();
    imports.sort();
    let mut slots = [Duration::ZERO; 2];
    for (started, ended) in imports {
        slots.sort();
        slots[0] += ended - started;
    }
    slots[0].max(slots[1])
}
