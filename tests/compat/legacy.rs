//! Tokens outside the header: as a field of the form, before the file or behind it, and in the query.

use bytes::Bytes;
use futures_util::stream;
use marqueue::domain::{JobId, Source};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::compat_env::{CRM, FORM, Program, WEB, code, env_with_clients, form, json as read};
use crate::support::{TestEnv, quick};

const LEADS: &str = "/bulk/v1/leads.json";
const FILE: &str = "email,x\na@example.com,1\n";

/// A program whose token stands in no header, and that token.
async fn without_header(env: &TestEnv, id: &str) -> (Program, String) {
    let mut program = Program::of(env, id).await;
    let token = std::mem::take(&mut program.token);
    (program, token)
}

/// A file of at least so many bytes.
fn long(bytes: usize) -> String {
    let row = format!("b@example.com,{}\n", "n".repeat(10_000));
    format!("email,x\n{}", row.repeat(bytes / row.len() + 1))
}

fn batch(answer: &Value) -> JobId {
    JobId(answer["result"][0]["batchId"].as_i64().unwrap_or_else(|| panic!("{answer}")))
}

/// The numbers of jobs, chunks of content, and lines of histories: a form that is stored adds some. The database's files
/// also change by the daemon's own work, for example when it truncates the WAL after its start.
async fn stored(env: &TestEnv) -> (i64, i64, i64) {
    let options = SqliteConnectOptions::new().filename(env.database()).read_only(true);
    let mut conn = options.connect().await.expect("a connection");
    let counts = "SELECT (SELECT count(*) FROM job), (SELECT count(*) FROM chunk), (SELECT count(*) FROM history)";
    let counts = sqlx::query_as(counts).fetch_one(&mut conn).await.expect("the counts");
    conn.close().await.expect("it closes");
    counts
}

fn message(answer: &Value) -> &str {
    answer["errors"][0]["message"].as_str().expect("a message")
}

/// An upload of which the test decides what is sent and when.
struct Slow {
    pieces: mpsc::Sender<Result<Bytes, std::io::Error>>,
    answer: JoinHandle<Result<reqwest::Response, reqwest::Error>>,
}

impl Slow {
    async fn with(program: &Program, first: &str) -> Slow {
        let (pieces, sent) = mpsc::channel(1);
        let body = stream::unfold(sent, async |mut sent| sent.recv().await.map(|piece| (piece, sent)));
        let request = program.call(Method::POST, LEADS).header("content-type", FORM);
        let answer = tokio::spawn(request.body(reqwest::Body::wrap_stream(body)).send());
        let slow = Slow { pieces, answer };
        slow.send(first).await;
        slow
    }

    async fn send(&self, piece: &str) {
        self.pieces.send(Ok(Bytes::copy_from_slice(piece.as_bytes()))).await.expect("it is sent");
    }

    async fn end(self, last: &str) -> (u16, Value) {
        self.send(last).await;
        drop(self.pieces);
        read(self.answer.await.expect("no panic").expect("an answer")).await
    }
}

#[tokio::test]
async fn a_form_token_is_accepted_before_or_behind_the_file() {
    let mut env = env_with_clients(CRM).await;
    let (program, token) = without_header(&env, "crm").await;
    let (token, tsv) = (("access_token", token.as_str()), ("format", "csv"));
    for file in [FILE.to_owned(), long(3_000_000)] {
        for form in [
            form(&[token, tsv], &file, &[]),
            form(&[tsv, token], &file, &[]),
            form(&[], &file, &[token]),
            form(&[tsv], &file, &[("lookupField", "email"), token, ("listId", "7")]),
        ] {
            let (http, answer) = program.upload(LEADS, form).await;
            assert_eq!((http, &answer["success"]), (200, &json!(true)), "{answer}");
            let job = env.job(batch(&answer)).await;
            assert_eq!(job.source, Some(Source::Client { client_id: "crm".into() }));
            assert!(env.get(&format!("/v1/jobs/{}/file", job.id)).await == file, "the file is kept as it came");
            env.ended(job.id).await;
        }
    }
    for create in env.simulator.call_log().creates {
        assert!(create.query.keys().all(|name| name != "access_token"), "{create:?}");
    }
}

#[tokio::test]
async fn a_token_in_the_query_is_accepted_for_every_call() {
    let env = env_with_clients(CRM).await;
    let (program, token) = without_header(&env, "crm").await;
    let (_, answer) = program.upload(&format!("{LEADS}?access_token={token}&format=csv"), form(&[], FILE, &[])).await;
    let id = batch(&answer);
    let status = format!("/bulk/v1/leads/batch/{id}.json?access_token={token}");
    program.ended(&status).await;
    assert_eq!(program.file(&format!("/bulk/v1/leads/batch/{id}/failures.json?access_token={token}")).await.0, 200);
    let twice = program.get(&format!("{status}&access_token=another")).await.1;
    assert_eq!(code(&twice), "601");
    // Where the header has one, that counts and no other.
    let wrong = Program { token: "made-up".into(), ..program.clone() };
    assert_eq!(code(&wrong.get(&status).await.1), "601");
    // The native API is not Marketo's.
    assert_eq!(program.get(&format!("/v1/jobs/{id}?access_token={token}")).await.0, 401);
    for create in env.simulator.call_log().creates {
        assert!(create.query.keys().all(|name| name != "access_token"), "{create:?}");
    }
}

#[tokio::test]
async fn each_legacy_client_is_logged_once_without_its_token() {
    let mut env = TestEnv::new(quick()).await;
    env.environment.push(("RUST_LOG", "trace".into()));
    env.api = format!("listen = \"127.0.0.1:0\"\n{CRM}{WEB}");
    let mut tokens = Vec::new();
    for start in 1..=2 {
        env.start().await;
        for id in ["crm", "web"] {
            let (program, token) = without_header(&env, id).await;
            let status = |id: JobId| format!("/bulk/v1/leads/batch/{id}.json?access_token={token}");
            let (_, answer) = program.upload(LEADS, form(&[], FILE, &[("access_token", &token)])).await;
            program.ended(&status(batch(&answer))).await;
            program.upload(LEADS, form(&[("access_token", "leaked-field")], FILE, &[])).await;
            program.get("/bulk/v1/leads/batch/1.json?access_token=leaked-query").await;
            program.get("/bulk/v1/nothing?access_token=leaked-query").await;
            let field = format!("\"client_id\":\"{id}\"");
            let log = env.log();
            let lines = log.lines().filter(|line| line.contains("outside the header") && line.contains(&field));
            let lines: Vec<&str> = lines.collect();
            assert_eq!(lines.len(), start, "{lines:?}");
            assert!(lines.iter().all(|line| line.contains("\"WARN\"")), "{lines:?}");
            tokens.push(token);
        }
        env.terminate().await;
    }
    let log = env.log();
    assert!(log.contains("\"TRACE\""), "everything is written");
    for secret in tokens.iter().map(String::as_str).chain(["leaked-field", "leaked-query"]) {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn legacy_tokens_off_is_explained_by_601() {
    let env = env_with_clients(&format!("legacy_tokens = false\n{CRM}")).await;
    let (program, token) = without_header(&env, "crm").await;
    let behind = form(&[], FILE, &[("access_token", &token)]);
    let in_query = format!("?access_token={token}");
    for answer in [
        program.upload(LEADS, behind).await.1,
        program.upload(&format!("{LEADS}{in_query}"), form(&[], FILE, &[])).await.1,
        program.get(&format!("/bulk/v1/leads/batch/1.json{in_query}")).await.1,
        Program::on_socket(&env).get(&format!("/bulk/v1/leads/batch/1.json{in_query}")).await.1,
    ] {
        assert_eq!(code(&answer), "601");
        assert!(message(&answer).contains("Authorization") && message(&answer).contains("legacy_tokens"), "{answer}");
    }
    let refused = |line: &&str| line.contains("api.legacy_tokens") && line.contains("\"client_id\":\"crm\"");
    assert_eq!(env.log().lines().filter(refused).count(), 1);
    let with_header = Program { token, ..program };
    with_header.import(LEADS, FILE).await;
}

#[tokio::test]
async fn no_form_content_is_stored_before_its_token() {
    let env = env_with_clients(CRM).await;
    let (program, _) = without_header(&env, "crm").await;
    let file = long(8_000_000);
    let whole = form(&[], &file, &[("access_token", "made-up")]);
    let token_at = whole.find("made-up").expect("it is there");
    let before = stored(&env).await;
    // All but the token has been sent when this returns, and more than the sockets between can hold.
    let upload = Slow::with(&program, &whole[..token_at]).await;
    upload.send("made").await;
    assert_eq!(stored(&env).await, before);
    let (http, answer) = upload.end(&whole[token_at + 4..]).await;
    assert_eq!((http, code(&answer)), (200, "601"));
    assert_eq!(env.json("GET", "/v1/jobs").await.1["jobs"], json!([]));
    assert_eq!(stored(&env).await, before);
    // The right one is: this check can tell the difference.
    let (program, token) = without_header(&env, "crm").await;
    program.upload(LEADS, form(&[], &file, &[("access_token", &token)])).await;
    assert_ne!(stored(&env).await, before);
}

#[tokio::test]
async fn eleven_megabytes_without_a_token_are_601() {
    let env = env_with_clients(CRM).await;
    let (program, token) = without_header(&env, "crm").await;
    let field = ("access_token", token.as_str());
    let (large, larger) = (long(10_800_000), long(11_200_000));
    let (_, answer) = program.upload(LEADS, form(&[], &larger, &[field])).await;
    assert_eq!(code(&answer), "601");
    assert!(message(&answer).contains("11000000 bytes"), "{answer}");
    for form in [form(&[], &large, &[field]), form(&[field], &larger, &[])] {
        let (_, answer) = program.upload(LEADS, form).await;
        assert_eq!(answer["success"], true, "{answer}");
    }
}

#[tokio::test]
async fn four_forms_wait_for_their_token_and_a_fifth_gets_601() {
    let mut env = env_with_clients(CRM).await;
    let (program, token) = without_header(&env, "crm").await;
    let whole = form(&[], FILE, &[("access_token", &token)]);
    let (first, rest) =
        whole.split_at(whole.find("--a-boundary\r\nContent-Disposition: form-data; name=\"acc").unwrap());
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(Slow::with(&program, first).await);
    }
    let fifth = program.clone();
    env.until("the fifth finds no place", async |_| {
        let (_, answer) = fifth.upload(LEADS, form(&[], FILE, &[])).await;
        assert_eq!(code(&answer), "601");
        message(&answer).contains("4 forms").then_some(())
    })
    .await;
    // A form with its token before the file needs no place.
    let (_, answer) = program.upload(LEADS, form(&[("access_token", &token)], FILE, &[])).await;
    assert_eq!(answer["success"], true, "{answer}");
    for upload in waiting {
        let (_, answer) = upload.end(rest).await;
        assert_eq!(answer["success"], true, "{answer}");
    }
    let (_, answer) = program.upload(LEADS, whole).await;
    assert_eq!(answer["success"], true, "{answer}");
}

#[tokio::test]
async fn a_token_in_a_form_over_the_socket_is_checked() {
    let env = env_with_clients(CRM).await;
    let token = Program::of(&env, "crm").await.token;
    let socket = Program::on_socket(&env);
    for file in [FILE.to_owned(), long(2_000_000)] {
        for (form, expected) in [
            (form(&[("access_token", &token)], &file, &[]), Some("crm")),
            (form(&[], &file, &[("access_token", &token)]), Some("crm")),
            (form(&[], &file, &[("access_token", "")]), None),
        ] {
            let (_, answer) = socket.upload(LEADS, form).await;
            let source = env.job(batch(&answer)).await.source.expect("a source");
            assert_eq!(source.client_id(), expected);
        }
        let before = env.json("GET", "/v1/jobs").await;
        for form in [form(&[("access_token", "made-up")], &file, &[]), form(&[], &file, &[("access_token", "made-up")])]
        {
            assert_eq!(code(&socket.upload(LEADS, form).await.1), "601");
        }
        let ids = |page: &Value| page["jobs"].as_array().expect("jobs").len();
        assert_eq!(ids(&env.json("GET", "/v1/jobs").await.1), ids(&before.1));
    }
}

#[tokio::test]
async fn a_bad_form_is_not_reported_without_a_valid_token() {
    let env = env_with_clients(CRM).await;
    let (program, _) = without_header(&env, "crm").await;
    let good = form(&[], FILE, &[]);
    for body in [
        String::new(),
        "no form".into(),
        good.replace("name=\"file\"", "name=\"other\""),
        good[..good.len() - 6].to_owned(),
        form(&[], "", &[]),
        form(&[("access_token", "")], FILE, &[("access_token", "made-up")]),
        form(&[("x", &"v".repeat(5_000))], FILE, &[]),
    ] {
        let (http, answer) = program.upload(LEADS, body.clone()).await;
        assert_eq!((http, code(&answer), message(&answer)), (200, "601", "Access token invalid"), "{body}");
    }
    for path in ["/bulk/v1/customobjects/car%20c/import.json", "/instances/nowhere/bulk/v1/leads.json"] {
        assert_eq!(code(&program.upload(path, good.clone()).await.1), "601", "{path}");
    }
}
