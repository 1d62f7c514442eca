//! Statistics over time: `GET /v1/stats` and the command `stats`, over a restart and with clients.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{TestEnv, binary, leads, quick};

/// The sum of each list of the response.
fn sums(stats: &Value) -> Value {
    let sum = |list: &Value| {
        let numbers = list.as_array().expect("a list").iter().map(|number| number.as_u64().expect("a number"));
        numbers.sum::<u64>()
    };
    json!({
        "imported": sum(&stats["rows"]["imported"]),
        "failed": sum(&stats["rows"]["failed"]),
        "done": sum(&stats["jobs"]["done"]),
        "cancelled": sum(&stats["jobs"]["cancelled"]),
        "uploads": sum(&stats["uploads"]),
        "has_calls": sum(&stats["calls"]) > 0,
    })
}

async fn stats_of(http: &reqwest::Client, address: &str, login: (&str, &str)) -> Value {
    let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", login.0, login.1);
    let token = http.post(format!("http://{address}/identity/oauth/token")).body(form).send().await.expect("an answer");
    let token: Value = serde_json::from_slice(&token.bytes().await.expect("whole")).expect("JSON");
    let token = token["access_token"].as_str().expect("a token");
    let add = http.post(format!("http://{address}/v1/jobs?target=leads&filename=a.csv")).bearer_auth(token);
    if login.0 == "crm" {
        let added = add.body(leads(&["c@example.com"])).send().await.expect("an answer");
        let job: Value = serde_json::from_slice(&added.bytes().await.expect("whole")).expect("JSON");
        let wait = format!("http://{address}/v1/jobs/{}?wait=60s", job["id"]);
        http.get(wait).bearer_auth(token).send().await.expect("an answer");
    }
    let stats = http.get(format!("http://{address}/v1/stats")).bearer_auth(token).send().await.expect("an answer");
    serde_json::from_slice(&stats.bytes().await.expect("whole")).expect("JSON")
}

#[tokio::test]
async fn stats_count_jobs_rows_uploads_and_calls_over_a_restart() {
    let mut env = TestEnv::new(quick()).await;
    let client = |id: &str| format!("[[api.clients]]\nclient_id = \"{id}\"\nclient_secret = \"s\"\n");
    env.api = format!("listen = \"127.0.0.1:0\"\n{}{}", client("crm"), client("web"));
    env.start().await;
    let job = env.add("target=leads&filename=a.csv", leads(&["a@example.com", "b@example.com"])).await;
    env.ended(job.id).await;
    let expected = |jobs: u64, rows: u64, has_calls: bool| json!({"imported": rows, "failed": 0, "done": jobs, "cancelled": 0, "uploads": jobs, "has_calls": has_calls});
    let (status, stats) = env.json("GET", "/v1/stats?window=1h").await;
    assert_eq!((status, sums(&stats)), (200, expected(1, 2, true)));
    assert_eq!((&stats["step_seconds"], stats["calls"].as_array().map(Vec::len)), (&300.into(), Some(12)));
    env.terminate().await;
    env.start().await;
    assert_eq!(sums(&env.json("GET", "/v1/stats?window=7d&step=1h").await.1), expected(1, 2, true));

    // A client's statistics have its own jobs.
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let address = env.tcp_address().await;
    assert_eq!(sums(&stats_of(&http, &address, ("crm", "s")).await), expected(1, 1, true));
    assert_eq!(sums(&stats_of(&http, &address, ("web", "s")).await), expected(0, 0, true));
    assert_eq!(sums(&env.json("GET", "/v1/stats?instance=default").await.1), expected(2, 3, true));
    // Erased jobs stay counted.
    assert_eq!(env.request("POST", "/v1/jobs/1/erase", "").await.0, 200);
    assert_eq!(sums(&env.json("GET", "/v1/stats").await.1), expected(2, 3, true));

    for (query, detail) in [
        ("window=x", "window must be a duration such as 15m, 24h or 7d, not \"x\""),
        ("step=1s", "step must be a multiple of 5m, such as 15m or 1h"),
        (
            "windows=1h",
            "wrong parameter: windows: unknown field `windows`, expected one of `window`, `step`, `instance`",
        ),
    ] {
        let (status, problem) = env.json("GET", &format!("/v1/stats?{query}")).await;
        assert_eq!((status, problem["detail"].as_str()), (400, Some(detail)));
    }
    assert_eq!(env.json("GET", "/v1/stats?instance=none").await.0, 404);

    let socket = env.socket();
    let run = |arguments: &[&str]| {
        let output = Command::new(binary()).arg("--socket").arg(&socket).arg("stats").args(arguments).output();
        let output = output.expect("the command runs");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let (exit, text) = run(&["--window", "1h"]);
    let total: Vec<&str> = text.lines().last().expect("a sum").split_whitespace().collect();
    assert_eq!((exit, &total[..8]), (Some(0), &["total", "3", "0", "0", "2", "0", "0", "2"][..]), "{text}");
    let (exit, text) = run(&["--json", "--window", "1h", "--instance", "default"]);
    let stats: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((exit, sums(&stats)), (Some(0), expected(2, 3, true)));
    assert_eq!(run(&["--step", "1s"]).0, Some(1));
}
