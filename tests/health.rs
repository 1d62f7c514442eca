//! Does the daemon say whether it is well? With the real binary.

use serde_json::{Value, json};

#[path = "cli/house.rs"]
mod house;
mod support;

use house::{House, at};
use support::{Town, leads, quick};

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
async fn credentials_that_are_refused_make_it_not_ready_and_files_are_taken_all_the_same() {
    let mut town = Town::new(quick()).await;
    town.config = "\n[instances.other]\nbase_url = \"BASE\"\nclient_id = \"simulator\"\nclient_secret = \"wrong\""
        .replace("BASE", town.simulator.base_url());
    town.start().await;
    assert_eq!(town.json("GET", "/readyz").await.0, 200);
    let job = town.add("target=leads&filename=a.csv&instance=other", leads(&["a@example.com"])).await;
    let refused = town
        .until("the credentials are refused", async |town| {
            let (status, body) = town.json("GET", "/readyz").await;
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
    assert_eq!(refused["credentials"]["default"]["ok"], json!(true), "{refused}");
    let ran = at(&town.socket(), "health --ready").expect(1);
    assert_eq!((ran.out.as_str(), ran.err), ("", format!("error: the daemon is not ready: {detail}\n")));
    let ran = at(&town.socket(), "health --ready --json").expect(1);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()["ready"], json!(false));
    at(&town.socket(), "health").expect(0);
    town.add("target=leads&filename=a.csv&instance=other", leads(&["b@example.com"])).await;
    assert_eq!(town.job(job.id).await.state.as_str(), "pending");
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
