//! Reloading by SIGHUP: what can change while the daemon runs changes, and the rest stays.

use std::fs;

use marqueue::domain::JobState;
use serde_json::Value;

use crate::support::{TestEnv, leads, quick};

/// Writes the configuration with more lines for the instance, and has it read.
fn reload(env: &mut TestEnv, config: &str) {
    config.clone_into(&mut env.config);
    env.write_config();
    env.signal("HUP");
}

async fn limit(env: &TestEnv) -> Value {
    env.json("GET", "/v1/status").await.1["instances"]["default"]["slots"]["limit"].clone()
}

async fn until_logged(env: &mut TestEnv, line: &str) {
    env.until(line, async |env| env.log().contains(line).then_some(())).await;
}

#[tokio::test]
async fn a_lower_limit_applies_to_the_next_upload() {
    let mut env = TestEnv::with_daemon(quick()).await;
    assert_eq!(limit(&env).await, 10);
    reload(&mut env, "limits = { calls = 5000, window = \"1s\", importing = 1, upload_bytes = 1000 }");
    env.until("one at a time", async |env| (limit(env).await == 1).then_some(())).await;
    let rows: Vec<String> = (0..120).map(|row| format!("somebody-{row}@example.com")).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let job = env.add("target=leads&filename=l.csv", leads(&rows)).await;
    assert!(job.batches.len() > 3, "cut by the new upload_bytes: {}", job.batches.len());
    let job = env.ended(job.id).await;
    assert_eq!((job.state, job.rows.processed), (JobState::Complete, Some(120)));
    let ledger = env.simulator.call_log();
    assert_eq!(ledger.max_queued, 1);
    assert!(ledger.creates.iter().all(|create| create.body_bytes <= 1000));
}

#[tokio::test]
async fn new_credentials_end_the_pause_of_refused_ones() {
    let mut env = TestEnv::new(quick()).await;
    env.write_config();
    let wrong = fs::read_to_string(env.config_file()).unwrap().replace("\"secret\"", "\"a wrong one\"");
    env.start().await;
    fs::write(env.config_file(), &wrong).unwrap();
    env.signal("HUP");
    until_logged(&mut env, "the configuration was read again").await;
    let job = env.add("target=leads&filename=l.csv", leads(&["a@example.com"])).await;
    env.until("the pause", async |env| {
        let status = env.json("GET", "/v1/status").await.1;
        (status["instances"]["default"]["pause"]["kind"] == "credentials").then_some(())
    })
    .await;
    reload(&mut env, "");
    assert_eq!(env.ended(job.id).await.state, JobState::Complete);
}

#[tokio::test]
async fn resume_reads_the_secret_file_again() {
    let mut env = TestEnv::new(quick()).await;
    env.write_config();
    let secret = env.folder.path().join("secret");
    let inline = fs::read_to_string(env.config_file()).unwrap();
    let in_file = inline.replace("client_secret = \"secret\"", &format!("client_secret_file = {secret:?}"));
    env.start().await;
    fs::write(&secret, "a wrong one\n").unwrap();
    fs::write(env.config_file(), &in_file).unwrap();
    env.signal("HUP");
    until_logged(&mut env, "the configuration was read again").await;
    let job = env.add("target=leads&filename=l.csv", leads(&["a@example.com"])).await;
    let paused = async |env: &mut TestEnv| {
        env.until("the pause", async |env| {
            let status = env.json("GET", "/v1/status").await.1;
            (status["instances"]["default"]["pause"]["kind"] == "credentials").then_some(())
        })
        .await;
    };
    paused(&mut env).await;

    // The same secret: the answer says so, and what to do.
    let (status, resumed) = env.json("POST", "/v1/instances/default/resume").await;
    let note = format!(
        "the client secret is the one that Marketo refused: write the new one into {} and resume again",
        secret.display()
    );
    assert_eq!((status, resumed["note"].as_str()), (200, Some(&note[..])));
    paused(&mut env).await;

    let mut command = std::process::Command::new(crate::support::binary());
    let ran = command.arg("--socket").arg(env.socket()).arg("resume").output().expect("it runs");
    let out = String::from_utf8_lossy(&ran.stdout);
    assert!(out.starts_with("instance default: the client secret is the one that Marketo refused"), "{ran:?}");
    paused(&mut env).await;

    fs::remove_file(&secret).unwrap();
    let resumed = env.json("POST", "/v1/instances/default/resume").await.1;
    let note = resumed["note"].as_str().expect("a note");
    assert!(note.contains("still used") && note.contains("cannot be read"), "{note}");
    paused(&mut env).await;

    fs::write(&secret, "secret\n").unwrap();
    let (status, resumed) = env.json("POST", "/v1/instances/default/resume").await;
    assert_eq!((status, &resumed["note"]), (200, &serde_json::Value::Null));
    assert_eq!(env.ended(job.id).await.state, JobState::Complete);
}

#[tokio::test]
async fn wrong_file_changes_nothing_and_restart_keys_are_named() {
    let mut env = TestEnv::with_daemon(quick()).await;
    reload(&mut env, "limits = { queued = 11 }");
    until_logged(&mut env, "the old one stays in force").await;
    assert!(env.log().contains("queued"), "the key is named");
    assert_eq!(limit(&env).await, 10);

    env.api = "max_file_bytes = 5".to_owned();
    reload(&mut env, "limits = { queued = 9, calls = 5000, window = \"1s\" }");
    until_logged(&mut env, "some changes need a restart").await;
    until_logged(&mut env, "the configuration was read again").await;
    assert_eq!(limit(&env).await, 9);
    let job = env.add("target=leads&filename=l.csv", leads(&["a@example.com"])).await;
    assert_eq!(env.ended(job.id).await.state, JobState::Complete);
}
