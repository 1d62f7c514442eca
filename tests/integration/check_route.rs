//! `POST /v1/check`: the checks of a file without a job.

use serde_json::Value;

use crate::support::{TestEnv, leads, quick};

async fn check(env: &TestEnv, query: &str, file: &str) -> (u16, Value) {
    let (status, body) = env.request("POST", &format!("/v1/check?{query}"), file.to_owned()).await;
    (status, serde_json::from_slice(&body).expect("JSON"))
}

#[tokio::test]
async fn a_check_answers_as_an_accept_would_and_stores_nothing() {
    let mut env = TestEnv::new(quick()).await;
    env.config = "limits = { calls = 5000, window = \"1s\", upload_bytes = 1000 }\n".into();
    env.api = "max_file_bytes = 100000".into();
    env.start().await;
    let addresses: Vec<String> = (0..100).map(|n| format!("somebody-{n}@example.com")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let file = leads(&addresses);
    let (status, found) = check(&env, "target=leads&filename=people.csv&canary=3", &file).await;
    assert_eq!((status, &found["ok"], &found["fault"]), (200, &true.into(), &Value::Null));
    let layout = &found["layout"];
    assert_eq!((&layout["rows"], &layout["bytes"]), (&100.into(), &file.len().into()));
    assert_eq!(layout["columns"], serde_json::json!(["email", "firstName"]));
    let parts = layout["parts"].as_array().expect("parts");
    assert_eq!((&parts[0]["rows"], &parts[1]["first_row"], &parts[1]["first_line"]), (&3.into(), &4.into(), &5.into()));

    // The job has the same parts.
    let job = env.add("target=leads&filename=people.csv&canary=3", file.clone()).await;
    assert_eq!((job.id.0, job.batches.len()), (1, parts.len()), "the check made no job");

    let (status, found) = check(&env, "target=leads&filename=people.csv", "email,firstName\na@example.com\n").await;
    assert_eq!((status, &found["ok"], &found["layout"]), (200, &false.into(), &Value::Null));
    assert_eq!(found["detail"], "the header has 2 fields, but line 2 has 1");
    let (_, found) = check(&env, "target=leads&filename=p.csv", "email,firstName\n,Ann\n").await;
    assert_eq!((&found["ok"], &found["warnings"][0]["code"]), (&true.into(), &"empty-lookup-value".into()));

    let large = leads(&["a@example.com"; 10_000]);
    for (query, file, expected) in [
        ("target=leads", "email\n", 400),
        ("target=leads&filename=p.csv&instance=none", "email\n", 400),
        ("target=leads&filename=p.csv", large.as_str(), 413),
    ] {
        assert_eq!(check(&env, query, file).await.0, expected, "{query}");
    }
    assert_eq!(env.json("GET", "/v1/jobs").await.1["jobs"].as_array().map(Vec::len), Some(1));
}
