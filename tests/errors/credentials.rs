//! 601 and 602, 603, and the identity endpoint's own refusals.

use std::time::Duration;

use marqueue::job::BatchState;
use marqueue::simulator::{Call, Effect, Fault, Settings};

use crate::support::{Town, leads, quick};
use crate::{FILE, LEADS, outcomes};

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_and_the_call_sent_again_at_once() {
    let mut town = Town::with_daemon(quick()).await;
    let id = town.add(LEADS, FILE).await.id;
    town.complete(id, 1).await;
    town.simulator.revoke_tokens();
    let id = town.add(LEADS, FILE).await.id;
    town.complete(id, 1).await;
    town.simulator.push_fault(Fault::on(Call::Create, Effect::error(602, "Access token expired")));
    let id = town.add(LEADS, FILE).await.id;
    town.complete(id, 1).await;
    let ledger = town.simulator.ledger();
    assert_eq!(outcomes(&ledger), ["ok", "601", "ok", "602", "ok"]);
    assert_eq!(ledger.calls_of(Call::Token), 3);
    // On a poll it says nothing about the import either.
    town.simulator.push_fault(Fault::on(Call::Status, Effect::error(601, "Access token invalid")));
    let id = town.add(LEADS, FILE).await.id;
    town.complete(id, 1).await;
    assert_eq!(town.simulator.ledger().creates.len(), 6);
}

#[tokio::test]
async fn two_refused_tokens_in_a_row_are_a_fault_of_the_credentials() {
    let mut town = Town::with_daemon(quick()).await;
    town.simulator.push_fault(Fault::on(Call::Create, Effect::error(601, "Access token invalid")).times(2));
    stopped_until_resumed(&mut town, "601: Access token invalid").await;
    assert_eq!(outcomes(&town.simulator.ledger()), ["601", "601", "ok", "ok"]);
}

#[tokio::test]
async fn without_permission_the_instance_stops_and_no_job_is_burnt() {
    let mut town = Town::with_daemon(quick()).await;
    town.simulator.push_fault(Fault::on(Call::Create, Effect::error(603, "Access denied")));
    stopped_until_resumed(&mut town, "603: Access denied").await;
    assert_eq!(outcomes(&town.simulator.ledger()), ["603", "ok", "ok"]);
}

#[tokio::test]
async fn credentials_that_the_identity_endpoint_refuses_stop_the_instance() {
    let mut town = Town::with_daemon(quick()).await;
    town.simulator.push_fault(Fault::on(Call::Token, Effect::http(401)));
    stopped_until_resumed(&mut town, "identity endpoint refused the credentials: HTTP 401").await;
    assert_eq!(outcomes(&town.simulator.ledger()), ["ok", "ok"]);
}

/// The first upload meets a fault for which the instance stops with `reason`; a person resumes it.
async fn stopped_until_resumed(town: &mut Town, reason: &str) {
    let first = town.add(LEADS, FILE).await.id;
    let pause = town.paused().await;
    assert_eq!((pause["kind"].as_str(), pause["until"].as_str()), (Some("credentials"), None));
    assert!(pause["reason"].as_str().is_some_and(|said| said.contains(reason)), "{pause}");
    let second = town.add(LEADS, FILE).await.id;
    for id in [first, second] {
        let text = town.explained(id, "person", false).await;
        assert!(text.contains(reason) && text.contains("marqueue resume default"), "{text}");
    }
    let waiting = town.in_state(first, BatchState::Pending).await;
    assert_eq!(waiting.batches[0].attempts, 0);
    assert_eq!(town.simulator.ledger().imports.len(), 0);
    town.resume().await;
    for id in [first, second] {
        town.complete(id, 1).await;
    }
}

#[tokio::test]
async fn tokens_that_live_two_seconds_carry_forty_files() {
    let settings = Settings { token_life: Duration::from_secs(2), import_base: Duration::from_millis(110), ..quick() };
    let mut town = Town::with_daemon(settings).await;
    let mut ids = Vec::new();
    for n in 0..40 {
        ids.push(town.add(LEADS, leads(&[&format!("{n}@example.com")])).await.id);
    }
    for id in ids {
        town.complete(id, 1).await;
    }
    let ledger = town.simulator.ledger();
    assert_eq!(ledger.imports.len(), 40);
    assert!(ledger.calls_of(Call::Token) >= 2, "it was long enough for a token to end");
}

#[tokio::test]
async fn a_token_that_ends_while_its_call_waits_at_the_gate_is_not_sent() {
    let mut town = Town::new(Settings { token_life: Duration::from_secs(2), ..quick() }).await;
    // One call in 1.5 s: a token that is fetched before the wait has ended after it.
    town.config = "limits = { calls = 1, window = \"1500ms\" }\n".into();
    town.start().await;
    let id = town.add(LEADS, FILE).await.id;
    town.complete(id, 1).await;
    let ledger = town.simulator.ledger();
    assert_eq!(ledger.errors_of("601") + ledger.errors_of("602"), 0, "{:?}", ledger.errors);
}

#[tokio::test]
async fn an_identity_endpoint_that_fails_makes_the_instance_quiet_and_polls_back_off() {
    let mut town = Town::new(quick()).await;
    town.config = "backoff_min = \"300ms\"\nbackoff_max = \"400ms\"\n".into();
    town.start().await;
    town.simulator.push_fault(Fault::on(Call::Token, Effect::http(500)).times(2));
    let id = town.add(LEADS, FILE).await.id;
    let text = town.explained(id, "service", true).await;
    assert!(text.contains("can't be reached or says that it is down"), "{text}");
    assert!(town.instance().await["quiet_until"].is_string());
    town.complete(id, 1).await;
    let id = town.add(LEADS, "email,firstName\na@example.com,!lasts:300ms\n").await.id;
    town.in_state(id, BatchState::Importing).await;
    town.simulator.revoke_tokens();
    town.simulator.push_fault(Fault::on(Call::Token, Effect::LoseRequest).times(2));
    town.complete(id, 1).await;
    let history = town.get(&format!("/v1/jobs/{id}/history")).await;
    assert!(
        history.contains("ask-failed") && history.contains("no token from Marketo's identity endpoint"),
        "{history}"
    );
    assert_eq!(town.simulator.ledger().creates.len(), 2);
}

#[tokio::test]
async fn a_fault_of_the_instance_does_not_spin_while_a_persons_pause_stands() {
    let mut town = Town::with_daemon(quick()).await;
    let id = town.add(LEADS, "email,firstName\na@example.com,!lasts:200ms\n").await.id;
    town.in_state(id, BatchState::Importing).await;
    town.simulator.push_fault(Fault::on(Call::Status, Effect::error(607, "Daily quota reached")).times(3));
    town.simulator.push_fault(Fault::on(Call::Status, Effect::error(603, "Access denied")).times(2));
    assert_eq!(town.json("POST", "/v1/instances/default/pause").await.0, 200);
    town.complete(id, 1).await;
    assert_eq!(town.instance().await["pause"]["kind"], "person");
    let history = town.get(&format!("/v1/jobs/{id}/history")).await;
    assert!(history.matches("ask-failed").count() >= 4, "each of them had its pause: {history}");
}
