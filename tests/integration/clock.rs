//! Clock changes: a daemon in this process, whose clock the tests set, keeps its imports and limits.

use std::path::Path;
use std::time::Duration;

use jiff::tz::Offset;
use marqueue::clock::{Clock, after};
use marqueue::config::Config;
use marqueue::daemon::{Daemon, StartMode};
use marqueue::domain::{BatchState, JobState};
use marqueue::simulator::{Call, Fault, FaultEffect, Settings};
use serde_json::Value;

use crate::support::{TestEnv, quick};

const DAY_MS: i64 = 24 * 3_600_000;
const LEAP_MS: i64 = 8 * DAY_MS;
const FILE: &[u8] = b"email\na@example.com\n";
const LEADS: &str = "target=leads&filename=a.csv";

/// Starts a daemon on the configuration of the environment, whose requests reach it.
async fn start(env: &TestEnv, clock: &Clock) -> Daemon {
    env.write_config();
    let file = env.config_file();
    let text = std::fs::read_to_string(&file).expect("the configuration is there");
    let config = Config::read(Some((Path::new(&file), &text)), []).expect("the configuration is right");
    let patience = tokio::time::Instant::now() + Duration::from_secs(120);
    loop {
        match Daemon::start(&config, clock.clone(), StartMode::Normal).await {
            // A process that another test starts right now has the lock's file open until it executes its program.
            Err(error) if error.to_string().contains("is at work on the database") => {
                assert!(tokio::time::Instant::now() < patience, "in vain: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            started => return started.expect("the daemon starts"),
        }
    }
}

/// Imports that do not end by themselves while the test runs.
fn endless() -> Settings {
    Settings { import_base: Duration::from_secs(3600), ..quick() }
}

async fn state(env: &TestEnv, id: marqueue::domain::JobId) -> (BatchState, JobState) {
    let job = env.job(id).await;
    (job.batches[0].state, job.state)
}

/// How the instance stands, as `status` shows it.
async fn instance(env: &TestEnv) -> Value {
    env.json("GET", "/v1/status").await.1["instances"]["default"].take()
}

/// Waits until the daemon has asked after an import so many times more.
async fn polled(env: &mut TestEnv, more: u64) {
    let before = env.simulator.call_log().calls_of(Call::Status);
    env.until("it is asked after", async |env| {
        (env.simulator.call_log().calls_of(Call::Status) >= before + more).then_some(())
    })
    .await;
}

#[tokio::test]
async fn clock_jump_of_eight_days_ends_no_import_and_no_day() {
    for by_ms in [LEAP_MS, -LEAP_MS] {
        let clock = Clock::adjustable();
        let mut env = TestEnv::new(endless()).await;
        // No day of the quota ends while the test runs.
        let reset = Offset::UTC.to_datetime(after(clock.now(), Duration::from_secs(12 * 3600))).time();
        env.config = format!(
            "max_attempts = 2\nlimits = {{ calls = 5000, window = \"1s\", daily_calls = 100000, daily_reset = \"{}\" }}\n",
            reset.strftime("%H:%M:%S")
        );
        let daemon = start(&env, &clock).await;
        let id = env.add(LEADS, FILE.to_vec()).await.id;
        polled(&mut env, 3).await;
        clock.leap(by_ms);
        // An import of eight days that Marketo does not know any more would count as deleted by Marketo.
        env.simulator.push_fault(Fault::on(Call::Status, FaultEffect::error(1003, "no such batch")));
        polled(&mut env, 3).await;
        assert_eq!(state(&env, id).await.1, JobState::Running, "{by_ms}");
        let calls = async |env: &TestEnv| {
            let (at_marketo, today) = (env.simulator.call_log(), instance(env).await["limits"]["calls_today"].clone());
            (at_marketo.calls_of(Call::Status), today.as_u64().unwrap_or_default())
        };
        let (asked, today) = calls(&env).await;
        assert!(today >= asked, "{by_ms}: {today} calls of the day are counted, and {asked} polls were made");

        // Over a restart too.
        daemon.stop().await;
        clock.leap(by_ms);
        env.simulator.push_fault(Fault::on(Call::Status, FaultEffect::error(1003, "no such batch")));
        let daemon = start(&env, &clock).await;
        polled(&mut env, 3).await;
        assert_eq!(state(&env, id).await.1, JobState::Running, "{by_ms}");
        let (asked, today) = calls(&env).await;
        assert!(today >= asked, "{by_ms}: {today} calls of the day are counted, and {asked} polls were made");
        daemon.stop().await;
    }
}

#[tokio::test]
async fn unconfirmed_import_keeps_its_slot_over_a_clock_jump() {
    for by_ms in [LEAP_MS, -LEAP_MS] {
        let clock = Clock::adjustable();
        let mut env = TestEnv::new(endless()).await;
        // It counts for ten of the longest pauses between polls: far longer than the test runs.
        env.config = "unknown_outcome = \"hold\"\npolling = { min = \"10ms\", max = \"1h\" }\n\
                       limits = { queued = 2, importing = 2, calls = 5000, window = \"1s\" }\n"
            .into();
        let daemon = start(&env, &clock).await;
        env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::LoseAnswer));
        let lost = env.add(LEADS, FILE.to_vec()).await.id;
        env.until("its answer is lost", async |env| (state(env, lost).await.0 == BatchState::Held).then_some(())).await;
        let taken = env.add(LEADS, FILE.to_vec()).await.id;
        env.until("it is on Marketo", async |env| {
            matches!(state(env, taken).await.0, BatchState::Queued | BatchState::Importing).then_some(())
        })
        .await;
        let waits = env.add(LEADS, FILE.to_vec()).await.id;
        clock.leap(by_ms);
        // Both slots are taken, before and after the daemon looks at its queue again.
        let slots = async |env: &TestEnv| instance(env).await["slots"]["unknown"].clone();
        assert_eq!(slots(&env).await, 1, "{by_ms}");
        daemon.stop().await;
        clock.leap(by_ms);
        let daemon = start(&env, &clock).await;
        assert_eq!(slots(&env).await, 1, "{by_ms}");
        // A file that is added wakes the plan.
        env.add(LEADS, FILE.to_vec()).await;
        env.until("it waits for a slot", async |env| {
            let (_, why) = env.json("GET", &format!("/v1/jobs/{waits}/explain")).await;
            (why["waits_for"] == "slot").then_some(())
        })
        .await;
        assert_eq!(state(&env, waits).await.0, BatchState::Pending, "{by_ms}");
        assert_eq!(env.simulator.call_log().calls_of(Call::Create), 2, "{by_ms}");
        daemon.stop().await;
    }
}
