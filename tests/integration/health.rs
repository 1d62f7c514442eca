//! `marqueue health`, `/healthz` and `/readyz`. With the real binary.

use marqueue::simulator::{Call, Fault, FaultEffect};
use serde_json::{Value, json};

use crate::cli_env::{CliEnv, at};
use crate::closed_port::ClosedPort;
use crate::support::{TestEnv, leads, quick};

#[test]
fn health_reports_liveness_and_readiness() {
    let cli = CliEnv::new();
    assert_eq!(cli.run("health").expect(0).out, "ok\n");
    assert_eq!(cli.run("health --ready").expect(0).out, "the daemon is ready\n");
    assert_eq!(cli.run("health --json").expect(0).json(), json!({"ok": true}));
    let ready = cli.run("health --ready --json").expect(0).json();
    assert_eq!((&ready["ready"], &ready["store"]["state"]), (&json!(true), &json!("writes")));
    assert_eq!(ready["credentials"]["default"], json!({"ok": true, "state": "untried", "reason": null}));
    at(&cli.path("none.sock"), "health").expect(3);
    at(&cli.path("none.sock"), "health --ready").expect(3);

    cli.file("people.csv", "email\na@example.com\n");
    cli.run("add leads people.csv --wait").expect(0);
    let ready = cli.run("health --ready --json").expect(0).json();
    assert_eq!(ready["credentials"]["default"]["state"], "worked");
}

#[tokio::test]
async fn refused_credentials_of_one_instance_leave_it_ready() {
    let mut env = TestEnv::new(quick()).await;
    env.config = "\n[instances.other]\nbase_url = \"BASE\"\nclient_id = \"simulator\"\nclient_secret = \"wrong\""
        .replace("BASE", env.simulator.base_url());
    env.start().await;
    assert_eq!(env.json("GET", "/readyz").await.0, 200);
    let job = env.add("target=leads&filename=a.csv&instance=other", leads(&["a@example.com"])).await;
    let refused = env
        .until("the credentials are refused", async |env| {
            let (status, body) = env.json("GET", "/readyz?instance=other").await;
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
    // The daemon as a whole is ready, and lists the instances that are not.
    let whole = env
        .until("the pause is in the body", async |env| {
            let (status, body) = env.json("GET", "/readyz").await;
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
    let metrics = env.get("/metrics").await;
    for line in [
        "marqueue_credentials_ok{instance=\"other\"} 0",
        "marqueue_instance_paused{instance=\"other\",kind=\"credentials\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert_eq!(env.json("GET", "/readyz?instance=default").await.0, 200);
    assert_eq!(env.json("GET", "/readyz?instance=nobody").await.0, 404);
    at(&env.socket(), "health --ready").expect(0);
    at(&env.socket(), "health --ready --instance default").expect(0);
    let ran = at(&env.socket(), "health --ready --instance other").expect(1);
    assert_eq!((ran.out.as_str(), ran.err), ("", format!("error: the daemon is not ready: {detail}\n")));
    let ran = at(&env.socket(), "health --ready --instance other --json").expect(1);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()["ready"], json!(false));
    at(&env.socket(), "health --ready --instance nobody").expect(1);
    at(&env.socket(), "health").expect(0);
    env.add("target=leads&filename=a.csv&instance=other", leads(&["b@example.com"])).await;
    assert_eq!(env.job(job.id).await.state.as_str(), "pending");
}

#[tokio::test]
async fn credentials_that_only_imports_refuse_make_it_unready() {
    let mut env = TestEnv::with_daemon(quick()).await;
    env.add("target=leads&filename=a.csv", leads(&["a@example.com"])).await;
    env.until("a token worked", async |env| {
        (env.json("GET", "/readyz").await.1["credentials"]["default"]["state"] == "worked").then_some(())
    })
    .await;
    // Marketo's identity endpoint gives tokens, and imports are refused for want of a permission.
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(603, "Access denied")));
    env.add("target=leads&filename=b.csv", leads(&["b@example.com"])).await;
    let body = env
        .until("it is not ready", async |env| {
            let (status, body) = env.json("GET", "/readyz").await;
            (status == 503).then_some(body)
        })
        .await;
    assert_eq!(
        (&body["credentials"]["default"]["state"], &body["paused"]["default"]["kind"]),
        (&json!("refused"), &json!("credentials"))
    );
    assert!(env.get("/metrics").await.contains("marqueue_credentials_ok{instance=\"default\"} 0"));
}

#[tokio::test]
async fn an_instance_that_can_t_be_reached_is_not_ready() {
    let mut env = TestEnv::new(quick()).await;
    let closed = ClosedPort::bind();
    env.config = format!("identity_url = \"http://{}/identity\"", closed.address());
    env.start().await;
    env.add("target=leads&filename=a.csv", leads(&["a@example.com"])).await;
    let body = env
        .until("it is not ready", async |env| {
            let (status, body) = env.json("GET", "/readyz").await;
            (status == 503).then_some(body)
        })
        .await;
    assert_eq!(body["credentials"]["default"]["state"], "unreachable");
}
