//! Metrics: `/metrics` counts what happens, is valid Prometheus text, and has every metric that the examples use.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use marqueue::domain::JobState;

use crate::support::{TestEnv, quick};

/// The samples by name and labels, as they stand in the text.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

async fn scrape(env: &TestEnv) -> BTreeMap<String, f64> {
    samples(&env.get("/metrics").await)
}

#[tokio::test]
async fn counters_and_gauges_show_events_and_state() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let before = scrape(&env).await;
    assert!(!before.contains_key("marqueue_credentials_ok{instance=\"default\"}"), "they have not been used yet");
    let file = "email,note\na@example.com,\nb@example.com,!fail:Bad\nc@example.com,!warn:Hm\n";
    let id = env.add("target=leads&filename=a.csv", file).await.id;
    assert_eq!(env.ended(id).await.state, JobState::Complete);
    env.json("POST", "/v1/instances/default/pause").await;
    env.add("target=leads&filename=b.csv", "email\na@example.com\n").await;
    // Counted shortly after the commit.
    let metrics = env
        .until("all is counted", async |env| {
            let metrics = scrape(env).await;
            let ended = metrics.get("marqueue_jobs_ended_total{instance=\"default\",state=\"complete\"}");
            (ended == Some(&1.0) && metrics["marqueue_jobs_accepted_total{instance=\"default\"}"] > 1.0)
                .then_some(metrics)
        })
        .await;
    for (name, value) in [
        ("accepted_bytes_total{instance=\"default\"}", (file.len() + 20) as f64),
        ("uploads_total{instance=\"default\"}", 1.0),
        ("batch_events_total{event=\"accepted\",instance=\"default\"}", 1.0),
        ("rows_total{instance=\"default\",result=\"processed\"}", 2.0),
        ("rows_total{instance=\"default\",result=\"failed\"}", 1.0),
        ("rows_warned_total{instance=\"default\"}", 1.0),
        ("job_duration_seconds_count{instance=\"default\"}", 1.0),
        ("queue_jobs{instance=\"default\",state=\"pending\"}", 1.0),
        ("queue_jobs{instance=\"default\",state=\"running\"}", 0.0),
        ("slots_used{instance=\"default\",state=\"importing\"}", 0.0),
        ("instance_paused{instance=\"default\",kind=\"operator\"}", 1.0),
        ("instance_paused{instance=\"default\",kind=\"credentials\"}", 0.0),
        ("credentials_ok{instance=\"default\"}", 1.0),
        ("drop_refused_total", 0.0),
    ] {
        assert_eq!(metrics.get(&format!("marqueue_{name}")), Some(&value), "{name}: {metrics:#?}");
    }
    assert!(metrics["marqueue_commit_duration_seconds_count"] > 5.0);
    assert!(metrics["marqueue_polls_total{instance=\"default\",result=\"answered\"}"] >= 1.0);
    assert!(metrics["marqueue_calls_total{instance=\"default\"}"] >= 3.0, "upload, poll, two files");
    assert!(metrics["marqueue_database_size_bytes"] > 8192.0);
}

#[tokio::test]
async fn refusals_are_counted_by_their_codes() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let id = env.add("target=leads&filename=a.csv", "email,note\na@example.com,!batch-failed:Out of order\n").await.id;
    assert_eq!(env.ended(id).await.state, JobState::Failed);
    env.until("it is counted", async |env| {
        let metrics = scrape(env).await;
        let failed = metrics.get("marqueue_jobs_ended_total{instance=\"default\",state=\"failed\"}");
        let error = metrics.keys().any(|name| name.starts_with("marqueue_errors_total{code="));
        (failed == Some(&1.0) && error).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_metric_of_the_examples_is_exported() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let file = "email,note\na@example.com,\nb@example.com,!fail:Bad\n";
    let id = env.add("target=leads&filename=a.csv", file).await.id;
    env.ended(id).await;
    let documented: BTreeSet<String> = names(include_str!("../../docs/operations.md"));
    let text = env.get("/metrics").await;
    // A family without samples has no lines, so the names come from the documentation. Each metric that is shown must
    // be among them.
    for name in names(&text).into_iter().filter(|name| text.contains(&format!("# TYPE {name} "))) {
        assert!(documented.contains(&name), "{name} is not in docs/operations.md");
    }
    let used = [
        names(include_str!("../../packaging/prometheus/marqueue.rules.yml")),
        names(include_str!("../../packaging/grafana/marqueue.json")),
    ];
    for name in used.into_iter().flatten() {
        let family = name.strip_suffix("_bucket").unwrap_or(&name);
        assert!(documented.contains(family), "{name} is in no list");
    }
    let source = [
        include_str!("../../src/api/metrics/exporter.rs"),
        include_str!("../../src/api/metrics/counters.rs"),
        include_str!("../../src/api/metrics/gauges.rs"),
    ]
    .concat();
    for name in documented {
        assert!(source.contains(&format!("\"{name}\"")), "{name} is documented and not exported");
    }
}

/// Every word that looks like the name of a metric.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("marqueue_")).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_scrape_is_answered_while_files_come_in() {
    let env = TestEnv::with_daemon(quick()).await;
    env.json("POST", "/v1/instances/default/pause").await;
    for _ in 0..20 {
        env.add("target=leads&filename=a.csv", "email\na@example.com\n").await;
        let answer = tokio::time::timeout(Duration::from_secs(60), env.get("/metrics")).await;
        assert!(answer.expect("it answers").contains("marqueue_queue_jobs"));
    }
}
