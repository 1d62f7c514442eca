//! Tests of the simulator over HTTP.

use std::io;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::simulator::call_log::Outcome;
use crate::simulator::{Call, CallLog, Code, Corruption, Fault, FaultEffect, Settings, Simulator, run};

const LEADS: &str = "/bulk/v1/leads.json?format=csv";

/// A simulator and a client that has a token of it.
struct Pair {
    simulator: Simulator,
    client: reqwest::Client,
    token: String,
}

impl Pair {
    async fn new(settings: Settings) -> Pair {
        rustls::crypto::ring::default_provider().install_default().ok();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let simulator = Simulator::start(listener, settings).unwrap();
        let mut pair = Pair { simulator, client: reqwest::Client::new(), token: String::new() };
        pair.token = pair.login().await;
        pair
    }

    async fn login(&self) -> String {
        let form = [("grant_type", "client_credentials"), ("client_id", "simulator"), ("client_secret", "secret")];
        let answer = self.client.post(self.url("/identity/oauth/token")).form(&form).send().await.unwrap();
        let token: Value = answer.json().await.unwrap();
        token["access_token"].as_str().unwrap().to_owned()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.simulator.base_url())
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path)).bearer_auth(&self.token)
    }

    fn upload(&self, path: &str, file: &str) -> RequestBuilder {
        self.send_form(path, "name=\"file\"; filename=\"a.csv\"", "text/csv", file)
    }

    fn send_form(&self, path: &str, disposition: &str, kind: &str, file: &str) -> RequestBuilder {
        self.call(Method::POST, path).header("content-type", "multipart/form-data; boundary=xyz").body(form(
            disposition,
            kind,
            file,
        ))
    }

    async fn get(&self, path: &str) -> Value {
        json(self.call(Method::GET, path)).await
    }

    /// What comes back to these bytes, until the other side closes.
    async fn raw(&self, request: &str) -> Vec<u8> {
        let address = self.simulator.base_url().strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end as well.
        stream.read_to_end(&mut answer).await.ok();
        answer
    }

    fn raw_upload(&self, file: &str) -> String {
        let body = form("name=\"file\"; filename=\"a.csv\"", "text/csv", file);
        format!(
            "POST {LEADS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\nContent-Type: \
             multipart/form-data; boundary=xyz\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        )
    }
}

fn form(disposition: &str, kind: &str, file: &str) -> String {
    format!(
        "--xyz\r\nContent-Disposition: form-data; {disposition}\r\nContent-Type: {kind}\r\n\r\n{file}\r\n--xyz--\r\n"
    )
}

async fn json(request: RequestBuilder) -> Value {
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

async fn code(request: RequestBuilder) -> String {
    let body = json(request).await;
    assert_eq!(body["success"], false, "{body}");
    body["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
}

fn quick() -> Settings {
    Settings { import_base: Duration::ZERO, import_per_row: Duration::ZERO, ..Settings::default() }
}

#[tokio::test]
async fn leads_are_imported_and_reported() {
    let pair = Pair::new(quick()).await;
    let file = "email,x\na@b.c,\nb@b.c,!fail:No\nnobody,\n";
    let receipt = json(pair.upload(LEADS, file)).await;
    let id = receipt["result"][0]["batchId"].as_u64().unwrap();
    assert_eq!(receipt["result"][0]["importId"], id.to_string());
    assert!(receipt["requestId"].as_str().unwrap().contains('#'));

    let ended = pair.get(&format!("/bulk/v1/leads/batch/{id}.json")).await;
    assert_eq!(
        ended["result"][0],
        json!({"batchId": id, "importId": id.to_string(), "status": "Complete", "numOfLeadsProcessed": 2,
            "numOfRowsFailed": 1, "numOfRowsWithWarning": 1,
            "message": "Import completed with errors, 2 records imported (2 members), 1 failed, 1 warning."})
    );
    for (name, expected) in [
        ("failures", "email,x,Import Failure Reason\nb@b.c,!fail:No,No\n"),
        ("warnings", "email,Import Warning Reason\nnobody,Invalid email address\n"),
    ] {
        let path = format!("/bulk/v1/leads/batch/{id}/{name}.json");
        let answer = pair.call(Method::GET, &path).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/csv;charset=UTF-8");
        assert_eq!(answer.text().await.unwrap(), expected);
    }
}

#[tokio::test]
async fn an_import_records_its_first_status_call() {
    let pair = Pair::new(quick()).await;
    for file in ["email\na@b.c\n", "email\nb@b.c\n"] {
        json(pair.upload(LEADS, file)).await;
    }
    let asked = || pair.simulator.call_log().imports.iter().map(|import| import.asked.is_some()).collect::<Vec<_>>();
    assert_eq!(asked(), [false, false]);
    // The client has the id, also where its query is refused.
    pair.simulator.push_fault(Fault::on(Call::Status, FaultEffect::http(500)));
    assert_eq!(status(pair.call(Method::GET, "/bulk/v1/leads/batch/1002.json")).await, 500);
    assert_eq!(status(pair.call(Method::GET, "/bulk/v1/leads/batch/1003.json")).await, 200);
    assert_eq!(asked(), [false, true]);
}

#[tokio::test]
async fn a_fault_can_edit_the_import_in_a_response() {
    let pair = Pair::new(quick()).await;
    pair.simulator.push_fault(Fault::on(Call::Create, FaultEffect::edit(json!({"batchId": "..", "importId": null}))));
    let receipt = json(pair.upload(LEADS, "email\na@b.c\n")).await;
    assert_eq!(receipt["result"][0], json!({"batchId": "..", "status": "Importing"}));
    let edit = json!({"numOfLeadsProcessed": 7, "numOfRowsFailed": null, "status": "Paused"});
    pair.simulator.push_fault(Fault::on(Call::Status, FaultEffect::edit(edit)));
    let id = pair.simulator.call_log().imports[0].id;
    let path = format!("/bulk/v1/leads/batch/{id}.json");
    let response = pair.get(&path).await;
    assert_eq!(response["success"], true);
    let import = &response["result"][0];
    assert_eq!((&import["status"], &import["numOfLeadsProcessed"]), (&json!("Paused"), &json!(7)));
    assert_eq!((import.get("numOfRowsFailed"), &import["numOfRowsWithWarning"]), (None, &json!(0)));
    assert_eq!(pair.get(&path).await["result"][0]["status"], "Complete");
}

#[tokio::test]
async fn a_lost_clients_connection_stays_open_until_its_call_ends() {
    let pair = Pair::new(quick()).await;
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    let open = |pair: &Pair| pair.simulator.connections();
    let before = open(&pair);
    let begun = client.get(pair.url("/bulk/v1/leads/batch/1.json"));
    pair.simulator.push_fault(Fault::on(Call::Status, FaultEffect::delay(Duration::from_secs(3600))));
    let asking = tokio::spawn(begun.bearer_auth(&pair.token).send());
    while pair.simulator.call_log().calls_of(Call::Status) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(open(&pair), before + 1);
    asking.abort();
    while open(&pair) > before {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn custom_objects_and_program_members_have_paths_of_their_own() {
    let pair = Pair::new(quick()).await;
    let boats = json(pair.upload("/bulk/v1/customobjects/boat_c/import.json?format=csv", "hull\n1\n")).await;
    let id = boats["result"][0]["batchId"].as_u64().unwrap();
    assert_eq!(boats["result"][0].get("importId"), None);
    let ended = pair.get(&format!("/bulk/v1/customobjects/boat_c/import/{id}/status.json")).await;
    assert_eq!(ended["result"][0]["numOfObjectsProcessed"], 1);
    assert_eq!(ended["result"][0]["operation"], "import");
    for name in ["failures", "warnings"] {
        let path = format!("/bulk/v1/customobjects/boat_c/import/{id}/{name}.json");
        assert_eq!(status(pair.call(Method::GET, &path)).await, 404);
    }

    let path = "/bulk/v1/program/1044/members/import.json?format=ssv&programMemberStatus=On%20List";
    let members = json(pair.upload(path, "email;x\na@b.c;1\n")).await;
    let id = members["result"][0]["batchId"].as_u64().unwrap();
    let ended = pair.get(&format!("/bulk/v1/program/members/import/{id}/status.json")).await;
    assert_eq!(ended["result"][0]["numOfLeadsProcessed"], 1);
    for name in ["failures", "warnings"] {
        let path = format!("/bulk/v1/program/members/import/{id}/{name}.json");
        assert_eq!(pair.call(Method::GET, &path).send().await.unwrap().text().await.unwrap(), "");
    }
    let create = &pair.simulator.call_log().creates[1];
    assert_eq!(create.query["programMemberStatus"], "On List");
    assert_eq!(create.path, "/bulk/v1/program/1044/members/import.json");
}

#[tokio::test]
async fn tokens_need_the_credentials_by_get_and_post() {
    let pair = Pair::new(quick()).await;
    let ask = |secret| {
        let path =
            format!("/identity/oauth/token?grant_type=client_credentials&client_id=simulator&client_secret={secret}");
        pair.client.get(pair.url(&path))
    };
    assert_eq!(json(ask("secret")).await["access_token"], pair.token);
    let refused = ask("wrong").send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.json::<Value>().await.unwrap()["error"], "invalid_client");
    let call_log = pair.simulator.call_log();
    assert_eq!((call_log.calls_of(Call::Token), call_log.errors_of("http 401")), (3, 1));
    assert_eq!(call_log.max_calls_in_window, 0);
}

#[tokio::test]
async fn only_a_valid_token_in_the_header_is_accepted() {
    let pair = Pair::new(quick()).await;
    let path = "/bulk/v1/leads/batch/1.json";
    assert_eq!(code(pair.client.get(pair.url(path))).await, "601");
    let in_query = pair.url(&format!("{path}?access_token={}", pair.token));
    assert_eq!(code(pair.client.get(in_query)).await, "601");
    assert_eq!(code(pair.call(Method::GET, path)).await, "1013");
    pair.simulator.revoke_tokens();
    assert_eq!(code(pair.call(Method::GET, path)).await, "601");
    let expiring = Pair::new(Settings { token_life: Duration::ZERO, ..quick() }).await;
    assert_eq!(code(expiring.call(Method::GET, path)).await, "602");
}

#[tokio::test]
async fn lenient_mode_accepts_requests_of_older_clients() {
    let pair = Pair::new(Settings { lenient: true, ..quick() }).await;
    let field = |name: &str, value: &str| {
        format!("--xyz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let rows = form("name=\"file\"; filename=\"a.csv\"", "text/plain", "email\na@b.c\n");
    let upload = |url: String, body: String| {
        pair.client.post(url).header("content-type", "multipart/form-data; boundary=xyz").body(body)
    };
    let url = pair.url("/bulk/v1/leads.json");
    let whole = format!("{}{}{rows}", field("access_token", &pair.token), field("format", "csv"));
    assert_eq!(json(upload(url.clone(), whole)).await["success"], true);
    let in_query = format!("{url}?format=csv&access_token={}", pair.token);
    assert_eq!(json(upload(in_query, rows.clone())).await["success"], true);
    assert_eq!(code(upload(format!("{url}?format=csv"), rows.clone())).await, "601");
    let wrong = format!("{}{rows}", field("access_token", "wrong"));
    assert_eq!(code(upload(format!("{url}?format=csv"), wrong)).await, "601");
    assert_eq!(pair.simulator.call_log().accepted().count(), 2);
}

#[tokio::test]
async fn a_wrong_path_or_method_is_refused() {
    let pair = Pair::new(quick()).await;
    assert_eq!(code(pair.upload("/rest/bulk/v1/leads.json?format=csv", "email\na@b.c\n")).await, "610");
    assert_eq!(code(pair.call(Method::GET, LEADS)).await, "605");
    assert_eq!(code(pair.call(Method::POST, "/bulk/v1/leads/batch/1.json").body("")).await, "605");
    let doubled = pair.raw("GET //bulk/v1/leads.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(doubled.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&doubled));
}

#[tokio::test]
async fn a_wrong_body_is_refused() {
    let pair = Pair::new(Settings { max_body: 1000, ..quick() }).await;
    let file = "email\na@b.c\n";
    for (disposition, kind) in [
        ("name=\"data\"; filename=\"a.csv\"", "text/csv"),
        ("name=\"file\"", "text/csv"),
        ("name=\"file\"; filename=\"a.csv\"", "application/octet-stream"),
    ] {
        assert_eq!(code(pair.send_form(LEADS, disposition, kind, file)).await, "1003", "{disposition} {kind}");
    }
    assert_eq!(code(pair.call(Method::POST, LEADS).body("email\n")).await, "1003");
    assert_eq!(code(pair.upload(LEADS, "")).await, "1003");
    assert_eq!(code(pair.upload(LEADS, "\u{feff}email\na@b.c\n")).await, "1006");
    assert_eq!(status(pair.upload(LEADS, &format!("email\n{}", "a".repeat(1_000_000)))).await, 413);
    let chunks = futures_util::stream::iter([Ok::<_, io::Error>(file)]);
    let chunked = pair.call(Method::POST, LEADS).body(reqwest::Body::wrap_stream(chunks));
    assert_eq!(status(chunked).await, 411);
    let call_log = pair.simulator.call_log();
    assert_eq!((call_log.creates.len(), call_log.accepted().count(), call_log.errors_of("http 413")), (8, 0, 1));
}

#[tokio::test]
async fn the_largest_body_is_accepted() {
    let pair = Pair::new(quick()).await;
    let frame = form("name=\"file\"; filename=\"a.csv\"", "text/csv", "").len();
    let file = |size: usize| format!("email,x\na@b.c,{}", "x".repeat(size - frame - 14));
    assert_eq!(json(pair.upload(LEADS, &file(10_000_000))).await["success"], true);
    assert_eq!(status(pair.upload(LEADS, &file(10_000_001))).await, 413);
    assert_eq!(pair.simulator.call_log().creates[0].body_bytes, 10_000_000);
}

#[tokio::test]
async fn too_many_calls_are_606_and_are_counted_by_kind() {
    let pair = Pair::new(Settings { calls: 2, ..quick() }).await;
    let path = "/bulk/v1/leads/batch/1.json";
    for expected in ["1013", "1013", "606"] {
        assert_eq!(code(pair.call(Method::GET, path)).await, expected);
    }
    assert_eq!(code(pair.upload(LEADS, "email\na@b.c\n")).await, "606");
    let call_log = pair.simulator.call_log();
    assert_eq!((call_log.calls_of(Call::Status), call_log.errors_of("606"), call_log.max_calls_in_window), (3, 2, 4));
    assert_eq!(call_log.creates.len(), 1);
}

#[tokio::test]
async fn too_many_concurrent_calls_are_615_until_one_ends() {
    let pair = Pair::new(Settings { concurrent_calls: 1, ..quick() }).await;
    pair.simulator.push_fault(Fault::on(Call::Status, FaultEffect::delay(Duration::from_secs(3600))));
    let path = "/bulk/v1/leads/batch/1.json";
    let slow = tokio::spawn(pair.call(Method::GET, path).send());
    while pair.simulator.call_log().calls_of(Call::Status) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(code(pair.call(Method::GET, path)).await, "615");
    slow.abort();
    while code(pair.call(Method::GET, path)).await == "615" {}
    assert_eq!(pair.simulator.call_log().max_concurrent_calls, 2);
}

#[tokio::test]
async fn lost_requests_and_answers_close_the_connection() {
    let pair = Pair::new(quick()).await;
    let upload = pair.raw_upload("email\na@b.c\n");
    pair.simulator.push_fault(Fault::on(Call::Create, FaultEffect::LoseRequest));
    pair.simulator.push_fault(Fault::on(Call::Create, FaultEffect::LoseAnswer));
    assert_eq!(pair.raw(&upload).await, b"");
    let call_log = pair.simulator.call_log();
    assert_eq!((call_log.lost_requests, call_log.creates.len(), call_log.imports.len()), (1, 0, 0));
    assert_eq!(pair.raw(&upload).await, b"");
    let call_log = pair.simulator.call_log();
    assert!(matches!(call_log.creates[0].outcome, Outcome::Accepted(_)) && call_log.creates[0].answer_lost);
    assert_eq!(call_log.imports.len(), 1);
    assert!(pair.raw(&upload).await.starts_with(b"HTTP/1.1 200"));
    pair.simulator.push_fault(Fault::on(Call::Create, FaultEffect::LoseAnswer));
    assert!(pair.upload(LEADS, "email\na@b.c\n").send().await.is_err());
}

#[tokio::test]
async fn a_response_is_corrupted_after_the_call_was_executed() {
    let pair = Pair::new(quick()).await;
    for how in [Corruption::Empty, Corruption::Cut, Corruption::Torn] {
        pair.simulator.push_fault(Fault::on(Call::Create, FaultEffect::Garble(how)));
    }
    let upload = || pair.upload(LEADS, "email\na@b.c\n").send();
    assert_eq!(upload().await.unwrap().text().await.unwrap(), "");
    let cut = upload().await.unwrap().text().await.unwrap();
    assert!(cut.starts_with('{') && serde_json::from_str::<Value>(&cut).is_err(), "{cut}");
    let torn = pair.raw(&pair.raw_upload("email\na@b.c\n")).await;
    let torn = String::from_utf8_lossy(&torn);
    let (head, body) = torn.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert!(body.starts_with('{') && body.len() < length.parse().unwrap(), "{torn}");
    let call_log = pair.simulator.call_log();
    assert_eq!(call_log.accepted().filter(|create| create.answer_lost).count(), 3);
}

#[tokio::test]
async fn an_error_can_replace_the_call_or_follow_it() {
    let pair = Pair::new(quick()).await;
    let error = |code, executed| FaultEffect::Error { code, message: "So it is".into(), executed };
    for effect in [
        error(None, false),
        error(Some(Code::Number(615)), false),
        error(Some(Code::Text("713".into())), true),
        FaultEffect::Http { status: 502, executed: true },
        FaultEffect::http(503),
    ] {
        pair.simulator.push_fault(Fault::on(Call::Create, effect));
    }
    let upload = || pair.upload(LEADS, "email\na@b.c\n");
    assert_eq!(json(upload()).await["errors"][0], json!({"message": "So it is"}));
    assert_eq!(json(upload()).await["errors"][0]["code"], 615);
    assert_eq!(code(upload()).await, "713");
    assert_eq!([status(upload()).await, status(upload()).await], [502, 503]);
    let call_log = pair.simulator.call_log();
    assert_eq!((call_log.creates.len(), call_log.imports.len()), (5, 2));
    assert_eq!(["no code", "615", "713", "http 502", "http 503"].map(|name| call_log.errors_of(name)), [1; 5]);
}

#[tokio::test]
async fn a_report_can_be_delayed() {
    let pair = Pair::new(quick()).await;
    let receipt = json(pair.upload(LEADS, "email\n!fail:No\n")).await;
    let path = format!("/bulk/v1/leads/batch/{}/failures.json", receipt["result"][0]["batchId"]);
    pair.simulator.push_fault(Fault::on(Call::Failures, FaultEffect::http(404)).times(2));
    let ask = || status(pair.call(Method::GET, &path));
    assert_eq!([ask().await, ask().await, ask().await], [404, 404, 200]);
}

#[tokio::test]
async fn scripts_can_read_and_control_the_simulator() {
    let pair = Pair::new(quick()).await;
    let post = |path, body: Value| pair.client.post(pair.url(path)).json(&body);
    assert_eq!(status(post("/simulator/foreign", json!({"imports": 10}))).await, 200);
    assert_eq!(code(pair.upload(LEADS, "email\na@b.c\n")).await, "1016");
    let fault = json!({"call": "create", "effect": {"error": {"code": "1019", "message": "Busy"}}});
    assert_eq!(status(post("/simulator/faults", fault)).await, 200);
    assert_eq!(status(post("/simulator/faults", json!({"call": "all"}))).await, 400);
    assert_eq!(code(pair.upload(LEADS, "email\na@b.c\n")).await, "1019");
    let call_log: CallLog = pair.client.get(pair.url("/simulator/ledger")).send().await.unwrap().json().await.unwrap();
    assert_eq!((call_log.max_queued, call_log.errors_of("1016"), call_log.errors_of("1019")), (10, 1, 1));
    assert_eq!(call_log.calls_of(Call::Other), 0);
}

#[tokio::test]
async fn a_stopped_simulator_closes_its_listener_and_calls() {
    let pair = Pair::new(quick()).await;
    pair.simulator.push_fault(Fault::on(Call::Status, FaultEffect::delay(Duration::from_secs(3600))));
    let slow = tokio::spawn(pair.call(Method::GET, "/bulk/v1/leads/batch/1.json").send());
    while pair.simulator.call_log().calls_of(Call::Status) == 0 {
        tokio::task::yield_now().await;
    }
    let url = pair.url(LEADS);
    pair.simulator.stop().await;
    assert!(slow.await.unwrap().is_err());
    assert!(pair.client.get(url).send().await.is_err());
}

#[tokio::test]
async fn runs_until_cancelled_and_reports_a_failed_listen() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let cancel = CancellationToken::new();
    assert!(run(&address, quick(), cancel.clone()).await.is_err());
    drop(taken);
    let running = tokio::spawn(run("127.0.0.1:0", quick(), cancel.clone()).into_future());
    cancel.cancel();
    running.await.unwrap().unwrap();
}
