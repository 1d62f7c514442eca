//! Batches that depend on each other: in order, behind a canary, and up to a percentage of failed rows.

use std::fmt::Write as _;
use std::fs;

use marqueue::domain::{BatchState, JobState};
use serde_json::json;

use crate::cli_env::CliEnv;
use crate::support::{TestEnv, quick};

const LEADS: &str = "target=leads&format=csv";

/// A file of so many rows, of which those in `failing` fail. Each upload of `small_uploads` has ten of them.
fn file(rows: usize, failing: impl Fn(usize) -> bool) -> String {
    let mut text = String::from("email,firstName\n");
    for row in 0..rows {
        let name = if failing(row) { "!fail:Not this one" } else { "Ann Example Name" };
        writeln!(text, "somebody-{row:04}@example.com,{name:<40}").expect("it is text");
    }
    text
}

/// Uploads have room for few rows, so that a file has many batches.
fn small_uploads(more: &str) -> String {
    format!("{more}limits = {{ calls = 5000, window = \"1s\", upload_bytes = 1000 }}\n")
}

async fn env(more: &str) -> TestEnv {
    let mut env = TestEnv::new(quick()).await;
    env.config = small_uploads(more);
    env.start().await;
    env
}

#[tokio::test]
async fn batches_in_order_are_never_on_marketo_together() {
    let mut env = env("").await;
    let job = env.add(&format!("{LEADS}&in_order=true"), file(60, |_| false)).await;
    assert!(job.in_order && job.batches.len() > 3, "{job:?}");
    let job = env.ended(job.id).await;
    assert_eq!((job.state, job.rows.processed), (JobState::Complete, Some(60)));
    let log = env.simulator.call_log();
    assert_eq!((log.creates.len(), log.max_queued), (job.batches.len(), 1));
    for pair in job.batches.windows(2) {
        assert!(pair[0].ended_at <= pair[1].uploaded_at, "{pair:?}");
    }
}

#[tokio::test]
async fn canary_has_its_rows_and_goes_alone() {
    let mut env = env("").await;
    let job = env.add(&format!("{LEADS}&canary=3"), file(60, |_| false)).await;
    assert_eq!((job.canary, job.batches[0].rows.total), (Some(3), 3));
    assert!(job.batches.len() > 3);
    let job = env.ended(job.id).await;
    assert_eq!((job.state, job.rows.processed), (JobState::Complete, Some(60)));
    let first = &job.batches[0];
    assert!(job.batches[1..].iter().all(|batch| first.ended_at <= batch.uploaded_at), "{job:?}");
}

#[tokio::test]
async fn bad_canary_stops_the_job_with_its_figures() {
    let mut env = env("").await;
    let job = env.add(&format!("{LEADS}&canary=4&max_failed_percent=25"), file(60, |row| row < 2)).await;
    let job = env.ended(job.id).await;
    assert_eq!(job.state, JobState::Failed);
    let error = job.error.clone().expect("a reason");
    assert!(error.contains("2 of the 4 rows") && error.contains("max_failed_percent is 25"), "{error}");
    assert_eq!(job.batches[0].state, BatchState::Complete);
    assert!(job.batches[1..].iter().all(|batch| batch.state == BatchState::Cancelled));
    assert_eq!(env.simulator.call_log().creates.len(), 1, "nothing behind the canary was sent");
    // A retry sends the rest, whatever fails.
    assert_eq!(env.json("POST", &format!("/v1/jobs/{}/retry", job.id)).await.0, 200);
    let job = env.ended(job.id).await;
    assert_eq!((job.state, job.rows.processed, job.rows.failed), (JobState::Complete, Some(58), Some(2)));
    assert_eq!(job.max_failed_percent, None);
}

#[tokio::test]
async fn defaults_of_the_instance_apply_to_every_interface() {
    let mut env = env("canary = 2\nmax_failed_percent = 10\n").await;
    let drop = env.folder.path().join("drop");
    env.kill();
    env.config += &format!("[drop]\npath = {drop:?}\nsettle = \"10ms\"\n");
    env.start().await;
    let native = env.add(LEADS, file(5, |_| false)).await;
    assert_eq!((native.canary, native.max_failed_percent, native.batches.len()), (Some(2), Some(10), 2));
    let own = env.add(&format!("{LEADS}&canary=0&max_failed_percent=100"), file(5, |_| false)).await;
    assert_eq!((own.canary, own.max_failed_percent, own.batches.len()), (None, None, 1));
    let folder = drop.join("default/leads");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("job.toml"), "canary = 3\nin_order = true\n").expect("options");
    fs::write(folder.join("a.part"), file(5, |_| false)).expect("a file");
    fs::rename(folder.join("a.part"), folder.join("a.csv")).expect("it is renamed");
    let dropped = env
        .until("the dropped file is a job", async |env| {
            let page = env.json("GET", "/v1/jobs?source=drop").await.1;
            page["jobs"].as_array().and_then(|jobs| jobs.first().cloned())
        })
        .await;
    assert_eq!(dropped["canary"], json!(3));
    assert_eq!((&dropped["in_order"], &dropped["max_failed_percent"]), (&json!(true), &json!(10)));
    for wrong in ["canary=-1", "max_failed_percent=101", "in_order=yes"] {
        let path = format!("/v1/jobs?{LEADS}&{wrong}");
        let (status, body) = env.request("POST", &path, file(1, |_| false)).await;
        assert_eq!(status, 400, "{}", String::from_utf8_lossy(&body));
    }
}

#[test]
fn add_accepts_the_batch_rules_as_options() {
    let mut cli = CliEnv::new();
    cli.env.kill();
    cli.env.config = small_uploads("");
    cli.start();
    cli.file("people.csv", &file(60, |row| row < 3));
    let ran = cli.run("add leads people.csv --canary 10 --max-failed-percent 20 --in-order --wait");
    let ran = ran.expect(1);
    assert!(ran.out.contains("3 of the 10 rows of its complete batches failed"), "{ran:?}");
    cli.run("retry 1").expect(0);
    cli.run("wait 1").expect(4);
    for wrong in ["--canary x", "--max-failed-percent 101"] {
        cli.run(&format!("add leads people.csv {wrong}")).expect(2);
    }
}
