//! Imports that Marketo does not end, undocumented status words, equal poll failures, and one id given twice.

use std::time::Duration;

use marqueue::domain::{BatchState, JobId, JobState};
use marqueue::simulator::{Call, Fault, FaultEffect};
use serde_json::{Value, json};

use super::{FILE, LEADS, STUCK};
use crate::support::{TestEnv, quick};

impl TestEnv {
    async fn with_max_import_time(max: &str) -> TestEnv {
        let mut env = TestEnv::new(quick()).await;
        env.config = format!("max_import_time = \"{max}\"\n");
        env.start().await;
        env
    }

    async fn lines(&self, id: JobId, event: &str) -> Vec<Value> {
        let (_, history) = self.json("GET", &format!("/v1/jobs/{id}/history")).await;
        let lines = history["history"].as_array().expect("lines").iter();
        lines.filter(|line| line["event"] == event).cloned().collect()
    }

    /// So many more polls have come.
    async fn polled(&mut self, more: u64) {
        let enough = self.simulator.call_log().calls_of(Call::Status) + more;
        self.until("it is polled", async |env| {
            (env.simulator.call_log().calls_of(Call::Status) >= enough).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_operator_abandons_an_endless_import() {
    let mut env = TestEnv::with_max_import_time("300ms").await;
    let id = env.add(LEADS, STUCK).await.id;
    let job = env.in_state(id, BatchState::Held).await;
    assert_eq!((job.state, job.rows.processed), (JobState::Running, Some(0)));
    assert!(job.batches[0].marketo_batch_id.is_some() && job.batches[0].overdue_at.is_some());
    let lines = env.lines(id, "overdue").await;
    assert_eq!((lines.len(), &lines[0]["state"]), (1, &json!("held")));
    let text = env.explained(id, "operator", true).await;
    for words in ["the import is still \"Importing\"", "max_import_time", &format!("cancel {id} --abandon")] {
        assert!(text.contains(words), "{text}");
    }
    let instance = env.instance().await;
    assert_eq!((&instance["queue"]["held"], &instance["slots"]["importing"]), (&json!([id]), &json!(1)));
    let (_, compat) = env.json("GET", &format!("/bulk/v1/leads/batch/{id}.json")).await;
    assert_eq!(compat["result"][0]["status"], "Importing");
    // It is polled on, and nothing else is done about it.
    env.polled(3).await;
    for order in ["retry", "cancel", "cancel?abandon=false"] {
        let (status, problem) = env.json("POST", &format!("/v1/jobs/{id}/{order}")).await;
        assert_eq!(status, 409, "{order}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("--abandon")), "{problem}");
    }
    assert_eq!(env.json("POST", &format!("/v1/jobs/{id}/cancel?abandon=yes")).await.0, 400);
    let (status, job) = env.json("POST", &format!("/v1/jobs/{id}/cancel?abandon=true")).await;
    assert_eq!((status, &job["state"], &job["rows"]["processed"]), (200, &json!("cancelled"), &json!(0)));
    assert_eq!(env.lines(id, "abandoned").await.len(), 1);
    // It may be there for days still.
    let slots = env.instance().await["slots"].take();
    assert_eq!((&slots["importing"], &slots["unknown"]), (&json!(0), &json!(1)));
    assert_eq!(env.lines(id, "overdue").await.len(), 1);
    env.simulator.end_stuck_imports();
    assert_eq!(env.json("POST", &format!("/v1/jobs/{id}/retry")).await.0, 200);
    env.until("it is sent again", async |env| (env.simulator.call_log().imports.len() == 2).then_some(())).await;
}

#[tokio::test]
async fn a_held_import_that_marketo_ends_is_complete_as_usual() {
    let mut env = TestEnv::with_max_import_time("200ms").await;
    let ids = [env.add(LEADS, STUCK).await.id, env.add(LEADS, STUCK).await.id];
    env.until("both are on Marketo", async |env| (env.simulator.call_log().imports.len() == 2).then_some(())).await;
    // Behind two that never end it is queued for ever, and treated alike.
    let queued = env.add(LEADS, FILE).await.id;
    for id in [ids[0], ids[1], queued] {
        env.in_state(id, BatchState::Held).await;
    }
    let lines = env.lines(queued, "overdue").await;
    assert!(lines[0]["message"].as_str().is_some_and(|text| text.contains("the import is still \"Queued\"")));
    env.simulator.end_stuck_imports();
    for id in [ids[0], ids[1], queued] {
        let job = env.complete(id, 1).await;
        assert_eq!((job.batches[0].overdue_at, job.rows.unaccounted), (None, Some(0)));
        assert_eq!(env.lines(id, "overdue").await.len(), 1);
    }
    assert_eq!(env.simulator.call_log().creates.len(), 3);
}

#[tokio::test]
async fn a_held_import_stays_held_over_a_restart() {
    let mut env = TestEnv::with_max_import_time("200ms").await;
    let id = env.add(LEADS, STUCK).await.id;
    env.in_state(id, BatchState::Held).await;
    env.kill();
    env.start().await;
    assert_eq!(env.job(id).await.batches[0].state, BatchState::Held);
    env.polled(2).await;
    assert_eq!(env.lines(id, "overdue").await.len(), 1);
    env.simulator.end_stuck_imports();
    env.complete(id, 1).await;
}

#[tokio::test]
async fn an_unknown_status_is_explained_in_one_line() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let edit = |word| Fault::on(Call::Status, FaultEffect::edit(json!({"status": word}))).times(u32::MAX);
    env.simulator.push_fault(edit("Paused"));
    let id = env.add(LEADS, FILE).await.id;
    let paused = "Marketo returned the import status \"Paused\"";
    env.polled(8).await;
    let text = env.explained(id, "import", true).await;
    assert!(text.contains(paused), "{text}");
    assert_eq!(env.job(id).await.batches[0].message.as_deref().map(|output| output.starts_with(paused)), Some(true));
    let lines = env.lines(id, "unknown-status").await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    let lines = env.log().matches("Marketo returned an unknown import status").count();
    assert_eq!(lines, 1, "a line for each word and not for each poll");
}

#[tokio::test]
async fn an_unknown_status_that_never_ends_is_held_too() {
    let mut env = TestEnv::with_max_import_time("300ms").await;
    env.simulator
        .push_fault(Fault::on(Call::Status, FaultEffect::edit(json!({"status": "Cancelled"}))).times(u32::MAX));
    let id = env.add(LEADS, FILE).await.id;
    env.in_state(id, BatchState::Held).await;
    let text = env.explained(id, "operator", true).await;
    assert!(text.contains("\"Cancelled\""), "{text}");
    assert_eq!(env.json("POST", &format!("/v1/jobs/{id}/cancel?abandon=true")).await.0, 200);
}

#[tokio::test]
async fn equal_poll_failures_are_one_history_line() {
    let mut env = TestEnv::with_daemon(quick()).await;
    for effect in [FaultEffect::http(502), FaultEffect::error(611, "System error"), FaultEffect::http(502)] {
        env.simulator.push_fault(Fault::on(Call::Status, effect).times(5));
    }
    let id = env.add(LEADS, FILE).await.id;
    env.complete(id, 1).await;
    let output: Vec<_> =
        env.lines(id, "query-failed").await.into_iter().map(|line| line["message"].to_string()).collect();
    assert_eq!(output.len(), 3, "{output:?}");
    assert!(output[1].contains("611") && output[0] == output[2], "{output:?}");
}

#[tokio::test]
async fn a_repeated_batch_id_is_shown_on_both_jobs() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let one = env.add(LEADS, FILE).await.id;
    let job = env.complete(one, 1).await;
    let given = job.batches[0].marketo_batch_id.clone().expect("an id");
    assert_eq!(job.rows.unaccounted, Some(0));
    let again = json!({"batchId": given.parse::<u64>().expect("a number"), "importId": given});
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::edit(again)));
    let two = env.add(LEADS, FILE).await.id;
    env.complete(two, 1).await;
    let three = env.add(LEADS, FILE).await.id;
    env.complete(three, 1).await;
    for (id, other) in [(one, two), (two, one)] {
        let job = env.job(id).await;
        assert_eq!((job.rows.processed, job.rows.failed, job.rows.unaccounted), (None, None, None), "job {id}");
        assert!(job.batches[0].id_given_twice);
        let lines = env.lines(id, "id-given-twice").await;
        assert_eq!(lines.len(), 1);
        let output = lines[0]["message"].as_str().expect("words");
        assert!(output.contains(&format!("batchId {given} for part 1 of job {other} too")), "{output}");
        let (exit, output) = env.command(&["wait", &id.to_string()]);
        assert!(exit == 4 && output.contains("returned the same batchId for it"), "{exit} {output}");
        let (status, _) = env.json("POST", &format!("/v1/jobs/{id}/retry?rows=failed")).await;
        assert_eq!(status, 409, "the rows may belong to either upload");
    }
    assert_eq!(env.command(&["wait", &three.to_string()]).0, 0);
}

#[tokio::test]
async fn cancel_abandon_ends_the_job_of_an_endless_import() {
    let mut env = TestEnv::with_max_import_time("200ms").await;
    let id = env.add(LEADS, STUCK).await.id;
    env.in_state(id, BatchState::Held).await;
    let id = &id.to_string();
    let (exit, output) = env.command(&["cancel", id]);
    assert!(exit == 1 && output.contains("--abandon"), "{exit} {output}");
    let (exit, output) = env.command(&["cancel", id, "--abandon"]);
    assert!(exit == 0 && output.contains("is cancelled"), "{exit} {output}");
    tokio::time::timeout(Duration::from_secs(60), async { env.command(&["wait", id]) }).await.expect("it has ended");
}
