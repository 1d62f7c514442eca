//! Idempotency keys of retries that make a new job: `rows=failed` and `rows=corrected`.

use marqueue::domain::JobId;
use serde_json::{Value, json};

use crate::support::{TestEnv, leads, quick};

const FILE: &str = "email,note\na@example.com,\nb@example.com,!fail:bad\n";
const CORRECTED: &str = "email,note\nb@example.com,good\n";

/// A POST with the key. Returns the status and the JSON of the answer.
async fn post(env: &TestEnv, path: &str, key: &str, body: &str) -> (u16, Value) {
    let http = reqwest::Client::builder().unix_socket(env.socket()).no_proxy().build().expect("a client");
    let request = http.post(format!("http://marqueue{path}")).header("Idempotency-Key", key).body(body.to_owned());
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

/// Adds a job of which one row fails, and waits for its end.
async fn ended_with_failed_row(env: &mut TestEnv) -> JobId {
    let id = env.add("target=leads&filename=people.csv", FILE).await.id;
    assert_eq!(env.ended(id).await.rows.failed, Some(1));
    id
}

async fn count_jobs(env: &TestEnv) -> usize {
    env.json("GET", "/v1/jobs").await.1["jobs"].as_array().expect("jobs").len()
}

#[tokio::test]
async fn a_repeated_key_of_a_retry_gives_one_job() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let id = ended_with_failed_row(&mut env).await;
    for (rows, body) in [("failed", ""), ("corrected", CORRECTED)] {
        let path = format!("/v1/jobs/{id}/retry?rows={rows}");
        let before = count_jobs(&env).await;
        let (status, first) = post(&env, &path, rows, body).await;
        assert_eq!((status, &first["retry_of"]), (201, &json!(id.0)), "{first}");
        let (status, second) = post(&env, &path, rows, body).await;
        assert_eq!((status, &second["id"]), (200, &first["id"]), "{rows}: {second}");
        assert_eq!(count_jobs(&env).await, before + 1, "{rows}");
        let (status, other) = post(&env, &path, &format!("{rows}, once more"), body).await;
        assert_eq!((status, count_jobs(&env).await), (201, before + 2), "{rows}: {other}");
    }
}

#[tokio::test]
async fn retries_at_once_with_one_key_give_one_job() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let id = ended_with_failed_row(&mut env).await;
    let path = format!("/v1/jobs/{id}/retry?rows=failed");
    let answers = futures_util::future::join_all((0..8).map(|_| post(&env, &path, "k", ""))).await;
    let mut statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 201]);
    assert!(answers.iter().all(|(_, job)| job["id"] == answers[0].1["id"]), "{answers:?}");
    assert_eq!(count_jobs(&env).await, 2);
}

#[tokio::test]
async fn a_key_of_a_retry_is_refused_for_other_requests() {
    let mut env = TestEnv::with_daemon(quick()).await;
    // The failed rows of both are the same bytes.
    let [one, other] = [ended_with_failed_row(&mut env).await, ended_with_failed_row(&mut env).await];
    let retry = |id: JobId, rows: &str| format!("/v1/jobs/{id}/retry?rows={rows}");
    assert_eq!(post(&env, &retry(one, "failed"), "failed", "").await.0, 201);
    assert_eq!(post(&env, &retry(one, "corrected"), "corrected", CORRECTED).await.0, 201);
    assert_eq!(post(&env, "/v1/jobs?target=leads&format=csv", "added", CORRECTED).await.0, 201);
    let before = count_jobs(&env).await;
    let failed_rows = "email,note\nb@example.com,!fail:bad\n";
    for (path, key, body) in [
        (retry(other, "failed"), "failed", ""),
        (retry(one, "corrected"), "failed", CORRECTED),
        (retry(other, "corrected"), "corrected", CORRECTED),
        (retry(one, "failed"), "corrected", ""),
        (retry(one, "corrected"), "added", CORRECTED),
        ("/v1/jobs?target=leads&format=csv".to_owned(), "failed", failed_rows),
        ("/v1/jobs?target=leads&format=csv".to_owned(), "corrected", &leads(&["c@example.com"])),
    ] {
        let (status, problem) = post(&env, &path, key, body).await;
        assert_eq!(status, 422, "{path} {key}: {problem}");
        assert_eq!(problem["type"], "urn:marqueue:problem:idempotency-key-reused", "{path} {key}");
    }
    assert_eq!(count_jobs(&env).await, before);
}
