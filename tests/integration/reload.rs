//! Does SIGHUP change what can change while the daemon runs, and leave alone what can't?

use std::fs;
use std::process::Command;

use marqueue::domain::JobState;
use serde_json::Value;

use crate::support::{Town, leads, quick};

fn hang_up(town: &Town) {
    let sent = Command::new("kill").args(["-HUP", &town.pid().to_string()]).status().expect("kill runs");
    assert!(sent.success());
}

/// Writes the configuration with more lines for the instance, and has it read.
fn reload(town: &mut Town, config: &str) {
    config.clone_into(&mut town.config);
    town.write_config();
    hang_up(town);
}

async fn limit(town: &Town) -> Value {
    town.json("GET", "/v1/status").await.1["instances"]["default"]["slots"]["limit"].clone()
}

async fn until_logged(town: &mut Town, line: &str) {
    town.until(line, async |town| town.log().contains(line).then_some(())).await;
}

#[tokio::test]
async fn a_lower_limit_holds_from_the_next_upload_on() {
    let mut town = Town::with_daemon(quick()).await;
    assert_eq!(limit(&town).await, 10);
    reload(&mut town, "limits = { calls = 5000, window = \"1s\", importing = 1, upload_bytes = 1000 }");
    town.until("one at a time", async |town| (limit(town).await == 1).then_some(())).await;
    let rows: Vec<String> = (0..120).map(|row| format!("somebody-{row}@example.com")).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let job = town.add("target=leads&filename=l.csv", leads(&rows)).await;
    assert!(job.batches.len() > 3, "cut by the new upload_bytes: {}", job.batches.len());
    let job = town.ended(job.id).await;
    assert_eq!((job.state, job.rows.processed), (JobState::Complete, Some(120)));
    let ledger = town.simulator.call_log();
    assert_eq!(ledger.most_queued, 1);
    assert!(ledger.creates.iter().all(|create| create.body_bytes <= 1000));
}

#[tokio::test]
async fn new_credentials_end_the_pause_that_the_old_ones_brought_about() {
    let mut town = Town::new(quick()).await;
    town.write_config();
    let wrong = fs::read_to_string(town.config_file()).unwrap().replace("\"secret\"", "\"a wrong one\"");
    town.start().await;
    fs::write(town.config_file(), &wrong).unwrap();
    hang_up(&town);
    until_logged(&mut town, "the configuration was read again").await;
    let job = town.add("target=leads&filename=l.csv", leads(&["a@example.com"])).await;
    town.until("the pause", async |town| {
        let status = town.json("GET", "/v1/status").await.1;
        (status["instances"]["default"]["pause"]["kind"] == "credentials").then_some(())
    })
    .await;
    reload(&mut town, "");
    assert_eq!(town.ended(job.id).await.state, JobState::Complete);
}

#[tokio::test]
async fn a_wrong_file_changes_nothing_and_what_needs_a_restart_is_named() {
    let mut town = Town::with_daemon(quick()).await;
    reload(&mut town, "limits = { queued = 11 }");
    until_logged(&mut town, "the old one stays in force").await;
    assert!(town.log().contains("queued"), "the key is named");
    assert_eq!(limit(&town).await, 10);

    town.api = "max_file_bytes = 5".to_owned();
    reload(&mut town, "limits = { queued = 9, calls = 5000, window = \"1s\" }");
    until_logged(&mut town, "some changes wait for a restart").await;
    until_logged(&mut town, "the configuration was read again").await;
    assert_eq!(limit(&town).await, 9);
    let job = town.add("target=leads&filename=l.csv", leads(&["a@example.com"])).await;
    assert_eq!(town.ended(job.id).await.state, JobState::Complete);
}
