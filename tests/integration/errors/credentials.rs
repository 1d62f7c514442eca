//! Errors of credentials: 601, 602 and 603, and refusals of the identity endpoint.

use std::collections::HashMap;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use marqueue::domain::BatchState;
use marqueue::simulator::{Call, Fault, FaultEffect, Settings};

use super::raw_server::{Answer, Fake};
use super::{FILE, LEADS, STUCK, outcomes};
use crate::support::{TestEnv, leads, quick};

#[tokio::test]
async fn refused_token_is_replaced_and_the_call_repeated_at_once() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let id = env.add(LEADS, FILE).await.id;
    env.complete(id, 1).await;
    env.simulator.revoke_tokens();
    let id = env.add(LEADS, FILE).await.id;
    env.complete(id, 1).await;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(602, "Access token expired")));
    let id = env.add(LEADS, FILE).await.id;
    env.complete(id, 1).await;
    let ledger = env.simulator.call_log();
    assert_eq!(outcomes(&ledger), ["ok", "601", "ok", "602", "ok"]);
    assert_eq!(ledger.calls_of(Call::Token), 3);
    // On a poll it says nothing about the import either.
    env.simulator.push_fault(Fault::on(Call::Status, FaultEffect::error(601, "Access token invalid")));
    let id = env.add(LEADS, FILE).await.id;
    env.complete(id, 1).await;
    assert_eq!(env.simulator.call_log().creates.len(), 6);
}

#[tokio::test]
async fn tokens_refused_in_a_row_make_uploads_wait_and_go_on() {
    let mut env = TestEnv::with_daemon(quick()).await;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(601, "Access token invalid")).times(6));
    let first = env.add(LEADS, FILE).await.id;
    let second = env.add(LEADS, FILE).await.id;
    for id in [first, second] {
        env.complete(id, 1).await;
    }
    assert!(env.instance().await["pause"].is_null());
    let ledger = env.simulator.call_log();
    assert_eq!((ledger.errors_of("601"), ledger.imports.len()), (6, 2));
    assert!(env.get(&format!("/v1/jobs/{first}/history")).await.contains("601: Access token invalid"));
}

#[tokio::test]
async fn tokens_refused_in_a_row_make_a_poll_wait_and_go_on() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let id = env.add(LEADS, STUCK).await.id;
    env.in_state(id, BatchState::Importing).await;
    env.simulator.push_fault(Fault::on(Call::Status, FaultEffect::error(602, "Access token expired")).times(5));
    env.until("all have come", async |env| (env.simulator.call_log().errors_of("602") == 5).then_some(())).await;
    env.simulator.end_stuck_imports();
    env.complete(id, 1).await;
    assert!(env.instance().await["pause"].is_null());
    let ledger = env.simulator.call_log();
    assert_eq!((ledger.errors_of("602"), ledger.imports.len()), (5, 1));
}

#[tokio::test]
async fn a_403_page_of_a_proxy_is_no_credentials_fault() {
    let requests = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
    let counted = requests.clone();
    let fake = Fake::start(move |request| {
        let path = request.path().split('?').next().unwrap_or_default().to_owned();
        let kind = if path.contains("/batch/") { "poll" } else { path.rsplit('/').next().unwrap_or_default() };
        let mut counted = counted.lock().unwrap();
        let times = counted.entry(kind.to_owned()).or_default();
        *times += 1;
        // Each kind of call meets the page first.
        match (kind, *times) {
            ("token" | "leads.json" | "poll", 1) => Answer::plain(403, "text/html", "<html>Forbidden</html>"),
            ("token", _) => Answer::token(),
            ("leads.json", _) => Answer::created(),
            _ => Answer::complete(0),
        }
    })
    .await;
    let mut env = TestEnv::new(quick()).await;
    env.config = fake.instance("eu");
    env.start().await;
    let id = env.add(&format!("{LEADS}&instance=eu"), FILE).await.id;
    env.complete(id, 1).await;
    assert!(env.json("GET", "/v1/status").await.1["instances"]["eu"]["pause"].is_null());
    assert!(!env.log().contains("instance paused"));
    let requests = requests.lock().unwrap();
    assert!(requests["token"] == 2 && requests["leads.json"] == 2 && requests["poll"] >= 2, "{requests:?}");
}

#[tokio::test]
async fn a_token_about_to_expire_is_not_used() {
    let (given, used) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(Vec::new())));
    let received = used.clone();
    let fake = Fake::start(move |request| {
        if request.path().contains("/oauth/token") {
            // The first has two seconds left here; for the clock of the other calls' servers it has ended.
            let (token, left) = if given.fetch_add(1, SeqCst) == 0 { ("old", 2) } else { ("new", 3600) };
            return Answer::json(format!(r#"{{"access_token":"{token}","expires_in":{left}}}"#));
        }
        let bearer = |line: &str| line.to_ascii_lowercase().strip_prefix("authorization: bearer ").map(str::to_owned);
        received.lock().unwrap().extend(request.head.lines().find_map(bearer));
        if request.path().contains("/batch/") { Answer::complete(0) } else { Answer::created() }
    })
    .await;
    let mut env = TestEnv::new(quick()).await;
    env.config = fake.instance("eu");
    env.start().await;
    let id = env.add(&format!("{LEADS}&instance=eu"), FILE).await.id;
    env.complete(id, 1).await;
    assert!(used.lock().unwrap().iter().all(|token| token == "new"), "{used:?}");
}

#[tokio::test]
async fn a_601_of_the_identity_endpoint_refuses_credentials() {
    let fake = Fake::start(|_| {
        Answer::json(r#"{"requestId":"r","success":false,"errors":[{"code":"601","message":"Unauthorized"}]}"#)
    })
    .await;
    let mut env = TestEnv::new(quick()).await;
    env.config = fake.instance("eu");
    env.start().await;
    env.add(&format!("{LEADS}&instance=eu"), FILE).await;
    env.until("the instance is paused", async |env| {
        let pause = env.json("GET", "/v1/status").await.1["instances"]["eu"]["pause"].take();
        (pause["kind"] == "credentials" && pause["reason"].as_str()?.contains("601: Unauthorized")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn missing_permission_pauses_the_instance_and_fails_no_job() {
    let mut env = TestEnv::with_daemon(quick()).await;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(603, "Access denied")));
    stopped_until_resumed(&mut env, "603: Access denied").await;
    assert_eq!(outcomes(&env.simulator.call_log()), ["603", "ok", "ok"]);
}

#[tokio::test]
async fn credentials_refused_by_identity_pause_the_instance() {
    let mut env = TestEnv::with_daemon(quick()).await;
    env.simulator.push_fault(Fault::on(Call::Token, FaultEffect::http(401)));
    stopped_until_resumed(&mut env, "identity endpoint refused the credentials: HTTP 401").await;
    assert_eq!(outcomes(&env.simulator.call_log()), ["ok", "ok"]);
}

/// The first upload meets a fault that pauses the instance with `reason`; an operator resumes it.
async fn stopped_until_resumed(env: &mut TestEnv, reason: &str) {
    let first = env.add(LEADS, FILE).await.id;
    let pause = env.paused().await;
    assert_eq!((pause["kind"].as_str(), pause["until"].as_str()), (Some("credentials"), None));
    assert!(pause["reason"].as_str().is_some_and(|text| text.contains(reason)), "{pause}");
    let second = env.add(LEADS, FILE).await.id;
    for id in [first, second] {
        let text = env.explained(id, "operator", false).await;
        assert!(text.contains(reason) && text.contains("marqueue resume default"), "{text}");
    }
    let waiting = env.in_state(first, BatchState::Pending).await;
    assert_eq!(waiting.batches[0].attempts, 0);
    assert_eq!(env.simulator.call_log().imports.len(), 0);
    env.resume().await;
    for id in [first, second] {
        env.complete(id, 1).await;
    }
}

#[tokio::test]
async fn forty_files_are_imported_with_tokens_of_two_seconds() {
    let settings = Settings { token_life: Duration::from_secs(2), import_base: Duration::from_millis(110), ..quick() };
    let mut env = TestEnv::with_daemon(settings).await;
    let mut ids = Vec::new();
    for n in 0..40 {
        ids.push(env.add(LEADS, leads(&[&format!("{n}@example.com")])).await.id);
    }
    for id in ids {
        env.complete(id, 1).await;
    }
    let ledger = env.simulator.call_log();
    assert_eq!(ledger.imports.len(), 40);
    assert!(ledger.calls_of(Call::Token) >= 2, "it was long enough for a token to end");
}

#[tokio::test]
async fn token_that_expires_in_the_rate_limiter_is_not_sent() {
    // Of a token's life, the last ten seconds are kept for calls on a loaded machine.
    let mut env = TestEnv::new(Settings { token_life: Duration::from_secs(11), ..quick() }).await;
    // One call in 12 s: a token that is fetched before the wait has ended after it.
    env.config = "limits = { calls = 1, window = \"12s\" }\n".into();
    env.start().await;
    let id = env.add(LEADS, FILE).await.id;
    env.complete(id, 1).await;
    let ledger = env.simulator.call_log();
    assert_eq!(ledger.errors_of("601") + ledger.errors_of("602"), 0, "{:?}", ledger.errors);
}

#[tokio::test]
async fn failing_identity_endpoint_makes_uploads_and_polls_back_off() {
    let mut env = TestEnv::new(quick()).await;
    env.config = "backoff_min = \"300ms\"\nbackoff_max = \"400ms\"\n".into();
    env.start().await;
    env.simulator.push_fault(Fault::on(Call::Token, FaultEffect::http(500)).times(u32::MAX));
    let id = env.add(LEADS, FILE).await.id;
    let text = env.explained(id, "service", true).await;
    assert!(text.contains("Marketo is unreachable or unavailable"), "{text}");
    env.until("the status has the backoff", async |env| env.instance().await["quiet_until"].is_string().then_some(()))
        .await;
    env.simulator.clear_faults();
    env.complete(id, 1).await;
    let id = env.add(LEADS, STUCK).await.id;
    env.in_state(id, BatchState::Importing).await;
    env.simulator.push_fault(Fault::on(Call::Token, FaultEffect::LoseRequest).times(2));
    env.simulator.revoke_tokens();
    env.until("a poll has failed", async |env| {
        let history = env.get(&format!("/v1/jobs/{id}/history")).await;
        (history.contains("query-failed") && history.contains("no token from Marketo's identity endpoint"))
            .then_some(())
    })
    .await;
    env.simulator.end_stuck_imports();
    env.complete(id, 1).await;
    assert_eq!(env.simulator.call_log().creates.len(), 2);
}

#[tokio::test]
async fn instance_fault_does_not_loop_during_an_operators_pause() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let id = env.add(LEADS, STUCK).await.id;
    env.in_state(id, BatchState::Importing).await;
    assert_eq!(env.json("POST", "/v1/instances/default/pause").await.0, 200);
    env.simulator.push_fault(Fault::on(Call::Status, FaultEffect::error(607, "Daily quota reached")).times(2));
    // Either the quota's pause holds now, or the poll has one of its own: asking again at once is neither.
    env.until("the poll has a pause", async |env| {
        let kind = env.instance().await["pause"]["kind"].take();
        let history = env.get(&format!("/v1/jobs/{id}/history")).await;
        (kind == "quota" || history.contains("query-failed")).then_some(())
    })
    .await;
    let waiting = env.add(LEADS, FILE).await.id;
    assert_eq!(env.simulator.call_log().creates.len(), 1, "the operator's pause stays");
    env.simulator.end_stuck_imports();
    env.until("all goes on", async |env| {
        env.resume().await;
        env.job(id).await.state.is_terminal().then_some(())
    })
    .await;
    for id in [id, waiting] {
        env.complete(id, 1).await;
    }
}
