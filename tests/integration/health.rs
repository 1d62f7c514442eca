//! Does the daemon say whether it is well? With the real binary.

use marqueue::simulator::{Call, Fault, FaultEffect};
use serde_json::{Value, json};

use crate::cli_env::{House, at};
use crate::support::{Town, leads, quick};

#[test]
fn the_verb_says_whether_the_daemon_lives_and_is_ready() {
    let house = House::new();
    assert_eq!(house.run("health").expect(0).out, "the daemon lives\n");
    assert_eq!(house.run("health --ready").expect(0).out, "the daemon is ready\n");
    assert_eq!(house.run("health --json").expect(0).json(), json!({"lives": true}));
    let ready = house.run("health --ready --json").expect(0).json();
    assert_eq!((&ready["ready"], &ready["store"]["state"]), (&json!(true), &json!("writes")));
    assert_eq!(ready["credentials"]["default"], json!({"ok": true, "state": "untried", "reason": null}));
    at(&house.path("none.sock"), "health").expect(3);
    at(&house.path("none.sock"), "health --ready").expect(3);

    house.file("people.csv", "email\na@example.com\n");
    house.run("add leads people.csv --wait").expect(0);
    let ready = house.run("health --ready --json").expect(0).json();
    assert_eq!(ready["credentials"]["default"]["state"], "worked");
}

#[tokio::test]
async fn refused_credentials_of_one_instance_leave_it_ready() {
    let mut town = Town::new(quick()).await;
    town.config = "\n[instances.other]\nbase_url = \"BASE\"\nclient_id = \"simulator\"\nclient_secret = \"wrong\""
        .replace("BASE", town.simulator.base_url());
    town.start().await;
    assert_eq!(town.json("GET", "/readyz").await.0, 200);
    let job = town.add("target=leads&filename=a.csv&instance=other", leads(&["a@example.com"])).await;
    let refused = town
        .until("the credentials are refused", async |town| {
            let (status, body) = town.json("GET", "/readyz?instance=other").await;
            (status == 503).then_some(body)
        })
        .await;
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.starts_with("instance other: Marketo's identity endpoint refused the credentials"), "{detail}");
    assert_eq!(
        (&refused["status"], &refused["ready"], &refused["store"]["ok"]),
        (&json!(503), &json!(false), &json!(true))
    );
    assert_eq!(refused["credentials"]["other"]["state"], "refused");
    assert!(refused["credentials"]["default"].is_null(), "{refused}");
    // As a whole it is ready, and says what is not.
    let whole = town
        .until("the pause is in the body", async |town| {
            let (status, body) = town.json("GET", "/readyz").await;
            assert_eq!(status, 200, "{body}");
            (!body["paused"]["other"].is_null()).then_some(body)
        })
        .await;
    assert_eq!(whole["paused"]["other"]["kind"], "credentials");
    assert!(whole["paused"]["default"].is_null(), "{whole}");
    assert_eq!(
        (&whole["credentials"]["other"]["ok"], &whole["credentials"]["default"]["ok"]),
        (&json!(false), &json!(true))
    );
    let metrics = town.get("/metrics").await;
    for line in [
        "marqueue_credentials_ok{instance=\"other\"} 0",
        "marqueue_instance_paused{instance=\"other\",kind=\"credentials\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert_eq!(town.json("GET", "/readyz?instance=default").await.0, 200);
    assert_eq!(town.json("GET", "/readyz?instance=nobody").await.0, 404);
    at(&town.socket(), "health --ready").expect(0);
    at(&town.socket(), "health --ready --instance default").expect(0);
    let ran = at(&town.socket(), "health --ready --instance other").expect(1);
    assert_eq!((ran.out.as_str(), ran.err), ("", format!("error: the daemon is not ready: {detail}\n")));
    let ran = at(&town.socket(), "health --ready --instance other --json").expect(1);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()["ready"], json!(false));
    at(&town.socket(), "health --ready --instance nobody").expect(1);
    at(&town.socket(), "health").expect(0);
    town.add("target=leads&filename=a.csv&instance=other", leads(&["b@example.com"])).await;
    assert_eq!(town.job(job.id).await.state.as_str(), "pending");
}

#[tokio::test]
async fn credentials_that_only_imports_refuse_make_it_unready() {
    let mut town = Town::with_daemon(quick()).await;
    town.add("target=leads&filename=a.csv", leads(&["a@example.com"])).await;
    town.until("a token worked", async |town| {
        (town.json("GET", "/readyz").await.1["credentials"]["default"]["state"] == "worked").then_some(())
    })
    .await;
    // Marketo's identity endpoint gives tokens, and imports are refused for want of a permission.
    town.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(603, "Access denied")));
    town.add("target=leads&filename=b.csv", leads(&["b@example.com"])).await;
    let body = town
        .until("it is not ready", async |town| {
            let (status, body) = town.json("GET", "/readyz").await;
            (status == 503).then_some(body)
        })
        .await;
    assert_eq!(
        (&body["credentials"]["default"]["state"], &body["paused"]["default"]["kind"]),
        (&json!("refused"), &json!("credentials"))
    );
    assert!(town.get("/metrics").await.contains("marqueue_credentials_ok{instance=\"default\"} 0"));
}

#[tokio::test]
async fn an_instance_that_can_t_be_reached_is_not_ready() {
    let mut town = Town::new(quick()).await;
    // A port that nobody listens at any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    town.config = format!("identity_url = \"http://127.0.0.1:{port}/identity\"");
    town.start().await;
    town.add("target=leads&filename=a.csv", leads(&["a@example.com"])).await;
    let body = town
        .until("it is not ready", async |town| {
            let (status, body) = town.json("GET", "/readyz").await;
            (status == 503).then_some(body)
        })
        .await;
    assert_eq!(body["credentials"]["default"]["state"], "unreachable");
}
