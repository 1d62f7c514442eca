//! The source of a job: which client submitted its file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use marqueue::domain::{JobId, Source};
use serde_json::json;

use crate::compat_env::{CRM, Program};
use crate::support::{TestEnv, binary, leads, quick};

#[tokio::test]
async fn source_is_named_in_the_job_its_history_and_the_log() {
    let mut env = TestEnv::new(quick()).await;
    let drop = env.folder.path().join("drop");
    env.api = format!("listen = \"127.0.0.1:0\"\n{CRM}");
    env.config = format!("[drop]\npath = {drop:?}\nsettle = \"10ms\"\n");
    env.start().await;
    let uid = fs::metadata(env.folder.path()).expect("a folder").uid();

    let by_socket = env.add("target=leads&format=csv", leads(&["a@example.com"])).await;
    assert_eq!(by_socket.source, Some(Source::Socket { uid: Some(uid) }));
    let by_client =
        JobId(Program::of(&env, "crm").await.import("/bulk/v1/leads.json", "email,x\na@x.example,1\n").await);
    fs::write(drop.join("default/leads/people.part"), leads(&["a@example.com"])).expect("a file");
    fs::rename(drop.join("default/leads/people.part"), drop.join("default/leads/people.csv")).expect("moved in");
    let by_drop = env
        .until("the file is taken", async |env| {
            let jobs = env.json("GET", "/v1/jobs").await.1;
            jobs["jobs"]
                .as_array()?
                .iter()
                .find(|job| job["filename"] == "people.csv" && job["source"]["type"] == "drop")
                .cloned()
        })
        .await;
    assert_eq!(by_drop["source"], json!({"type": "drop", "path": "default/leads/people.csv"}));
    let by_drop = JobId(by_drop["id"].as_i64().expect("an id"));

    for (id, words) in [
        (by_socket.id, format!("the socket, user {uid}")),
        (by_client, "client crm".into()),
        (by_drop, "the drop folder, default/leads/people.csv".into()),
    ] {
        let history = env.json("GET", &format!("/v1/jobs/{id}/history")).await.1;
        assert_eq!(history["history"][0]["message"], format!("from {words}"));
        let shown =
            Command::new(binary()).args(["show", &id.to_string()]).env("MARQUEUE_SOCKET", env.socket()).output();
        let shown = String::from_utf8(shown.expect("it runs").stdout).expect("text");
        assert!(shown.lines().any(|line| line == format!("source    {words}")), "{shown}");
        let log = env.log();
        let accepted =
            |line: &&str| line.contains("file accepted") && line.contains(&format!("\"source\":\"{words}\""));
        assert!(log.lines().any(|line| accepted(&line)), "{words}");
    }
}

#[tokio::test]
async fn retry_of_failed_rows_records_its_source_and_link() {
    let mut env = crate::compat_env::env_with_clients(CRM).await;
    let program = Program::of(&env, "crm").await;
    let id = JobId(program.import("/bulk/v1/leads.json", "email,x\na@example.com,!fail:No\n").await);
    assert_eq!(env.ended(id).await.rows.failed, Some(1));
    let (http, theirs) = program.post(&format!("/v1/jobs/{id}/retry?rows=failed")).await;
    assert_eq!((http, &theirs["retry_of"]), (201, &json!(id.0)));
    assert_eq!(theirs["source"], json!({"type": "client", "client_id": "crm"}));
    let (http, ours) = env.json("POST", &format!("/v1/jobs/{id}/retry?rows=failed")).await;
    assert_eq!((http, &ours["retry_of"], &ours["source"]["type"]), (201, &json!(id.0), &json!("socket")));
}
