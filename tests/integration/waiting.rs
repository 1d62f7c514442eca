//! What jobs wait for, and when they will probably start and end: in the API, in the list, and while one waits for
//! them.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use marqueue::domain::{BatchState, JobId};
use marqueue::simulator::{Call, Fault, FaultEffect};
use serde_json::{Value, json};

use crate::cli_env::{CliEnv, until_printed};
use crate::support::{TestEnv, quick};

const FILE: &str = "email,firstName\nann@example.com,Ann\n";
const STUCK: &str = "email,firstName\nann@example.com,!stuck\n";
const LEADS: &str = "target=leads&format=csv";

impl TestEnv {
    /// The job in the list, once it waits for `what`.
    async fn listed_waiting(&mut self, id: JobId, what: &str) -> Value {
        self.until(&format!("job {id} waits for {what}"), async |env| {
            let page = env.json("GET", "/v1/jobs").await.1;
            let jobs = page["jobs"].as_array().expect("jobs").clone();
            let job = jobs.into_iter().find(|job| job["id"] == json!(id)).expect("the job");
            // The job alone has the same, but for its times.
            let alone = env.json("GET", &format!("/v1/jobs/{id}")).await.1;
            let is_same = alone["waiting"]["text"] == job["waiting"]["text"];
            (job["waiting"]["waits_for"] == what && is_same).then_some(job)
        })
        .await
    }
}

fn time(value: &Value) -> Timestamp {
    value.as_str().expect("a time").parse().expect("RFC 3339")
}

#[tokio::test]
async fn jobs_in_lists_have_a_short_reason() {
    let mut env = TestEnv::with_daemon(quick()).await;
    assert_eq!(env.json("POST", "/v1/instances/default/pause").await.0, 200);
    let added = env.add(LEADS, FILE).await;
    let id = added.id;
    assert_eq!(added.waiting, None, "an answer to a new file is not delayed by reading the queue");
    let job = env.listed_waiting(id, "operator").await;
    assert_eq!(job["waiting"], json!({"waits_for": "operator", "text": "paused by an operator", "until": null}));
    assert_eq!((&job["estimated_start"], &job["estimated_end"]), (&Value::Null, &Value::Null));
    assert_eq!(env.json("POST", "/v1/instances/default/resume").await.0, 200);
    env.ended(id).await;
    assert_eq!(env.json("GET", "/v1/jobs").await.1["jobs"][0]["waiting"], Value::Null);

    // Two jobs of one group: the second waits for the first, which Marketo does not end.
    let first = env.add(&format!("{LEADS}&group=nightly"), STUCK).await.id;
    env.in_state(first, BatchState::Importing).await;
    let second = env.add(&format!("{LEADS}&group=nightly"), FILE).await.id;
    let job = env.listed_waiting(second, "group").await;
    assert_eq!(job["waiting"]["text"], format!("waits for job {first} (group nightly)"));
    assert_eq!(env.listed_waiting(first, "import").await["waiting"]["text"], "Marketo is importing it");
    env.simulator.end_stuck_imports();
    env.ended(second).await;
}

#[tokio::test]
async fn full_queue_of_marketo_has_the_time_of_the_next_try() {
    let mut env = TestEnv::with_daemon(quick()).await;
    env.simulator.set_other_imports(10);
    let id = env.add(LEADS, FILE).await.id;
    let job = env.listed_waiting(id, "slot").await;
    assert_eq!(job["waiting"]["text"], "Marketo's queue is full");
    assert!(job["waiting"]["until"].is_string(), "{job}");
    env.simulator.set_other_imports(0);
    env.ended(id).await;
}

#[tokio::test]
async fn used_up_quota_has_the_time_of_its_end() {
    let mut env = TestEnv::with_daemon(quick()).await;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(607, "Daily API Request Quota reached")));
    let id = env.add(LEADS, FILE).await.id;
    let job = env.listed_waiting(id, "quota").await;
    assert_eq!(job["waiting"]["text"], "the day's quota of calls is used up");
    let until = time(&job["waiting"]["until"]);
    let status = env.json("GET", "/v1/status").await.1["instances"]["default"].take();
    assert_eq!(time(&status["pause"]["until"]), until);
    assert_eq!(status["queue"]["waiting"], job["waiting"]);
    assert_eq!(env.json("POST", "/v1/instances/default/resume").await.0, 200);
    assert_eq!(env.ended(id).await.waiting, None);
}

#[tokio::test]
async fn status_gives_the_reason_for_a_waiting_group() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let first = env.add(&format!("{LEADS}&group=nightly"), STUCK).await.id;
    env.in_state(first, BatchState::Importing).await;
    let second = env.add(&format!("{LEADS}&group=nightly"), FILE).await;
    let text = format!("waits for job {first} (group nightly)");
    assert_eq!(env.job(second.id).await.waiting.expect("a reason").text, text);
    let status = env.json("GET", "/v1/status").await.1["instances"]["default"].take();
    assert_eq!(status["queue"]["waiting"]["text"], text);
    let cancelled = env.json("POST", &format!("/v1/jobs/{}/cancel", second.id)).await.1;
    assert_eq!((&cancelled["state"], &cancelled["waiting"]), (&json!("cancelled"), &Value::Null));
    env.simulator.end_stuck_imports();
    env.ended(first).await;
}

#[tokio::test]
async fn recent_imports_give_estimates() {
    let mut env = TestEnv::new(quick()).await;
    env.config = "limits = { calls = 5000, window = \"1s\", importing = 1, queued = 1 }".into();
    env.start().await;
    let first = env.add(LEADS, FILE).await.id;
    env.ended(first).await;
    let stuck = env.add(LEADS, STUCK).await.id;
    env.in_state(stuck, BatchState::Importing).await;
    let next = env.add(LEADS, FILE).await.id;
    let job = env.listed_waiting(next, "slot").await;
    assert_eq!(job["waiting"]["text"], "waits for a free slot");
    assert!(time(&job["estimated_start"]) < time(&job["estimated_end"]), "{job}");
    let explained = env.json("GET", &format!("/v1/jobs/{next}/explain")).await.1;
    assert!(time(&explained["estimated_start"]) < time(&explained["estimated_end"]), "{explained}");
    let running = env.listed_waiting(stuck, "import").await;
    assert_eq!(running["estimated_start"], Value::Null, "it has started");
    assert!(running["estimated_end"].is_string());
    env.simulator.end_stuck_imports();
    env.ended(next).await;
}

#[test]
fn wait_in_a_pipe_says_once_why_a_job_waits() {
    let cli = CliEnv::new();
    cli.run("pause").expect(0);
    cli.file("people.csv", FILE);
    let mut waiting = cli.spawn("add leads people.csv --wait");
    let mut lines = until_printed(&mut waiting, "job 1: people.csv: pending: paused by an operator");
    let listed = cli.run("list").expect(0).out;
    assert!(listed.contains("pending: paused by an operator"), "{listed}");
    cli.run("resume").expect(0);
    let rest: Vec<String> = lines.by_ref().collect();
    assert!(!rest.iter().any(|line| line.contains("paused")), "{rest:?}");
    assert!(waiting.wait().expect("it ends").success());
    cli.env.simulator.set_other_imports(10);
    cli.run("add leads people.csv").expect(0);
    let is_full = |words: &str| {
        let shown = cli.run(words).expect(0).out;
        shown.contains("Marketo's queue is full, next try at 20").then_some(()).ok_or(shown)
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(shown) = is_full("list").and_then(|()| is_full("status")).and_then(|()| is_full("show 2")) {
        assert!(Instant::now() < deadline, "{shown}");
    }
    cli.env.simulator.set_other_imports(0);
    cli.run("wait 2").expect(0);
}
