//! Errors of an instance: too many calls, and a Marketo that cannot be reached.

use std::time::Duration;

use marqueue::domain::{BatchState, JobState};
use marqueue::simulator::{Call, Code, Fault, FaultEffect};

use super::{FILE, LEADS, outcomes};
use crate::closed_port::ClosedPort;
use crate::support::{TestEnv, quick};

#[tokio::test]
async fn too_many_calls_hold_every_call_for_a_window() {
    let mut env = TestEnv::new(quick()).await;
    // Long enough for both jobs to be asked about on a loaded machine.
    env.config = "limits = { calls = 5000, window = \"5s\" }\n".into();
    env.start().await;
    env.simulator
        .push_fault(Fault::on(Call::Create, FaultEffect::error(606, "Max rate limit '100' exceeded within '20' secs")));
    let first = env.add(LEADS, FILE).await.id;
    let text = env.explained(first, "calls", true).await;
    assert!(text.contains("606: Max rate limit"), "{text}");
    let second = env.add(LEADS, FILE).await.id;
    env.explained(second, "calls", true).await;
    for id in [first, second] {
        env.complete(id, 1).await;
    }
    let ledger = env.simulator.call_log();
    assert_eq!(outcomes(&ledger), ["606", "ok", "ok"]);
    let wait = ledger.creates[1].at - ledger.creates[0].at;
    assert!(wait >= Duration::from_millis(4990), "the window is five seconds, and the wait was {wait:?}");
}

#[tokio::test]
async fn a_poll_that_came_too_often_holds_uploads_too() {
    let mut env = TestEnv::with_daemon(quick()).await;
    env.simulator.push_fault(Fault::on(Call::Status, FaultEffect::error(606, "Max rate limit")));
    let first = env.add(LEADS, FILE).await.id;
    env.until("the poll was refused", async |env| (env.simulator.call_log().errors_of("606") == 1).then_some(())).await;
    let second = env.add(LEADS, FILE).await.id;
    for id in [first, second] {
        env.complete(id, 1).await;
    }
    // The poll was refused after the first upload, and the window is one second.
    let creates = env.simulator.call_log().creates;
    let wait = creates[1].at - creates[0].at;
    assert!(creates.len() == 2 && wait >= Duration::from_millis(990), "{wait:?}");
}

#[tokio::test]
async fn too_many_calls_at_once_mean_a_short_wait_and_fewer_at_once() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let busy = Fault::on(Call::Create, FaultEffect::error(615, "Concurrent access limit reached"));
    env.simulator.push_fault(busy.times(u32::MAX));
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(env.add(LEADS, FILE).await.id);
    }
    // Which of them got it is not determined.
    env.until("one of them waits for calls", async |env| {
        for id in &ids {
            let explained = env.json("GET", &format!("/v1/jobs/{id}/explain")).await.1;
            if explained["waits_for"] == "calls" && explained["until"].is_string() {
                return Some(());
            }
        }
        None
    })
    .await;
    env.simulator.clear_faults();
    for id in ids {
        env.complete(id, 1).await;
    }
    let ledger = env.simulator.call_log();
    assert!(ledger.errors_of("615") > 0, "{:?}", ledger.errors);
    assert_eq!(ledger.imports.len(), 6);
}

#[tokio::test]
async fn outage_is_probed_by_one_upload_and_costs_no_attempt() {
    let mut env = TestEnv::new(quick()).await;
    // Long enough to be seen on a loaded machine.
    env.config = "backoff_min = \"1s\"\nbackoff_max = \"1s\"\nmax_attempts = 1\n".into();
    env.start().await;
    for effect in [
        FaultEffect::error(608, "API temporarily unavailable"),
        FaultEffect::Error { code: Some(Code::Number(614)), message: "Invalid subscription".into(), executed: false },
        FaultEffect::http(429),
        FaultEffect::http(503),
        FaultEffect::http(404),
    ] {
        // Once to find out, and once more by the one upload that tries.
        let before = env.simulator.call_log().creates.len();
        env.json("POST", "/v1/instances/default/pause").await;
        let mut ids = Vec::new();
        for _ in 0..8 {
            ids.push(env.add(LEADS, FILE).await.id);
        }
        env.simulator.push_fault(Fault::on(Call::Create, effect.clone()).times(6));
        env.resume().await;
        let text = env.explained(ids[7], "service", true).await;
        assert!(text.contains("unavailable, or no upload succeeds ("), "{text}");
        for id in ids {
            let job = env.ended(id).await;
            assert_eq!((job.state, job.batches[0].attempts), (JobState::Complete, 1), "{effect:?}");
        }
        // At most five at once, and then one a pause.
        let sent = env.simulator.call_log().creates.len() - before;
        assert_eq!(sent, 8 + 6, "{effect:?}");
        let failures = env.instance().await["quiet_until"].take();
        assert!(failures.is_null(), "{failures}");
    }
}

#[tokio::test]
async fn an_upload_that_was_not_sent_is_no_attempt() {
    let mut env = TestEnv::new(quick()).await;
    // The identity endpoint answers, and the instance's address refuses connections.
    let closed = ClosedPort::bind();
    let nowhere = closed.address();
    let base = env.simulator.base_url().to_owned();
    env.config = format!(
        "[instances.gone]\nbase_url = \"http://{nowhere}\"\nidentity_url = \"{base}/identity\"\n\
         client_id = \"simulator\"\nclient_secret = \"secret\"\nbackoff_min = \"20ms\"\nbackoff_max = \"100ms\"\n\
         max_attempts = 2\nunknown_outcome = \"hold\"\n"
    );
    env.start().await;
    let id = env.add(&format!("{LEADS}&instance=gone"), FILE).await.id;
    let text = env.failed_often(id).await;
    assert!(text.contains("\"service\"") && text.to_lowercase().contains("refused"), "{text}");
    let job = env.job(id).await;
    assert!(matches!(job.batches[0].state, BatchState::Pending | BatchState::Uploading), "{job:?}");
    assert!(job.batches[0].attempts <= 1, "{job:?}");
    // The other instance does not notice.
    let other = env.add(LEADS, FILE).await.id;
    env.complete(other, 1).await;
}
