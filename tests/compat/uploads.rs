//! Uploads of any size and number, with the parts of the form in any order.

use std::fmt::Write as _;

use bytes::Bytes;
use futures_util::stream;
use marqueue::domain::{Format, JobId, Target};
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::compat_env::{CRM, FORM, Program, env_with_clients, form, json};

const LEADS: &str = "/bulk/v1/leads.json";

#[tokio::test]
async fn forty_concurrent_uploads_get_no_1016() {
    let env = env_with_clients(CRM).await;
    let program = Program::of(&env, "crm").await;
    let uploads = (0..40).map(|n| {
        let program = program.clone();
        async move { program.import(LEADS, &format!("email,x\n{n}@example.com,1\n")).await }
    });
    let ids = futures_util::future::join_all(uploads).await;
    for id in ids {
        let ended = program.ended(&format!("/bulk/v1/leads/batch/{id}.json")).await;
        assert_eq!(ended["result"][0]["numOfLeadsProcessed"], 1, "{ended}");
    }
    let ledger = env.simulator.call_log();
    assert_eq!(ledger.imports.len(), 40, "each was imported, and none twice");
    assert!(ledger.max_queued <= 10 && ledger.max_importing <= 2);
}

/// A file of so many rows with a column that makes them long.
fn long_rows(rows: usize, delimiter: char) -> String {
    let mut file = format!("email{delimiter}notes\n");
    for row in 0..rows {
        writeln!(file, "{row}@example.com{delimiter}{}", "n".repeat(20_000)).expect("writing to text");
    }
    file
}

#[tokio::test]
async fn parameters_may_precede_or_follow_the_file_in_the_form() {
    let env = env_with_clients(CRM).await;
    let program = Program::of(&env, "crm").await;
    let fields = [("format", "tsv"), ("lookupField", "email"), ("listId", "7"), ("partitionName", "EU"), ("else", "1")];
    let target =
        || Target::Leads { lookup_field: Some("email".into()), list_id: Some(7), partition: Some("EU".into()) };
    // One that is in memory as a whole, and one of which a part is on the disk before its end arrives.
    for rows in [1, 60] {
        let file = long_rows(rows, '\t');
        for form in [form(&fields, &file, &[]), form(&[], &file, &fields), form(&fields[..2], &file, &fields[2..])] {
            let (_, answer) = program.upload(LEADS, form).await;
            let id = JobId(answer["result"][0]["batchId"].as_i64().unwrap_or_else(|| panic!("{answer}")));
            let job = env.job(id).await;
            assert_eq!((job.target, job.format, job.rows.total), (target(), Format::Tsv, rows as u64));
            let kept = env.get(&format!("/v1/jobs/{id}/file")).await;
            assert!(kept == file, "the file is kept as it came");
            let ended = program.ended(&format!("/bulk/v1/leads/batch/{id}.json")).await;
            assert_eq!(ended["result"][0]["numOfLeadsProcessed"], rows, "{ended}");
        }
    }
    let members = "/bulk/v1/program/1044/members/import.json";
    let (_, answer) =
        program.upload(members, form(&[], "email,x\na@example.com,1\n", &[("programMemberStatus", "On List")])).await;
    let job = env.job(JobId(answer["result"][0]["batchId"].as_i64().expect("an id"))).await;
    assert_eq!(job.target, Target::ProgramMembers { program_id: 1044, status: "On List".into() });
}

#[tokio::test]
async fn forms_of_talend_and_email_mime_are_accepted() {
    let env = env_with_clients(CRM).await;
    let program = Program::of(&env, "crm").await;
    let file = "email,x\na@example.com,1\n";
    let whole = form(&[("format", "csv")], file, &[]);
    let unclosed = whole.strip_suffix("--\r\n").expect("its end").to_owned();
    let folded = whole.replace("; filename=", ";\r\n filename=");
    assert_ne!(folded, whole);
    for body in [unclosed.clone(), format!("{unclosed}\r\n"), folded] {
        // With a length, and in chunks.
        let pieces: Vec<Result<String, std::io::Error>> = vec![Ok(body.clone())];
        for sent in [reqwest::Body::from(body.clone()), reqwest::Body::wrap_stream(stream::iter(pieces))] {
            let (_, answer) = program.upload(LEADS, sent).await;
            let id = JobId(answer["result"][0]["batchId"].as_i64().unwrap_or_else(|| panic!("{body}: {answer}")));
            assert_eq!(env.get(&format!("/v1/jobs/{id}/file")).await, file);
            assert_eq!(env.job(id).await.filename, "people.csv");
        }
    }
}

#[tokio::test]
async fn a_truncated_form_makes_no_import() {
    let mut env = env_with_clients(CRM).await;
    let program = Program::of(&env, "crm").await;
    let whole = form(&[], "email,x\na@example.com,1\n", &[]);
    let unclosed = whole.strip_suffix("--\r\n").expect("its end");
    let head = format!(
        "POST {LEADS} HTTP/1.1\r\nHost: d\r\nAuthorization: Bearer {}\r\nContent-Type: {FORM}\r\n",
        program.token
    );
    // It looks complete, and more was announced.
    for rest in [
        format!("Content-Length: {}\r\n\r\n{unclosed}", unclosed.len() + 2),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{unclosed}\r\n", unclosed.len()),
    ] {
        let mut raw = tokio::net::TcpStream::connect(env.tcp_address().await).await.expect("the daemon listens");
        raw.write_all(format!("{head}{rest}").as_bytes()).await.expect("it is sent");
        raw.shutdown().await.expect("half closed");
        let mut answer = Vec::new();
        let _reset = raw.read_to_end(&mut answer).await;
        assert!(!String::from_utf8_lossy(&answer).contains("\"success\":true"));
    }
    let own = env.add("target=leads&format=csv", "email,x\nb@example.com,1\n").await;
    env.ended(own.id).await;
    let jobs = env.json("GET", "/v1/jobs").await.1;
    assert_eq!(jobs["jobs"].as_array().expect("jobs").len(), 1, "{jobs}");
}

#[tokio::test]
async fn file_over_marketos_limit_is_one_import_of_many_batches() {
    let env = env_with_clients(CRM).await;
    let program = Program::of(&env, "crm").await;
    let file = long_rows(2_500, ',');
    assert!(file.len() > 50_000_000);
    let before = env.most_memory();
    // Without a length, in pieces.
    let body = form(&[("format", "csv")], &file, &[]).into_bytes();
    let pieces: Vec<Result<Bytes, std::io::Error>> =
        body.chunks(50_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let (_, answer) = program.upload(LEADS, reqwest::Body::wrap_stream(stream::iter(pieces))).await;
    let id = answer["result"][0]["batchId"].as_i64().unwrap_or_else(|| panic!("{answer}"));
    let grown = env.most_memory() - before;
    assert!(grown < 25_000_000, "{grown} bytes more for a file of {}", file.len());
    let ended = program.ended(&format!("/bulk/v1/leads/batch/{id}.json")).await;
    assert_eq!(ended["result"][0]["numOfLeadsProcessed"], 2_500);
    assert_eq!(ended["result"][0]["message"], "Import succeeded, 2500 records imported (2500 members)");
    let batches = env.job(JobId(id)).await.batches.len();
    assert!(batches > 5, "{batches}");
}

#[tokio::test]
async fn uploads_that_marketo_accepts_are_accepted() {
    let env = env_with_clients(CRM).await;
    let program = Program::of(&env, "crm").await;
    // One row is too short and one is blank: on Marketo they fail, and the others don't.
    let id = program.import(LEADS, "email,firstName\na@example.com,Ann\nb@example.com\n\nc@example.com,Cy\n").await;
    let ended = program.ended(&format!("/bulk/v1/leads/batch/{id}.json")).await;
    assert_eq!(
        (&ended["result"][0]["status"], &ended["result"][0]["numOfLeadsProcessed"]),
        (&"Complete".into(), &2.into())
    );
}

#[tokio::test]
async fn a_stop_waits_for_an_upload_over_tcp() {
    let mut env = env_with_clients(CRM).await;
    let program = Program::of(&env, "crm").await;
    let file = long_rows(30, ',');
    let body = form(&[], &file, &[]).into_bytes();
    let (first, rest) = body.split_at(body.len() / 2);
    let (pieces, sent) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let sent = stream::unfold(sent, async |mut sent| sent.recv().await.map(|piece| (piece, sent)));
    let request = program.call(Method::POST, LEADS).header("content-type", FORM);
    let upload = tokio::spawn(request.body(reqwest::Body::wrap_stream(sent)).send());
    pieces.send(Ok(Bytes::copy_from_slice(first))).await.expect("it is sent");
    // The first half is more than one piece, so its row is there before the file is.
    let connection = format!("{}", env.database().display());
    env.until("the upload is under way", async |_| receiving(&connection).await.then_some(())).await;
    env.signal("TERM");
    env.until("the daemon stops", async |env| env.log().contains("stopping: no new uploads").then_some(())).await;
    pieces.send(Ok(Bytes::copy_from_slice(rest))).await.expect("it is sent");
    drop(pieces);
    let (_, answer) = json(upload.await.expect("no panic").expect("an answer")).await;
    let id = answer["result"][0]["batchId"].as_i64().unwrap_or_else(|| panic!("{answer}"));
    let status = env.until("the daemon ends", async |env| env.exited()).await;
    assert!(status.success());
    env.start().await;
    // The daemon listens elsewhere now, and the program logs in there.
    let program = Program::of(&env, "crm").await;
    let ended = program.ended(&format!("/bulk/v1/leads/batch/{id}.json")).await;
    assert_eq!(ended["result"][0]["numOfLeadsProcessed"], 30);
}

/// Whether a file is streaming in.
async fn receiving(database: &str) -> bool {
    use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
    let options = SqliteConnectOptions::new().filename(database).read_only(true);
    let Ok(mut connection) = options.connect().await else { return false };
    let count =
        sqlx::query_scalar("SELECT count(*) FROM job WHERE state = 'receiving'").fetch_one(&mut connection).await;
    count.is_ok_and(|count: i64| count > 0)
}
