//! Is erased what was kept for long enough, and is it then in no file of the database? With the real binary.

use std::fs;
use std::path::PathBuf;

use marqueue::domain::JobState;
use marqueue::store::Job;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::support::{Town, quick};

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
    let chunk = zstd::bulk::compress(&file[..file.len().min(256 * 1024)], 1).expect("it compresses");
    let plain = file.chunks(1000).skip(1).take(20).map(|piece| piece[..24.min(piece.len())].to_vec());
    let packed = chunk.chunks(300).skip(1).take(200).filter(|piece| piece.len() > 24).map(|piece| piece[..24].to_vec());
    plain.chain(packed).collect()
}

fn files(town: &Town) -> Vec<PathBuf> {
    let of_database = |path: &PathBuf| path.to_string_lossy().contains("/q.db");
    let all = fs::read_dir(town.folder.path()).expect("the folder can be listed");
    all.map(|file| file.expect("it can be listed").path()).filter(of_database).collect()
}

/// How many of the marks stand in the database's files, whichever they are.
fn found(town: &Town, marks: &[Vec<u8>]) -> usize {
    let mut found = vec![false; marks.len()];
    for path in files(town) {
        let bytes = fs::read(path).unwrap_or_default();
        for (mark, found) in marks.iter().zip(&mut found) {
            *found |= memchr::memmem::find(&bytes, mark).is_some();
        }
    }
    found.into_iter().filter(|found| *found).count()
}

fn space(town: &Town) -> u64 {
    files(town).iter().map(|path| fs::metadata(path).map_or(0, |file| file.len())).sum()
}

async fn complete(town: &mut Town, query: &str, file: &[u8]) -> Job {
    let id = town.add(query, file.to_vec()).await.id;
    let job = town.ended(id).await;
    assert_eq!(job.state, JobState::Complete);
    job
}

/// A job that has ended without Marketo's having had any of it.
async fn cancelled(town: &mut Town, file: &[u8]) {
    town.json("POST", "/v1/instances/default/pause").await;
    let id = town.add("target=leads&filename=large.csv", file.to_vec()).await.id;
    town.json("POST", &format!("/v1/jobs/{id}/cancel")).await;
    assert_eq!(town.ended(id).await.state, JobState::Cancelled);
}

async fn refused(town: &Town, method: &str, path: &str) -> (u16, String, String) {
    let (status, problem) = town.json(method, path).await;
    let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    (status, text("type"), text("detail"))
}

#[tokio::test]
async fn upload_that_breaks_off_leaves_nothing_in_the_log() {
    let mut town = Town::with_daemon(quick()).await;
    // More than the pieces that stay in memory.
    let file = rows(3, 20_000);
    let marks = marks(&file);
    let query = "target=leads&filename=a.csv";
    let mut sender = tokio::net::UnixStream::connect(town.socket()).await.expect("the daemon listens");
    let head = format!("POST /v1/jobs?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", file.len() + 9);
    sender.write_all(head.as_bytes()).await.expect("sent");
    sender.write_all(&file).await.expect("sent");
    town.until("it is on the disk", async |town| (found(town, &marks) > 10).then_some(())).await;
    drop(sender);
    town.until("its content is gone", async |town| (found(town, &marks) == 0).then_some(())).await;

    // One that is refused at its end, and one that a kill breaks off.
    let (status, _) = town.request("POST", &format!("/v1/jobs?{query}"), [&file[..], b"one field\n"].concat()).await;
    assert_eq!(status, 422);
    town.until("its content is gone", async |town| (found(town, &marks) == 0).then_some(())).await;
    let mut sender = tokio::net::UnixStream::connect(town.socket()).await.expect("the daemon listens");
    sender.write_all(head.as_bytes()).await.expect("sent");
    sender.write_all(&file).await.expect("sent");
    town.until("it is on the disk", async |town| (found(town, &marks) > 10).then_some(())).await;
    town.kill();
    town.start().await;
    town.until("its content is gone", async |town| (found(town, &marks) == 0).then_some(())).await;
    assert_eq!(town.json("GET", "/v1/jobs").await.1["jobs"], json!([]));
}

#[tokio::test]
async fn what_is_erased_is_in_no_file_of_the_database_and_everything_says_so() {
    let mut town = Town::with_daemon(quick()).await;
    let (file, other) = (rows(1, 400), rows(2, 400));
    let job = complete(&mut town, "target=leads&filename=a.csv", &file).await;
    complete(&mut town, "target=leads&filename=b.csv", &other).await;
    let marks = (marks(&file), marks(&other));
    assert!(found(&town, &marks.0) > 10, "the test looks for the wrong bytes");

    let (status, would) = town.json("POST", "/v1/jobs/1/erase?dry_run=true").await;
    assert_eq!((status, &would["dry_run"], &would["content_erased_at"]), (200, &json!(true), &Value::Null));
    let reports = job.batches[0].failures_bytes.unwrap() + job.batches[0].warnings_bytes.unwrap_or(0);
    assert_eq!(would["bytes"], json!(file.len() as u64 + reports));
    assert_eq!(town.get("/v1/jobs/1/file").await.into_bytes(), file, "a dry run erases nothing");

    let (status, erased) = town.json("POST", "/v1/jobs/1/erase").await;
    assert_eq!((status, &erased["bytes"], &erased["clean"]), (200, &would["bytes"], &json!(true)));
    assert_eq!(found(&town, &marks.0), 0);
    assert!(found(&town, &marks.1) > 10, "the other job's content is untouched");

    let shown = town.job(job.id).await;
    let at = shown.content_erased_at.unwrap();
    assert_eq!((shown.reports_erased_at, shown.rows), (Some(at), job.rows));
    for (method, path, what) in [
        ("GET", "/v1/jobs/1/file", "content of job 1 was"),
        ("GET", "/v1/jobs/1/failures", "reports of job 1 were"),
        ("GET", "/v1/jobs/1/failures?part=1", "reports of job 1 were"),
        ("POST", "/v1/jobs/1/retry", "content of job 1 was"),
        ("POST", "/v1/jobs/1/retry?rows=failed", "content of job 1 was"),
    ] {
        let said = refused(&town, method, path).await;
        let detail = format!("the {what} erased at {at:.0}");
        assert_eq!(said, (410, "urn:marqueue:problem:erased".into(), detail), "{path}");
    }
    let (_, history) = town.json("GET", "/v1/jobs/1/history").await;
    let last: Vec<_> = history["history"].as_array().unwrap().iter().rev().take(2).map(|line| &line["event"]).collect();
    assert_eq!(last, ["reports-erased", "content-erased"]);

    let (status, again) = town.json("POST", "/v1/jobs/1/erase").await;
    assert_eq!((status, &again["bytes"], &again["clean"]), (200, &json!(0), &json!(true)));
    assert_eq!(town.get("/v1/jobs/2/file").await.into_bytes(), other);
    assert_eq!(refused(&town, "POST", "/v1/jobs/9/erase").await.0, 404);
    assert_eq!(refused(&town, "POST", "/v1/jobs/1/erase?dry_run=yes").await.0, 400);
}

#[tokio::test]
async fn a_job_that_has_not_ended_is_not_erased() {
    let mut town = Town::with_daemon(quick()).await;
    town.json("POST", "/v1/instances/default/pause").await;
    let file = rows(3, 10);
    let id = town.add("target=leads&filename=a.csv", file.clone()).await.id;
    let (status, _, detail) = refused(&town, "POST", "/v1/jobs/1/erase").await;
    assert_eq!(status, 409);
    assert_eq!(detail, "job 1 is pending: it can be erased when it has ended, or was cancelled");
    assert_eq!(town.get("/v1/jobs/1/file").await.into_bytes(), file);
    town.json("POST", "/v1/jobs/1/cancel").await;
    assert_eq!(town.json("POST", "/v1/jobs/1/erase").await.0, 200);
    town.json("POST", "/v1/instances/default/resume").await;
    assert_eq!(town.ended(id).await.state, JobState::Cancelled);
}

#[tokio::test]
async fn each_part_of_a_job_goes_when_its_time_is_over_and_the_record_last() {
    let mut town = Town::new(quick()).await;
    town.config = "\n[retention]\nfiles = \"1500ms\"\nreports = \"3s\"\njobs = \"5s\"".into();
    town.start().await;
    let file = rows(4, 200);
    let id = complete(&mut town, "target=leads&filename=a.csv", &file).await.id;
    let path = format!("/v1/jobs/{id}");
    let job = town
        .until("the content is erased", async |town| {
            let job = town.job(id).await;
            job.content_erased_at.map(|_| job)
        })
        .await;
    let (status, _) = town.request("GET", &format!("{path}/failures"), "").await;
    assert_eq!((job.reports_erased_at, status), (None, 200), "the reports stay longer");
    town.until("the reports are erased", async |town| {
        let (status, _) = town.request("GET", &format!("{path}/failures"), "").await;
        (status == 410).then_some(())
    })
    .await;
    town.until("the record is gone", async |town| (town.json("GET", &path).await.0 == 404).then_some(())).await;
    let marks = marks(&file);
    town.until("nothing is left of it", async |town| (found(town, &marks) == 0).then_some(())).await;
}

#[tokio::test]
async fn a_key_stands_for_its_job_as_long_as_the_record_does() {
    let mut town = Town::with_daemon(quick()).await;
    let add = async |town: &Town| {
        let request = reqwest::Client::builder().unix_socket(town.socket()).no_proxy().build().unwrap();
        let answer = request
            .post("http://daemon/v1/jobs?target=leads&filename=a.csv")
            .header("Idempotency-Key", "monday")
            .body(rows(5, 3))
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.json::<Job>().await.unwrap())
    };
    let (status, job) = add(&town).await;
    assert_eq!(status, 201);
    town.ended(job.id).await;
    town.json("POST", "/v1/jobs/1/erase").await;
    let (status, same) = add(&town).await;
    assert_eq!((status, same.id, same.content_erased_at.is_some()), (200, job.id, true));

    town.terminate().await;
    town.config = "\n[retention]\njobs = \"1s\"".into();
    town.start().await;
    town.until("the record is gone", async |town| (town.json("GET", "/v1/jobs/1").await.0 == 404).then_some(())).await;
    let (status, new) = add(&town).await;
    assert_eq!((status, new.id.0), (201, 2), "a key whose record is gone is free, and an id never is");
}

#[tokio::test]
async fn a_dry_run_says_what_a_pass_would_erase_and_the_pass_erases_it() {
    let mut town = Town::new(quick()).await;
    // Long enough for a slow machine to ask before the daemon acts by itself: it waits as long as the shortest of these.
    town.config = "\n[retention]\nfiles = \"20s\"\nreports = \"30d\"\njobs = \"365d\"".into();
    town.start().await;
    let file = rows(6, 50);
    complete(&mut town, "target=leads&filename=a.csv", &file).await;
    let (_, none) = town.json("POST", "/v1/retention?dry_run=true").await;
    assert_eq!((&none["content"]["jobs"], &none["dry_run"]), (&json!(0), &json!(true)));
    town.terminate().await;
    town.config = "\n[retention]\nfiles = \"1ms\"\nreports = \"30d\"\njobs = \"365d\"".into();
    town.start().await;
    let (status, pass) = town.json("POST", "/v1/retention").await;
    assert_eq!((status, &pass["records"]["jobs"]), (200, &json!(0)));
    // By this pass or by the daemon's own.
    town.until("the content is erased", async |town| town.job(marqueue::domain::JobId(1)).await.content_erased_at)
        .await;
    town.until("nothing is left of it", async |town| (found(town, &marks(&file)) == 0).then_some(())).await;
}

#[tokio::test]
async fn the_database_gets_smaller_while_files_go_on_coming_in() {
    let mut town = Town::with_daemon(quick()).await;
    let large = rows(7, 300_000);
    cancelled(&mut town, &large).await;
    let marks = marks(&large);
    assert!(found(&town, &marks) > 10, "the test looks for the wrong bytes");
    let before = space(&town);
    assert!(before > 10_000_000, "{before}");
    let socket = town.socket();
    let erasing = tokio::spawn(async move {
        let client = reqwest::Client::builder().unix_socket(socket).no_proxy().build().unwrap();
        client.post("http://daemon/v1/jobs/1/erase").send().await.unwrap().status().as_u16()
    });
    let mut added = 0;
    while !erasing.is_finished() || added == 0 {
        town.add("target=leads&filename=small.csv", "email,note\nsmall@example.com,\n").await;
        added += 1;
    }
    assert_eq!(erasing.await.unwrap(), 200);
    town.until("the space is given back", async |town| (space(town) < before / 4).then_some(())).await;
    assert_eq!(found(&town, &marks), 0);
}

#[tokio::test]
async fn a_daemon_that_is_killed_in_the_middle_leaves_nothing_for_good() {
    let mut town = Town::with_daemon(quick()).await;
    let large = rows(8, 200_000);
    cancelled(&mut town, &large).await;
    let socket = town.socket();
    let erasing = tokio::spawn(async move {
        let client = reqwest::Client::builder().unix_socket(socket).no_proxy().build().unwrap();
        let _ = client.post("http://daemon/v1/jobs/1/erase").send().await;
    });
    town.until("it is marked", async |town| town.job(marqueue::domain::JobId(1)).await.content_erased_at).await;
    town.kill();
    erasing.await.unwrap();
    town.start().await;
    town.until("the next start ends it", async |town| (found(town, &marks(&large)) == 0).then_some(())).await;
    assert_eq!(refused(&town, "GET", "/v1/jobs/1/file").await.0, 410);
}
