//! Retention: expired content is erased, and is then in no file of the database. With the real binary.

use std::fs;
use std::path::PathBuf;

use marqueue::api::dto::JobDto;
use marqueue::domain::JobState;
use marqueue::store::{CHUNK_BYTES, CompressedChunk};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::support::{TestEnv, quick};

/// Rows that no compression makes much of, `!fail` in one of them, and nothing like them is anywhere else.
fn rows(seed: u64, rows: usize) -> Vec<u8> {
    let mut state = seed;
    let mut file = b"email,note\nfirst@example.com,!fail:Bad\n".to_vec();
    for _ in 0..rows {
        for _ in 0..4 {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            file.extend(format!("{state:016x}").bytes());
        }
        file.extend(b"@example.com,\n");
    }
    file
}

/// Pieces of what the database has of this file: of the text itself, and of its first chunk as it is compressed. Many,
/// for one that lies on the edge of a page is not found in one piece.
fn marks(file: &[u8]) -> Vec<Vec<u8>> {
    let chunk = CompressedChunk::compress(0, &file[..file.len().min(CHUNK_BYTES)]).expect("it compresses");
    let plain = file.chunks(1000).skip(1).take(20).map(|piece| piece[..24.min(piece.len())].to_vec());
    let packed =
        chunk.data().chunks(300).skip(1).take(200).filter(|piece| piece.len() > 24).map(|piece| piece[..24].to_vec());
    plain.chain(packed).collect()
}

fn files(env: &TestEnv) -> Vec<PathBuf> {
    let of_database = |path: &PathBuf| path.to_string_lossy().contains("/q.db");
    let all = fs::read_dir(env.folder.path()).expect("the folder can be listed");
    all.map(|file| file.expect("it can be listed").path()).filter(of_database).collect()
}

/// How many of the marks stand in the database's files, whichever they are.
fn found(env: &TestEnv, marks: &[Vec<u8>]) -> usize {
    let mut found = vec![false; marks.len()];
    for path in files(env) {
        let bytes = fs::read(path).unwrap_or_default();
        for (mark, found) in marks.iter().zip(&mut found) {
            *found |= memchr::memmem::find(&bytes, mark).is_some();
        }
    }
    found.into_iter().filter(|found| *found).count()
}

fn space(env: &TestEnv) -> u64 {
    files(env).iter().map(|path| fs::metadata(path).map_or(0, |file| file.len())).sum()
}

async fn complete(env: &mut TestEnv, query: &str, file: &[u8]) -> JobDto {
    let id = env.add(query, file.to_vec()).await.id;
    let job = env.ended(id).await;
    assert_eq!(job.state, JobState::Complete);
    job
}

/// A job that has ended without Marketo's having had any of it.
async fn cancelled(env: &mut TestEnv, file: &[u8]) {
    env.json("POST", "/v1/instances/default/pause").await;
    let id = env.add("target=leads&filename=large.csv", file.to_vec()).await.id;
    env.json("POST", &format!("/v1/jobs/{id}/cancel")).await;
    assert_eq!(env.ended(id).await.state, JobState::Cancelled);
}

async fn refused(env: &TestEnv, method: &str, path: &str) -> (u16, String, String) {
    let (status, problem) = env.json(method, path).await;
    let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    (status, text("type"), text("detail"))
}

#[tokio::test]
async fn upload_that_breaks_off_leaves_nothing_in_the_log() {
    let mut env = TestEnv::with_daemon(quick()).await;
    // More than the pieces that stay in memory.
    let file = rows(3, 20_000);
    let marks = marks(&file);
    let query = "target=leads&filename=a.csv";
    let mut sender = tokio::net::UnixStream::connect(env.socket()).await.expect("the daemon listens");
    let head = format!("POST /v1/jobs?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", file.len() + 9);
    sender.write_all(head.as_bytes()).await.expect("sent");
    sender.write_all(&file).await.expect("sent");
    env.until("it is on the disk", async |env| (found(env, &marks) > 10).then_some(())).await;
    drop(sender);
    env.until("its content is gone", async |env| (found(env, &marks) == 0).then_some(())).await;

    // One that is refused at its end, and one that a kill breaks off.
    let (status, _) = env.request("POST", &format!("/v1/jobs?{query}"), [&file[..], b"one field\n"].concat()).await;
    assert_eq!(status, 422);
    env.until("its content is gone", async |env| (found(env, &marks) == 0).then_some(())).await;
    let mut sender = tokio::net::UnixStream::connect(env.socket()).await.expect("the daemon listens");
    sender.write_all(head.as_bytes()).await.expect("sent");
    sender.write_all(&file).await.expect("sent");
    env.until("it is on the disk", async |env| (found(env, &marks) > 10).then_some(())).await;
    env.kill();
    env.start().await;
    env.until("its content is gone", async |env| (found(env, &marks) == 0).then_some(())).await;
    assert_eq!(env.json("GET", "/v1/jobs").await.1["jobs"], json!([]));
}

#[tokio::test]
async fn erased_content_is_in_no_database_file_and_is_reported() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let (file, other) = (rows(1, 400), rows(2, 400));
    let job = complete(&mut env, "target=leads&filename=a.csv", &file).await;
    complete(&mut env, "target=leads&filename=b.csv", &other).await;
    let marks = (marks(&file), marks(&other));
    assert!(found(&env, &marks.0) > 10, "the test looks for the wrong bytes");

    let (status, would) = env.json("POST", "/v1/jobs/1/erase?dry_run=true").await;
    assert_eq!((status, &would["dry_run"], &would["content_erased_at"]), (200, &json!(true), &Value::Null));
    let reports = job.batches[0].failures_bytes.unwrap() + job.batches[0].warnings_bytes.unwrap_or(0);
    assert_eq!(would["bytes"], json!(file.len() as u64 + reports));
    assert_eq!(env.get("/v1/jobs/1/file").await.into_bytes(), file, "a dry run erases nothing");

    let (status, erased) = env.json("POST", "/v1/jobs/1/erase").await;
    assert_eq!((status, &erased["bytes"], &erased["clean"]), (200, &would["bytes"], &json!(true)));
    assert_eq!(found(&env, &marks.0), 0);
    assert!(found(&env, &marks.1) > 10, "the other job's content is untouched");

    let shown = env.job(job.id).await;
    let at = shown.content_erased_at.unwrap();
    assert_eq!((shown.reports_erased_at, shown.rows), (Some(at), job.rows));
    for (method, path, what) in [
        ("GET", "/v1/jobs/1/file", "content of job 1 was"),
        ("GET", "/v1/jobs/1/failures", "reports of job 1 were"),
        ("GET", "/v1/jobs/1/failures?part=1", "reports of job 1 were"),
        ("POST", "/v1/jobs/1/retry", "content of job 1 was"),
        ("POST", "/v1/jobs/1/retry?rows=failed", "content of job 1 was"),
    ] {
        let problem = refused(&env, method, path).await;
        let detail = format!("the {what} erased at {at:.0}");
        assert_eq!(problem, (410, "urn:marqueue:problem:erased".into(), detail), "{path}");
    }
    let (_, history) = env.json("GET", "/v1/jobs/1/history").await;
    let last: Vec<_> = history["history"].as_array().unwrap().iter().rev().take(2).map(|line| &line["event"]).collect();
    assert_eq!(last, ["reports-erased", "content-erased"]);

    let (status, again) = env.json("POST", "/v1/jobs/1/erase").await;
    assert_eq!((status, &again["bytes"], &again["clean"]), (200, &json!(0), &json!(true)));
    assert_eq!(env.get("/v1/jobs/2/file").await.into_bytes(), other);
    assert_eq!(refused(&env, "POST", "/v1/jobs/9/erase").await.0, 404);
    assert_eq!(refused(&env, "POST", "/v1/jobs/1/erase?dry_run=yes").await.0, 400);
}

#[tokio::test]
async fn a_job_that_has_not_ended_is_not_erased() {
    let mut env = TestEnv::with_daemon(quick()).await;
    env.json("POST", "/v1/instances/default/pause").await;
    let file = rows(3, 10);
    let id = env.add("target=leads&filename=a.csv", file.clone()).await.id;
    let (status, _, detail) = refused(&env, "POST", "/v1/jobs/1/erase").await;
    assert_eq!(status, 409);
    assert_eq!(detail, "job 1 is pending: it can be erased when it has ended, or was cancelled");
    assert_eq!(env.get("/v1/jobs/1/file").await.into_bytes(), file);
    env.json("POST", "/v1/jobs/1/cancel").await;
    assert_eq!(env.json("POST", "/v1/jobs/1/erase").await.0, 200);
    env.json("POST", "/v1/instances/default/resume").await;
    assert_eq!(env.ended(id).await.state, JobState::Cancelled);
}

#[tokio::test]
async fn each_part_of_a_job_expires_at_its_time_the_record_last() {
    let mut env = TestEnv::new(quick()).await;
    // One time after the other comes, so that a slow machine sees the state in between.
    let retention = |files: &str, reports: &str, jobs: &str| {
        format!("\n[retention]\nfiles = \"{files}\"\nreports = \"{reports}\"\njobs = \"{jobs}\"")
    };
    env.config = retention("1ms", "30d", "365d");
    env.start().await;
    let file = rows(4, 200);
    let id = complete(&mut env, "target=leads&filename=a.csv", &file).await.id;
    let path = format!("/v1/jobs/{id}");
    let job = env
        .until("the content is erased", async |env| {
            let job = env.job(id).await;
            job.content_erased_at.map(|_| job)
        })
        .await;
    let (status, _) = env.request("GET", &format!("{path}/failures"), "").await;
    assert_eq!((job.reports_erased_at, status), (None, 200), "the reports stay longer");
    env.terminate().await;
    env.config = retention("1ms", "1ms", "365d");
    env.start().await;
    env.until("the reports are erased", async |env| {
        let (status, _) = env.request("GET", &format!("{path}/failures"), "").await;
        (status == 410).then_some(())
    })
    .await;
    env.terminate().await;
    env.config = retention("1ms", "1ms", "1s");
    env.start().await;
    env.until("the record is gone", async |env| (env.json("GET", &path).await.0 == 404).then_some(())).await;
    let marks = marks(&file);
    env.until("nothing is left of it", async |env| (found(env, &marks) == 0).then_some(())).await;
}

#[tokio::test]
async fn an_idempotency_key_lasts_as_long_as_its_record() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let add = async |env: &TestEnv| {
        let request = reqwest::Client::builder().unix_socket(env.socket()).no_proxy().build().unwrap();
        let answer = request
            .post("http://daemon/v1/jobs?target=leads&filename=a.csv")
            .header("Idempotency-Key", "monday")
            .body(rows(5, 3))
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.json::<JobDto>().await.unwrap())
    };
    let (status, job) = add(&env).await;
    assert_eq!(status, 201);
    env.ended(job.id).await;
    env.json("POST", "/v1/jobs/1/erase").await;
    let (status, same) = add(&env).await;
    assert_eq!((status, same.id, same.content_erased_at.is_some()), (200, job.id, true));

    env.terminate().await;
    env.config = "\n[retention]\njobs = \"1s\"".into();
    env.start().await;
    env.until("the record is gone", async |env| (env.json("GET", "/v1/jobs/1").await.0 == 404).then_some(())).await;
    let (status, new) = add(&env).await;
    assert_eq!((status, new.id.0), (201, 2), "a key whose record is gone is free, and an id never is");
}

#[tokio::test]
async fn dry_run_lists_what_the_next_run_erases() {
    let mut env = TestEnv::new(quick()).await;
    // Long enough for a slow machine to ask before the daemon acts by itself: it waits as long as the shortest of
    // these.
    env.config = "\n[retention]\nfiles = \"20s\"\nreports = \"30d\"\njobs = \"365d\"".into();
    env.start().await;
    let file = rows(6, 50);
    complete(&mut env, "target=leads&filename=a.csv", &file).await;
    let (_, none) = env.json("POST", "/v1/retention?dry_run=true").await;
    assert_eq!((&none["content"]["jobs"], &none["dry_run"]), (&json!(0), &json!(true)));
    env.terminate().await;
    env.config = "\n[retention]\nfiles = \"1ms\"\nreports = \"30d\"\njobs = \"365d\"".into();
    env.start().await;
    let (status, pass) = env.json("POST", "/v1/retention").await;
    assert_eq!((status, &pass["records"]["jobs"]), (200, &json!(0)));
    // By this pass or by the daemon's own.
    env.until("the content is erased", async |env| env.job(marqueue::domain::JobId(1)).await.content_erased_at).await;
    env.until("nothing is left of it", async |env| (found(env, &marks(&file)) == 0).then_some(())).await;
}

#[tokio::test]
async fn the_database_shrinks_while_files_arrive() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let large = rows(7, 300_000);
    cancelled(&mut env, &large).await;
    let marks = marks(&large);
    assert!(found(&env, &marks) > 10, "the test looks for the wrong bytes");
    let before = space(&env);
    assert!(before > 10_000_000, "{before}");
    let socket = env.socket();
    let erasing = tokio::spawn(async move {
        let client = reqwest::Client::builder().unix_socket(socket).no_proxy().build().unwrap();
        client.post("http://daemon/v1/jobs/1/erase").send().await.unwrap().status().as_u16()
    });
    let mut added = 0;
    while !erasing.is_finished() || added == 0 {
        env.add("target=leads&filename=small.csv", "email,note\nsmall@example.com,\n").await;
        added += 1;
    }
    assert_eq!(erasing.await.unwrap(), 200);
    env.until("the space is given back", async |env| (space(env) < before / 4).then_some(())).await;
    env.until("its content is gone", async |env| (found(env, &marks) == 0).then_some(())).await;
}

#[tokio::test]
async fn kill_during_erasure_leaves_nothing_behind() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let large = rows(8, 200_000);
    cancelled(&mut env, &large).await;
    let socket = env.socket();
    let erasing = tokio::spawn(async move {
        let client = reqwest::Client::builder().unix_socket(socket).no_proxy().build().unwrap();
        let _ = client.post("http://daemon/v1/jobs/1/erase").send().await;
    });
    env.until("it is marked", async |env| env.job(marqueue::domain::JobId(1)).await.content_erased_at).await;
    env.kill();
    erasing.await.unwrap();
    env.start().await;
    env.until("the next start ends it", async |env| (found(env, &marks(&large)) == 0).then_some(())).await;
    assert_eq!(refused(&env, "GET", "/v1/jobs/1/file").await.0, 410);
}
