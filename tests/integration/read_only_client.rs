//! Clients with `access = "read"`: they see their jobs, and change nothing by any route.

use serde_json::Value;

use crate::support::{TestEnv, leads, quick};

fn clients(access: &str) -> String {
    let entry = |id: &str, more: &str| {
        format!(
            "[[api.clients]]\nclient_id = \"{id}\"\nclient_secret = \"secret\"\ninstances = [\"default\"]\n{more}\n"
        )
    };
    format!("listen = \"127.0.0.1:0\"\n{}{}", entry("watcher", &format!("access = \"{access}\"")), entry("crm", ""))
}

/// A client with its token.
struct Caller {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Caller {
    async fn log_in(env: &TestEnv, id: &str) -> Caller {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let base = format!("http://{}", env.tcp_address().await);
        let form = format!("grant_type=client_credentials&client_id={id}&client_secret=secret");
        let login = http.post(format!("{base}/identity/oauth/token")).body(form).send().await.expect("an answer");
        let login: Value = serde_json::from_slice(&login.bytes().await.expect("whole")).expect("JSON");
        Caller { http, base, token: login["access_token"].as_str().expect("a token").to_owned() }
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = self.http.request(method.parse().expect("a method"), format!("{}{path}", self.base));
        let answer = request.bearer_auth(&self.token).body(body.to_owned()).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }
}

#[tokio::test]
async fn a_read_only_client_changes_nothing_by_any_route() {
    let mut env = TestEnv::new(quick()).await;
    env.api = clients("write");
    env.start().await;
    let add = "/v1/jobs?target=leads&filename=people.csv";
    let (status, added) = Caller::log_in(&env, "watcher").await.call("POST", add, &leads(&["a@example.com"])).await;
    assert_eq!(status, 201, "{added}");
    env.ended(marqueue::domain::JobId(1)).await;
    env.terminate().await;
    env.api = clients("read");
    env.start().await;
    let watcher = Caller::log_in(&env, "watcher").await;

    for path in ["/v1/jobs", "/v1/jobs/1", "/v1/jobs/1/file", "/v1/status", "/v1/instances/default/queue"] {
        assert_eq!(watcher.call("GET", path, "").await.0, 200, "{path}");
    }
    assert!(watcher.call("GET", "/v1/jobs", "").await.1.contains("people.csv"));
    let job = watcher.call("GET", "/v1/jobs/1", "").await.1;
    let history = watcher.call("GET", "/v1/jobs/1/history", "").await.1;

    let document: Value = serde_json::from_str(&env.get("/openapi.json").await).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let mut native = 0;
    for (path, operations) in paths.iter().filter(|(path, _)| !path.contains("/identity/")) {
        let values = [("{id}", "1"), ("{name}", "default"), ("{apiName}", "car_c"), ("{programId}", "1044")];
        let address = values.iter().fold(path.clone(), |path, (name, value)| path.replace(name, value));
        for method in operations.as_object().expect("operations").keys().filter(|method| *method != "get") {
            let (status, body) = watcher.call(&method.to_uppercase(), &address, "x").await;
            if path.contains("/bulk/") {
                assert!(body.contains("\"603\"") && body.contains("Access denied"), "{method} {path}: {body}");
                continue;
            }
            native += 1;
            assert_eq!(status, 403, "{method} {path}: {body}");
            let is_local = path.ends_with("/settle") || path.ends_with("/retention");
            assert!(is_local || body.contains("client watcher may see its jobs and change nothing"), "{path}: {body}");
        }
    }
    assert!(native >= 8, "{native}");
    assert_eq!(watcher.call("GET", "/v1/jobs/1", "").await.1, job);
    assert_eq!(watcher.call("GET", "/v1/jobs/1/history", "").await.1, history);
    assert_eq!(env.json("GET", "/v1/status").await.1["instances"]["default"]["pause"], Value::Null);
    // Another client is not affected, and its jobs stay its own.
    let (status, _) = Caller::log_in(&env, "crm").await.call("POST", add, &leads(&["b@example.com"])).await;
    assert_eq!(status, 201);
    assert_eq!(watcher.call("GET", "/v1/jobs/2", "").await.0, 404);
}

#[tokio::test]
async fn a_read_only_client_cannot_change_with_a_session() {
    let mut env = TestEnv::new(quick()).await;
    env.api = clients("read");
    env.start().await;
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
    let http = http.expect("a client");
    let base = format!("http://{}", env.tcp_address().await);
    let login = http.post(format!("{base}/ui/login")).body("client_id=watcher&client_secret=secret");
    let login = login.send().await.expect("an answer");
    let cookie = login.headers()["set-cookie"].to_str().expect("text").split(';').next().expect("a cookie").to_owned();
    let session = http.get(format!("{base}/ui/session")).header("cookie", &cookie).send().await.expect("an answer");
    let session: Value = serde_json::from_slice(&session.bytes().await.expect("whole")).expect("JSON");
    assert_eq!(session["access"], "read");
    let pause = http.post(format!("{base}/v1/instances/default/pause")).header("cookie", &cookie);
    let pause = pause.header("x-csrf-token", session["csrf_token"].as_str().expect("a token"));
    let pause = pause.send().await.expect("an answer");
    assert_eq!(pause.status(), 403);
    assert!(pause.text().await.expect("text").contains("read-only-client"));
}
