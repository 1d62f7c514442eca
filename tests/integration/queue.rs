//! The queue from the socket to the simulator and back. With the real binary and real files.

use std::time::Duration;

use crate::support::{TestEnv, leads, quick};
use marqueue::domain::{BatchState, JobState};
use marqueue::simulator::{Settings, call_log};
use serde_json::Value;

#[tokio::test]
async fn forty_concurrent_files_keep_marketos_limits() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let mut ids = Vec::new();
    for n in 0..40 {
        let file = leads(&[&format!("{n}@example.com"), "b@example.com"]);
        ids.push(env.add("target=leads&filename=leads.csv", file).await.id);
    }
    for id in ids {
        let job = env.ended(id).await;
        assert_eq!((job.state, job.rows.processed, job.rows.failed), (JobState::Complete, Some(2), Some(0)));
    }
    let ledger = env.simulator.call_log();
    assert_eq!(ledger.imports.len(), 40, "each file was imported, and none twice");
    assert!(ledger.max_queued <= 10 && ledger.max_importing <= 2);
    assert_eq!(ledger.errors_of("1016"), 0, "alone in the queue, we never meet its end");
    assert!(ledger.max_concurrent_calls <= 5, "{}", ledger.max_concurrent_calls);
    assert_eq!(ledger.calls_of(call_log::Call::Token), 1, "one token, however many calls wait for it");
}

#[tokio::test]
async fn no_window_has_too_many_calls_over_restarts() {
    let settings = Settings { window: Duration::from_secs(2), ..quick() };
    let mut env = TestEnv::new(settings).await;
    // Calls that a kill cut off hold their places until their timeout, which is two minutes unless configured.
    env.config = "request_timeout = \"5s\"\nlimits = { calls = 12, window = \"2s\", concurrent_calls = 3 }\n".into();
    env.start().await;
    let mut ids = Vec::new();
    for n in 0..8 {
        ids.push(env.add("target=leads&format=csv", leads(&[&format!("{n}@example.com")])).await.id);
    }
    // Three kills while the call window is nearly full.
    for calls in [5, 9, 13] {
        env.until("some calls were made", async |env| {
            let ledger = env.simulator.call_log();
            let made: u64 =
                ledger.calls.iter().filter(|(call, _)| **call != call_log::Call::Token).map(|(_, n)| n).sum();
            (made >= calls).then_some(())
        })
        .await;
        env.kill();
        env.start().await;
    }
    for id in ids {
        assert_eq!(env.ended(id).await.state, JobState::Complete);
    }
    let ledger = env.simulator.call_log();
    assert!(ledger.max_calls_in_window <= 12, "{} calls in one window", ledger.max_calls_in_window);
    assert!(ledger.max_concurrent_calls <= 3);
}

#[tokio::test]
async fn an_importing_limit_of_one_has_one_import_in_flight() {
    let mut env = TestEnv::new(quick()).await;
    env.config = "limits = { importing = 1, calls = 5000, window = \"1s\" }\n".into();
    env.start().await;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(env.add("target=leads&format=csv", leads(&[&format!("{n}@example.com")])).await.id);
    }
    for id in ids {
        env.ended(id).await;
    }
    assert_eq!(env.simulator.call_log().max_queued, 1);
}

#[tokio::test]
async fn instances_have_slots_of_their_own() {
    let mut env = TestEnv::new(quick()).await;
    let other = TestEnv::new(quick()).await;
    env.config = format!(
        "limits = {{ calls = 5000, window = \"1s\" }}\n[instances.eu]\nbase_url = {:?}\nclient_id = \"simulator\"\n\
         client_secret = \"secret\"\npolling = {{ min = \"10ms\", max = \"200ms\" }}\n",
        other.simulator.base_url()
    );
    env.start().await;
    let here = env.add("target=leads&format=csv", leads(&["a@example.com"])).await;
    let there = env.add("target=leads&format=csv&instance=eu", leads(&["b@example.com"])).await;
    assert_eq!(env.ended(here.id).await.state, JobState::Complete);
    assert_eq!(env.ended(there.id).await.state, JobState::Complete);
    assert_eq!(env.simulator.call_log().imports.len(), 1);
    assert_eq!(other.simulator.call_log().imports.len(), 1);
}

/// How long an answer is held back so that the daemon is killed meanwhile.
const HELD_BACK: Duration = Duration::from_secs(100);

/// Kills the daemon when the batch is in `state`, starts it again, and gives the job at its end.
async fn killed_in(state: BatchState, policy: &str) -> (TestEnv, marqueue::api::dto::JobDto) {
    use marqueue::simulator::call_log::Call;
    use marqueue::simulator::{Fault, FaultEffect};
    let mut env = TestEnv::new(quick()).await;
    env.config = format!("unknown_outcome = \"{policy}\"\nlimits = {{ calls = 5000, window = \"1s\" }}\n");
    env.start().await;
    let cell = if state == BatchState::Importing { "!stuck" } else { "Ann" };
    let file = format!("email,firstName\na@example.com,{cell}\nb@example.com,!fail:No such person\n");
    match state {
        BatchState::Pending => assert_eq!(env.json("POST", "/v1/instances/default/pause").await.0, 200),
        BatchState::Uploading => {
            env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::delay(HELD_BACK)));
        }
        BatchState::Queued => {
            // Two before it keep both of Marketo's places.
            for _ in 0..2 {
                let stuck = "email,firstName\nlong@example.com,!stuck\n";
                let id = env.add("target=leads&format=csv", stuck).await.id;
                env.in_state(id, BatchState::Importing).await;
            }
        }
        BatchState::Collecting => {
            env.simulator.push_fault(Fault::on(Call::Failures, FaultEffect::delay(HELD_BACK)));
        }
        _ => {}
    }
    let id = env.add("target=leads&format=csv", file).await.id;
    env.in_state(id, state).await;
    env.kill();
    env.simulator.end_stuck_imports();
    env.start().await;
    if state == BatchState::Pending {
        assert_eq!(env.job(id).await.state, JobState::Pending, "a pause outlives the daemon");
        assert_eq!(env.json("POST", "/v1/instances/default/resume").await.0, 200);
    }
    if policy == "hold" && state == BatchState::Uploading {
        let job = env.in_state(id, BatchState::Held).await;
        return (env, job);
    }
    let job = env.ended(id).await;
    (env, job)
}

#[tokio::test]
async fn kill_in_any_state_loses_and_resends_nothing_answered() {
    for state in
        [BatchState::Pending, BatchState::Uploading, BatchState::Queued, BatchState::Importing, BatchState::Collecting]
    {
        let (env, job) = killed_in(state, "resubmit").await;
        assert_eq!((job.state, job.rows.processed, job.rows.failed), (JobState::Complete, Some(1), Some(1)), "{state}");
        let failures = env.get(&format!("/v1/jobs/{}/failures", job.id)).await;
        assert_eq!(
            failures,
            "email,firstName,Import Failure Reason\nb@example.com,!fail:No such person,No such person\n"
        );
        let sent = env.simulator.call_log().creates.iter().filter(|create| create.body_bytes > 0).count();
        let expected = match state {
            BatchState::Queued => 3,
            // The first never got an answer, and may not even have been looked at.
            BatchState::Uploading => sent.clamp(1, 2),
            _ => 1,
        };
        assert_eq!(sent, expected, "{state}");
    }
}

#[tokio::test]
async fn upload_cut_off_by_a_kill_is_held_for_the_operator() {
    let (mut env, job) = killed_in(BatchState::Uploading, "hold").await;
    let status: Value = serde_json::from_str(&env.get("/v1/status").await).expect("JSON");
    assert_eq!(status["instances"]["default"]["queue"]["held"], serde_json::json!([job.id.0]));
    let explained = env.get(&format!("/v1/jobs/{}/explain", job.id)).await;
    assert!(explained.contains("the daemon ended while the upload was under way"), "{explained}");
    let (status, _) = env.json("POST", &format!("/v1/jobs/{}/retry", job.id)).await;
    assert_eq!(status, 200);
    assert_eq!(env.ended(job.id).await.state, JobState::Complete);
}

#[tokio::test]
async fn sigterm_ends_uploads_and_the_next_start_continues() {
    let mut env = TestEnv::with_daemon(Settings { import_base: Duration::from_millis(300), ..quick() }).await;
    let mut ids = Vec::new();
    for n in 0..15 {
        ids.push(env.add("target=leads&format=csv", leads(&[&format!("{n}@example.com")])).await.id);
    }
    env.until("some are with Marketo", async |env| (env.simulator.call_log().imports.len() >= 3).then_some(())).await;
    let status = env.terminate().await;
    assert!(status.success(), "{status}");
    assert!(!env.socket().exists());
    env.start().await;
    for id in ids {
        assert_eq!(env.ended(id).await.state, JobState::Complete);
    }
    assert_eq!(env.simulator.call_log().imports.len(), 15, "nothing was sent twice");
}

#[tokio::test]
async fn newer_database_version_stops_the_start_and_is_unchanged() {
    use sqlx::{ConnectOptions, Connection};
    let mut env = TestEnv::with_daemon(quick()).await;
    assert!(env.terminate().await.success());
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(env.database());
    let mut connection = options.connect().await.expect("the database opens");
    sqlx::query("INSERT INTO _sqlx_migrations VALUES (9999, 'later', 0, 1, x'00', 0)")
        .execute(&mut connection)
        .await
        .expect("a row of a later version");
    connection.close().await.expect("it closes");
    let before = std::fs::read(env.database()).expect("the file");
    let output = std::process::Command::new(crate::support::binary())
        .args(["serve", "--config"])
        .arg(env.config_file())
        .env("MARQUEUE_LOG__FORMAT", "text")
        .output()
        .expect("it runs");
    let printed = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(printed.contains("was made by a newer marqueue (its schema is 9999"), "{printed}");
    assert_eq!(printed.lines().filter(|line| line.contains("ERROR")).count(), 1, "{printed}");
    assert!(std::fs::read(env.database()).expect("the file") == before, "the file was changed");
}

#[tokio::test]
async fn list_is_filtered_by_each_condition() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let file = "email,note\na@example.com,\nb@example.com,!fail:bad\n";
    let first = env.add("target=leads&filename=People-May.csv&group=nightly", file).await.id;
    let second = env.add("target=custom-object&name=car_c&filename=cars.csv", "vin\n1\n").await.id;
    env.ended(first).await;
    env.ended(second).await;
    let (status, _) = env.json("POST", "/v1/instances/default/pause").await;
    assert_eq!(status, 200);
    let third = env.add("target=leads&filename=people-june.csv", leads(&["c@example.com"])).await.id;
    let created =
        env.json("GET", &format!("/v1/jobs/{third}")).await.1["created_at"].as_str().expect("a time").to_owned();
    for (query, expected) in [
        ("", vec![third, second, first]),
        ("state=pending", vec![third]),
        ("target=leads", vec![third, first]),
        ("target=custom-object", vec![second]),
        ("group=nightly", vec![first]),
        ("failures=true", vec![first]),
        ("failures=false", vec![third, second, first]),
        ("q=PEOPLE", vec![third, first]),
        ("q=people&limit=1", vec![third]),
        ("instance=default&source=socket&q=cars", vec![second]),
        ("instance=eu", vec![]),
        ("source=drop", vec![]),
        ("since=1h", vec![third, second, first]),
        ("since=0s", vec![]),
        ("since=2020-01-01T00:00:00Z&state=complete", vec![second, first]),
        (&format!("since={created}"), vec![third]),
    ] {
        let (status, page) = env.json("GET", &format!("/v1/jobs?{query}")).await;
        assert_eq!(status, 200, "{query}: {page}");
        let ids = page["jobs"].as_array().expect("jobs").iter().map(|job| job["id"].as_i64().expect("an id"));
        assert_eq!(ids.collect::<Vec<_>>(), expected.iter().map(|id| id.0).collect::<Vec<_>>(), "{query}");
    }
    for (query, detail) in [
        ("target=lead", "target must be one of leads, custom-object, program-members"),
        ("source=tcp", "source must be one of socket, client, drop"),
        ("since=yesterday", "since must be a time such as"),
        ("since=-1h", "since must be a time such as"),
        ("failures=yes", "failures must be one of true, false"),
    ] {
        let (status, problem) = env.json("GET", &format!("/v1/jobs?{query}")).await;
        assert_eq!(status, 400, "{query}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|text| text.starts_with(detail)), "{query}: {problem}");
    }
    env.terminate().await;
}
