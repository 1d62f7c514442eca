//! Uploads with an unknown outcome: they are sent again, or held for an operator.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use marqueue::domain::{BatchState, JobId, JobState};
use marqueue::simulator::{Call, Code, Corruption, Fault, FaultEffect};
use serde_json::json;

use super::batch_errors::{long_file, refusing};
use super::raw_server::{Answer, Fake};
use super::{FILE, LEADS};
use crate::support::{TestEnv, quick};

/// Everything that leaves it open whether there is an import. Where there is one, it says so.
fn unknown() -> Vec<(FaultEffect, bool)> {
    let error = |code, executed| FaultEffect::Error { code: Some(Code::Number(code)), message: "Oh".into(), executed };
    vec![
        (FaultEffect::http(500), false),
        (FaultEffect::Http { status: 502, executed: true }, true),
        (FaultEffect::http(504), false),
        (error(502, false), false),
        (error(604, true), true),
        (error(713, true), true),
        (error(719, false), false),
        (FaultEffect::LoseAnswer, true),
        (FaultEffect::Garble(Corruption::Empty), true),
        (FaultEffect::Garble(Corruption::Cut), true),
        (FaultEffect::Garble(Corruption::Torn), true),
    ]
}

#[tokio::test]
async fn policy_resubmit_resends_an_unknown_outcome() {
    let mut env = TestEnv::with_daemon(quick()).await;
    for (effect, executed) in unknown() {
        let before = env.simulator.call_log().imports.len();
        env.simulator.push_fault(Fault::on(Call::Create, effect.clone()));
        let id = env.add(LEADS, FILE).await.id;
        env.complete(id, 1).await;
        let imports = env.simulator.call_log().imports.len() - before;
        assert_eq!(imports, if executed { 2 } else { 1 }, "{effect:?}");
        let history = env.get(&format!("/v1/jobs/{id}/history")).await;
        assert_eq!(history.matches("answer-lost").count(), 1, "{history}");
    }
    let ledger = env.simulator.call_log();
    assert!(ledger.max_queued <= 10 && ledger.max_importing <= 2);
}

/// The connection closes before the request was read. If its last bytes had not been passed to the kernel, there is no
/// import; if they had, that is unknown. Both may happen, and neither may lose the file.
#[tokio::test]
async fn a_lost_request_is_sent_again() {
    let mut env = TestEnv::with_daemon(quick()).await;
    for _ in 0..10 {
        env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::LoseRequest));
        let id = env.add(LEADS, FILE).await.id;
        let job = env.ended(id).await;
        assert_eq!(job.state, JobState::Complete);
        let history = env.get(&format!("/v1/jobs/{id}/history")).await;
        let (lost, broken) = (history.matches("answer-lost").count(), history.matches("refused").count());
        assert_eq!((lost + broken, job.batches[0].attempts), (1, 1), "{history}");
    }
    let ledger = env.simulator.call_log();
    assert_eq!((ledger.lost_requests, ledger.imports.len()), (10, 10));
}

#[tokio::test]
async fn the_delay_before_a_resend_is_shown() {
    let mut env = TestEnv::new(quick()).await;
    // Long enough for two questions on a loaded machine.
    env.config = "backoff_min = \"3s\"\nbackoff_max = \"3s\"\nmax_attempts = 2\n".into();
    env.start().await;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(713, "Transient error")).times(2));
    let id = env.add(LEADS, FILE).await.id;
    let text = env.explained(id, "backoff", true).await;
    assert!(text.contains("713: Transient error (attempts used: 0)"), "{text}");
    assert_eq!(env.instance().await["slots"]["unknown"], 1, "the import that may exist counts");
    env.complete(id, 1).await;
}

#[tokio::test]
async fn lost_answers_of_one_file_end_while_others_succeed() {
    let fake = refusing(r#"{"success":false,"errors":[{"code":"713","message":"Transient error"}]}"#).await;
    let mut env = TestEnv::new(quick()).await;
    env.config = format!("{}max_attempts = 2\n", fake.instance("eu"));
    env.start().await;
    let query = format!("{LEADS}&instance=eu");
    let id = env.add(&query, long_file()).await.id;
    let job = loop {
        let other = env.add(&query, FILE).await.id;
        env.complete(other, 1).await;
        let job = env.job(id).await;
        if job.state.is_terminal() {
            break job;
        }
    };
    assert_eq!(job.state, JobState::Failed);
    let error = job.error.expect("a reason");
    assert!(error.contains("given up after 2 attempts; whether Marketo has the last one is unknown"), "{error}");
}

pub(super) async fn held() -> (TestEnv, JobId, u64) {
    let mut env = TestEnv::new(quick()).await;
    env.config = "unknown_outcome = \"hold\"\n".into();
    env.start().await;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::LoseAnswer));
    let id = env.add(LEADS, "email,firstName\na@example.com,Ann\nb@example.com,!fail:No\n").await.id;
    env.in_state(id, BatchState::Held).await;
    assert_eq!(env.instance().await["queue"]["held"], json!([id]));
    let text = env.explained(id, "operator", false).await;
    let settle = format!("\"marqueue settle {id} --part 1 --marketo-batch-id ID\"");
    for way in ["retry sends it again", "cancel gives it up", &settle] {
        assert!(text.contains(way), "{text}");
    }
    let import = env.simulator.call_log().imports[0].id;
    (env, id, import)
}

#[tokio::test]
async fn policy_hold_holds_every_unknown_outcome() {
    let mut env = TestEnv::new(quick()).await;
    env.config = "unknown_outcome = \"hold\"\n".into();
    env.start().await;
    let mut ids = Vec::new();
    for (effect, _) in unknown() {
        env.simulator.push_fault(Fault::on(Call::Create, effect));
        let id = env.add(LEADS, FILE).await.id;
        // One after the other: the most that may be on Marketo are ten.
        env.in_state(id, BatchState::Held).await;
        let (status, _) = env.json("POST", &format!("/v1/jobs/{id}/cancel")).await;
        assert_eq!((status, env.job(id).await.state), (200, JobState::Cancelled));
        ids.push(id);
    }
    assert_eq!(env.simulator.call_log().creates.len(), ids.len());
    assert_eq!(env.instance().await["queue"]["held"], json!([]));
}

#[tokio::test]
async fn a_held_batch_is_resent_on_an_operators_order() {
    let (mut env, id, _) = held().await;
    assert_eq!(env.json("POST", &format!("/v1/jobs/{id}/retry")).await.0, 200);
    let job = env.complete(id, 1).await;
    assert_eq!(job.rows.failed, Some(1));
    assert_eq!(env.simulator.call_log().imports.len(), 2);
}

#[tokio::test]
async fn held_batch_that_an_operator_settled_is_polled_to_its_end() {
    let (mut env, id, import) = held().await;
    let settle = |query: String| format!("/v1/jobs/{id}/settle?{query}");
    for (query, status) in [
        ("part=1".to_owned(), 400),
        ("part=one&marketo_batch_id=7".to_owned(), 400),
        ("part=1&marketo_batch_id=%20".to_owned(), 400),
        ("part=1&marketo_batch_id=..".to_owned(), 400),
        (format!("part=1&marketo_batch_id={import}%2F.."), 400),
        (format!("marketo_batch_id={import}"), 400),
        (format!("part=1&marketo_batch_id={import}&x=1"), 400),
        (format!("part=2&marketo_batch_id={import}"), 404),
    ] {
        assert_eq!(env.json("POST", &settle(query.clone())).await.0, status, "{query}");
    }
    let (status, job) = env.json("POST", &settle(format!("part=1&marketo_batch_id={import}"))).await;
    assert_eq!((status, &job["batches"][0]["marketo_batch_id"]), (200, &json!(import)));
    let job = env.complete(id, 1).await;
    assert_eq!((job.rows.processed, job.rows.failed), (Some(1), Some(1)));
    assert!(env.get(&format!("/v1/jobs/{id}/failures")).await.contains("b@example.com"));
    assert_eq!(env.simulator.call_log().creates.len(), 1, "nothing was sent again");
    // The status was read, so the import is this batch's.
    assert_eq!(env.json("POST", &settle(format!("part=1&marketo_batch_id={import}"))).await.0, 409);
}

/// An id that is no number could change the path of a poll, so the upload's outcome is unknown.
#[tokio::test]
async fn a_batch_id_that_is_no_number_is_an_unknown_outcome() {
    let ids = ["\"..\"", "\"7/../8\"", "\"\\u0663\"", "-7", "7.5", "\"x\""];
    let next = AtomicUsize::new(0);
    let strays = Arc::new(AtomicUsize::new(0));
    let counter = strays.clone();
    let fake = Fake::start(move |request| match request.path() {
        "/identity/oauth/token" => Answer::token(),
        path if path.starts_with("/bulk/v1/leads.json") => {
            let id = ids[next.fetch_add(1, Ordering::SeqCst) % ids.len()];
            Answer::json(format!(
                r#"{{"success":true,"result":[{{"batchId":{id},"importId":"9","status":"Queued"}}]}}"#
            ))
        }
        _ => {
            counter.fetch_add(1, Ordering::SeqCst);
            Answer::complete(0)
        }
    })
    .await;
    let mut env = TestEnv::new(quick()).await;
    env.config = format!("{}unknown_outcome = \"hold\"\n", fake.instance("odd"));
    env.start().await;
    for id in ids {
        let job = env.add(&format!("{LEADS}&instance=odd"), FILE).await.id;
        let job = env.in_state(job, BatchState::Held).await;
        assert_eq!(job.batches[0].marketo_batch_id, None, "{id}");
        let message = job.batches[0].message.clone().expect("a reason");
        assert!(message.contains("is not a number"), "{id}: {message}");
        assert_eq!(env.json("POST", &format!("/v1/jobs/{}/cancel", job.id)).await.0, 200);
    }
    assert_eq!(strays.load(Ordering::SeqCst), 0, "nothing was asked about such an id");
}
