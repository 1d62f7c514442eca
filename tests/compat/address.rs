//! Addresses as programs build them: with extra slashes, with dots, with `/rest`. Raw requests, since HTTP clients
//! normalize what they send.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::compat_env::{CRM, FORM, Program, code, env_with_clients, form};
use crate::support::TestEnv;

/// Status, type and body of the answer to a request whose line and headers are written as they are here.
async fn raw(env: &TestEnv, line: &str, headers: &str, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(env.tcp_address().await).await.expect("the daemon listens");
    let head =
        format!("{line} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{line}: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
    (status, kind.to_owned(), body.to_owned())
}

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or(Value::Null)
}

#[tokio::test]
async fn an_address_with_slashes_dots_or_rest_is_accepted() {
    let env = env_with_clients(CRM).await;
    let bearer = format!("Authorization: Bearer {}\r\n", Program::of(&env, "crm").await.token);
    let login = "grant_type=client_credentials&client_id=crm&client_secret=crm-secret-4711";
    for base in ["/", "//", "/rest", "/rest/", "/instances/default/", "//instances/default/rest", "/rest/.."] {
        let (http, _, token) = raw(&env, &format!("GET {base}/identity/oauth/token?{login}"), "", "").await;
        assert_eq!((http, &parsed(&token)["scope"]), (200, &json!("crm")), "{base}: {token}");
        let head = format!("{bearer}Content-Type: {FORM}\r\n");
        let upload = form(&[], "email,x\na@example.com,1\n", &[]);
        let (http, _, answer) = raw(&env, &format!("POST {base}/bulk/v1/leads.json?format=csv"), &head, &upload).await;
        let id = parsed(&answer)["result"][0]["batchId"].as_i64().unwrap_or_else(|| panic!("{base}: {answer}"));
        assert_eq!(http, 200);
        let status = format!("GET {base}/bulk//v1/leads/batch/{id}.json");
        assert_eq!(parsed(&raw(&env, &status, &bearer, "").await.2)["success"], true, "{base}");
    }
}

#[tokio::test]
async fn a_raw_blank_in_the_query_is_accepted() {
    let env = env_with_clients(CRM).await;
    let bearer = format!("Authorization: Bearer {}\r\n", Program::of(&env, "crm").await.token);
    let head = format!("{bearer}Content-Type: {FORM}\r\n");
    let upload = form(&[], "email,x\na@example.com,1\n", &[]);
    let create = "POST /bulk/v1/program/1044/members/import.json?format=csv&programMemberStatus=On List";
    let (http, _, answer) = raw(&env, create, &head, &upload).await;
    assert_eq!((http, &parsed(&answer)["success"]), (200, &json!(true)), "{answer}");
    let id = parsed(&answer)["result"][0]["batchId"].as_i64().expect("an id");
    let job = serde_json::to_value(env.job(marqueue::domain::JobId(id)).await).expect("a job is JSON");
    assert_eq!(job["target"]["status"], "On List", "{job}");
}

/// Talend asks so over a connection that it keeps, and ends its job at anything but HTTP 200.
#[tokio::test]
async fn a_raw_blank_is_accepted_in_each_request_of_a_connection() {
    let env = env_with_clients(CRM).await;
    let mut stream = TcpStream::connect(env.tcp_address().await).await.expect("the daemon listens");
    for _ in 0..3 {
        let request = "GET /rest/v1/activities/pagingtoken.json?access_token=x&sinceDatetime=2017-01-01 00:00:00 HTTP/1.1\r\n\
                       accept: text/json\r\nHost: d\r\nConnection: keep-alive\r\n\r\n";
        let (first, second) = request.split_at(70);
        for piece in [first, second] {
            stream.write_all(piece.as_bytes()).await.expect("it is sent");
            stream.flush().await.expect("it is sent");
        }
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let mut bytes = [0; 1024];
            let length = stream.read(&mut bytes).await.expect("an answer");
            assert!(length > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&bytes[..length]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn every_error_on_a_path_of_marketos_has_its_shape() {
    let env = env_with_clients(CRM).await;
    let bearer = format!("Authorization: Bearer {}\r\n", Program::of(&env, "crm").await.token);
    for path in [
        "/identity",
        "/identity/",
        "/identity/oauth/tokens",
        "//identity/oauth",
        "/bulk",
        "/bulk/",
        "/bulk/../v1/jobs",
        "/bulk/%2e%2e/metrics",
        "/rest",
        "/rest/v1/leads.json",
        "/rest/../v1/status",
        "/rest/../../bulk/v1/leads.json",
        "/instances",
        "/instances/default",
        "/instances/default/v1/jobs",
        "/instances/default/../../bulk/v1/leads.json",
        "/instances/../v1/jobs",
        "/bulk/v1/leads.json/",
    ] {
        for (headers, expected) in [("", "601"), (bearer.as_str(), "610")] {
            for method in ["GET", "POST", "DELETE"] {
                let (http, kind, body) = raw(&env, &format!("{method} {path}"), headers, "").await;
                assert_eq!((http, code(&parsed(&body))), (200, expected), "{method} {path}: {body}");
                assert_eq!(kind, "application/json;charset=UTF-8", "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn the_native_api_is_matched_exactly() {
    let env = env_with_clients(CRM).await;
    let bearer = format!("Authorization: Bearer {}\r\n", Program::of(&env, "crm").await.token);
    for (path, http) in [
        ("/v1/jobs", 200),
        ("//v1/jobs", 404),
        ("/v1//jobs", 404),
        ("/v1/../v1/jobs", 404),
        ("/./v1/jobs", 404),
        ("//metrics", 404),
        ("/v1/../bulk/v1/leads.json", 404),
        ("//healthz", 404),
    ] {
        assert_eq!(raw(&env, &format!("GET {path}"), &bearer, "").await.0, http, "{path}");
    }
}
