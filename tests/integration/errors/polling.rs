//! Failing polls: a poll without a usable answer is repeated, and nothing is sent again because of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use marqueue::domain::{BatchState, JobState};
use marqueue::simulator::{Call, Corruption, Fault, FaultEffect, Settings};

use super::raw_server::{Answer, Fake};
use super::{FILE, LEADS, STUCK};
use crate::support::{TestEnv, quick};

#[tokio::test]
async fn failed_polls_resend_nothing() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let effects = [
        FaultEffect::http(500),
        FaultEffect::http(502),
        FaultEffect::http(503),
        FaultEffect::http(429),
        FaultEffect::http(404),
        FaultEffect::http(413),
        FaultEffect::error(604, "Timed out"),
        FaultEffect::error(608, "Unavailable"),
        FaultEffect::error(610, "Not found"),
        FaultEffect::error(611, "System error"),
        FaultEffect::error(614, "Invalid subscription"),
        FaultEffect::error(713, "Transient"),
        FaultEffect::error(719, "Lock"),
        FaultEffect::error(1003, "Wrong"),
        FaultEffect::error(1016, "Full"),
        FaultEffect::error(1019, "Busy"),
        FaultEffect::error(9999, "New"),
        FaultEffect::error(606, "Too many"),
        FaultEffect::LoseRequest,
        FaultEffect::LoseAnswer,
        FaultEffect::Garble(Corruption::Empty),
        FaultEffect::Garble(Corruption::Cut),
        FaultEffect::Garble(Corruption::Torn),
    ];
    let all = effects.len();
    let mut ids = Vec::new();
    for effect in effects {
        env.simulator.push_fault(Fault::on(Call::Status, effect));
        ids.push(env.add(LEADS, FILE).await.id);
    }
    for id in ids {
        env.complete(id, 1).await;
    }
    let ledger = env.simulator.call_log();
    assert_eq!((ledger.creates.len(), ledger.imports.len()), (all, all));
}

#[tokio::test]
async fn import_unknown_to_marketo_ends_its_job_with_the_reason() {
    let mut env = TestEnv::new(Settings { batch_life: Duration::from_millis(100), ..quick() }).await;
    env.config = "max_attempts = 3\n".into();
    env.start().await;
    let id = env.add(LEADS, "email,firstName\na@example.com,!lasts:300ms\n").await.id;
    let job = env.ended(id).await;
    assert_eq!(job.state, JobState::Failed);
    let error = job.error.expect("a reason");
    assert!(error.starts_with("Marketo no longer knows the import: 1013: Import '"), "{error}");
    let ledger = env.simulator.call_log();
    assert_eq!((ledger.creates.len(), ledger.errors_of("1013")), (1, 3));
}

#[tokio::test]
async fn failed_import_gives_its_job_marketos_message() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let id = env.add(LEADS, "email,firstName\na@example.com,!batch-failed:Out of order\n").await.id;
    let job = env.ended(id).await;
    assert_eq!((job.state, job.error.as_deref()), (JobState::Failed, Some("Out of order")));
    assert_eq!(env.simulator.call_log().creates.len(), 1);
}

const TWO: &str = "email,firstName\na@example.com,Ann\nb@example.com,!fail:No such person\n";

#[tokio::test]
async fn late_reports_are_requested_until_they_exist() {
    let mut env = TestEnv::new(quick()).await;
    env.config = "backoff_min = \"100ms\"\n".into();
    env.start().await;
    for effect in [
        FaultEffect::http(404),
        FaultEffect::http(500),
        FaultEffect::http(503),
        FaultEffect::error(611, "System error"),
        FaultEffect::error(610, "Not found"),
        FaultEffect::LoseAnswer,
        FaultEffect::Garble(Corruption::Empty),
        FaultEffect::Garble(Corruption::Torn),
    ] {
        env.simulator.push_fault(Fault::on(Call::Failures, effect.clone()).times(u32::MAX));
        let id = env.add(LEADS, TWO).await.id;
        let text = env.explained(id, "files", true).await;
        assert!(text.contains("fetching its files has failed"), "{text}");
        env.simulator.clear_faults();
        env.complete(id, 1).await;
        let failures = env.get(&format!("/v1/jobs/{id}/failures")).await;
        assert_eq!(
            failures, "email,firstName,Import Failure Reason\nb@example.com,!fail:No such person,No such person\n",
            "{effect:?}"
        );
    }
    assert_eq!(env.simulator.call_log().creates.len(), 8);
}

#[tokio::test]
async fn missing_report_ends_the_job_and_is_in_its_history() {
    let mut env = TestEnv::new(quick()).await;
    env.config = "max_attempts = 2\n".into();
    env.start().await;
    env.simulator.push_fault(Fault::on(Call::Failures, FaultEffect::http(404)).times(100));
    let id = env.add(LEADS, TWO).await.id;
    let job = env.complete(id, 1).await;
    assert_eq!((job.rows.failed, job.batches[0].failures_bytes), (Some(1), None));
    assert_eq!(env.simulator.call_log().calls_of(Call::Failures), 4);
    let history = env.get(&format!("/v1/jobs/{id}/history")).await;
    assert!(
        history.contains("complete without the failures file. Marketo did not return the file in 4 attempts"),
        "{history}"
    );
}

/// Whatever its type says: an envelope, an envelope cut off, and a page of something in between.
#[tokio::test]
async fn a_response_that_is_no_report_is_not_stored() {
    let tries = Arc::new(AtomicU32::new(0));
    let asked = tries.clone();
    let file = "email,Import Failure Reason\na@example.com,No\n";
    let envelope = r#"{"requestId":"r","success":false,"errors":[{"code":"611","message":"System error"}]}"#;
    let fake = Fake::start(move |request| match request.path() {
        "/identity/oauth/token" => Answer::token(),
        path if path.starts_with("/bulk/v1/leads.json") => Answer::created(),
        path if path.ends_with("/failures.json") => match asked.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::json(envelope),
            1 => Answer::plain(200, "text/csv;charset=UTF-8", envelope),
            2 => Answer::plain(200, "text/csv;charset=UTF-8", format!("\n  {envelope}")),
            3 => Answer::plain(200, "text/csv;charset=UTF-8", &envelope[..40]),
            4 => Answer::plain(200, "text/html", "<html>Please log in</html>"),
            5 => Answer::json(r#"{"requestId":"r","success":true,"result":[]}"#),
            6 => Answer::plain(200, "text/csv;charset=UTF-8", ""),
            _ => Answer::plain(200, "text/csv;charset=UTF-8", file),
        },
        _ => Answer::complete(1),
    })
    .await;
    let mut env = TestEnv::new(quick()).await;
    env.config = fake.instance("odd");
    env.start().await;
    let id = env.add(&format!("{LEADS}&instance=odd"), FILE).await.id;
    env.complete(id, 1).await;
    assert_eq!(env.get(&format!("/v1/jobs/{id}/failures")).await, file);
    let history = env.get(&format!("/v1/jobs/{id}/history")).await;
    assert_eq!(tries.load(Ordering::SeqCst), 8);
    // The first three have equal messages, and so have the responses that are no envelope.
    assert_eq!(history.matches("query-failed").count(), 4, "{history}");
}

#[tokio::test]
async fn imports_are_polled_while_an_operator_paused_uploads() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let id = env.add(LEADS, STUCK).await.id;
    env.in_state(id, BatchState::Importing).await;
    assert_eq!(env.json("POST", "/v1/instances/default/pause").await.0, 200);
    let waiting = env.add(LEADS, FILE).await.id;
    env.simulator.end_stuck_imports();
    env.complete(id, 1).await;
    env.explained(waiting, "operator", false).await;
    assert_eq!(env.simulator.call_log().creates.len(), 1);
}
