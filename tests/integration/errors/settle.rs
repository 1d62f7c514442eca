//! Settling a held batch: Marketo is asked for the import first.

use jiff::tz::Offset;
use marqueue::clock::Clock;
use marqueue::domain::{BatchState, JobId, JobState};
use marqueue::simulator::{Call, Corruption, Fault, FaultEffect};
use serde_json::json;

use super::unknown::held;
use super::{FILE, LEADS};
use crate::support::{TestEnv, quick};

/// The default of `max_attempts`.
const MAX_ATTEMPTS: u32 = 8;

#[tokio::test]
async fn settled_import_unknown_to_marketo_fails_and_can_be_retried() {
    let (mut env, id, import) = held().await;
    // Marketo knows the import when it is settled, and deletes it afterwards.
    let not_found = FaultEffect::error(1013, "Import not found");
    env.simulator.push_fault(Fault::on(Call::Status, not_found).nth(2).times(MAX_ATTEMPTS));
    assert_eq!(env.json("POST", &settle_path(id, import)).await.0, 200);
    let job = env.ended(id).await;
    assert_eq!(job.state, JobState::Failed);
    assert!(job.error.is_some_and(|error| error.contains("1013: Import not found")));
    assert_eq!(env.json("POST", &format!("/v1/jobs/{id}/retry")).await.0, 200);
    env.complete(id, 1).await;
}

/// The path that settles the first batch of a job.
fn settle_path(id: JobId, import: u64) -> String {
    format!("/v1/jobs/{id}/settle?part=1&marketo_batch_id={import}")
}

#[tokio::test]
async fn import_that_marketo_does_not_have_is_not_settled() {
    let (mut env, id, import) = held().await;
    let car = env.add("target=custom-object&name=car_c&format=csv", "vin\n1\n").await.id;
    env.ended(car).await;
    let cars = env.simulator.call_log().imports[1].id;
    let calls = env.simulator.call_log().calls_of(Call::Status);
    for wrong in [import + 4711, cars] {
        let (status, problem) = env.json("POST", &settle_path(id, wrong)).await;
        assert_eq!(status, 409, "{problem}");
        assert_eq!(env.job(id).await.batches[0].state, BatchState::Held);
    }
    assert_eq!(env.simulator.call_log().calls_of(Call::Status), calls + 1, "whose import `cars` is the daemon knows");
    env.simulator.push_fault(Fault::on(Call::Status, FaultEffect::http(404)));
    let (status, problem) = env.json("POST", &settle_path(id, import)).await;
    assert_eq!((status, problem["type"].as_str()), (409, Some("urn:marqueue:problem:unknown-import")), "{problem}");
    assert_eq!(env.job(id).await.batches[0].state, BatchState::Held);
    let (_, problem) = env.json("POST", &settle_path(id, import + 4711)).await;
    assert_eq!(problem["type"], "urn:marqueue:problem:unknown-import");
    let detail = problem["detail"].as_str().expect("a sentence");
    for part in [format!("no batch {} of leads", import + 4711), "1013: Import".into(), "nothing was changed".into()] {
        assert!(detail.contains(&part), "{detail}");
    }
    assert_eq!(env.json("POST", &settle_path(id, import)).await.0, 200);
    env.complete(id, 1).await;
    assert_eq!(env.simulator.call_log().creates.len(), 2, "no upload was repeated");
}

#[tokio::test]
async fn import_of_another_kind_of_target_is_not_settled() {
    let (mut env, id, import) = held().await;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::LoseAnswer));
    let car = env.add("target=custom-object&name=car_c&format=csv", "vin\n1\n").await.id;
    env.in_state(car, BatchState::Held).await;
    // The daemon knows neither id yet: each import is on Marketo, of the other kind.
    let cars = env.simulator.call_log().imports[1].id;
    for (job, wrong, target) in [(id, cars, "leads"), (car, import, "custom-object car_c")] {
        let (status, problem) = env.json("POST", &settle_path(job, wrong)).await;
        assert_eq!((status, problem["type"].as_str()), (409, Some("urn:marqueue:problem:unknown-import")), "{problem}");
        let text = format!("Marketo has no batch {wrong} of {target}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(&text)), "{problem}");
        assert_eq!(env.job(job).await.batches[0].state, BatchState::Held);
    }
    for (job, right) in [(id, import), (car, cars)] {
        assert_eq!(env.json("POST", &settle_path(job, right)).await.0, 200);
        env.ended(job).await;
    }
    assert_eq!(env.simulator.call_log().creates.len(), 2, "no upload was repeated");
}

#[tokio::test]
async fn settle_is_a_counted_call_and_keeps_the_daily_limit() {
    let mut env = TestEnv::new(quick()).await;
    // Half a day away from the begin of a quota day.
    let hour = Offset::UTC.to_datetime(Clock::System.now()).hour();
    let limits =
        format!("calls = 5000, window = \"1s\", daily_calls = 2, daily_reset = \"{:02}:00\"", (hour + 12) % 24);
    env.config = format!("unknown_outcome = \"hold\"\nlimits = {{ {limits} }}\n");
    env.start().await;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::LoseAnswer));
    let id = env.add(LEADS, FILE).await.id;
    env.in_state(id, BatchState::Held).await;
    let import = env.simulator.call_log().imports[0].id;
    assert_eq!(env.instance().await["limits"]["calls_today"], 1);
    assert_eq!(env.json("POST", &settle_path(id, import + 4711)).await.0, 409);
    assert_eq!(env.instance().await["limits"]["calls_today"], 2);
    let (status, problem) = env.json("POST", &settle_path(id, import)).await;
    assert_eq!((status, problem["type"].as_str()), (503, Some("urn:marqueue:problem:import-not-checked")));
    let detail = problem["detail"].as_str().expect("a sentence");
    assert!(detail.contains("the instance is paused: the 2 calls of the day are used up"), "{detail}");
    assert_eq!(env.job(id).await.batches[0].state, BatchState::Held);
    assert_eq!(env.simulator.call_log().calls_of(Call::Status), 1);
}

#[tokio::test]
async fn settle_fails_while_marketo_is_unreachable() {
    let (mut env, id, import) = held().await;
    for effect in [
        FaultEffect::http(502),
        FaultEffect::LoseRequest,
        FaultEffect::error(611, "System error"),
        FaultEffect::Garble(Corruption::Empty),
        FaultEffect::edit(json!({"batchId": import + 1})),
    ] {
        env.simulator.push_fault(Fault::on(Call::Status, effect.clone()));
        let (status, problem) = env.json("POST", &settle_path(id, import)).await;
        assert_eq!((status, problem["type"].as_str()), (503, Some("urn:marqueue:problem:import-not-checked")));
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains("nothing was changed")), "{effect:?}");
        assert_eq!(env.job(id).await.batches[0].state, BatchState::Held);
    }
    // The call is admitted as any other: an instance whose credentials are refused makes none.
    env.simulator.push_fault(Fault::on(Call::Status, FaultEffect::error(603, "Access denied")));
    assert_eq!(env.json("POST", &settle_path(id, import)).await.0, 503);
    env.paused().await;
    let calls = env.simulator.call_log().calls_of(Call::Status);
    let (status, problem) = env.json("POST", &settle_path(id, import)).await;
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("the instance is paused")), "{problem}");
    assert_eq!((status, env.simulator.call_log().calls_of(Call::Status)), (503, calls));
    env.resume().await;
    // A pause of an operator concerns uploads only.
    assert_eq!(env.json("POST", "/v1/instances/default/pause").await.0, 200);
    assert_eq!(env.json("POST", &settle_path(id, import)).await.0, 200);
    env.complete(id, 1).await;
}
