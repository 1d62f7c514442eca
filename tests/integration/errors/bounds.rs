//! Bounds: what is stored of Marketo's texts and files has a maximum size, and shows that it was clipped or cut.

use std::time::Duration;

use marqueue::domain::JobState;
use marqueue::simulator::{Call, Fault, FaultEffect};

use super::raw_server::{Answer, Fake};
use super::{FILE, LEADS};
use crate::support::{TestEnv, quick};

#[tokio::test]
async fn endless_report_is_cut_at_a_row_and_the_job_completes() {
    const ROW: &str = "ann@example.com,\"Ann\nor Anne\",No\r\n";
    let fake = Fake::start(|request| match request.path() {
        path if path.starts_with("/identity") => Answer::token(),
        path if path.ends_with("/failures.json") => Answer {
            endless: Some(ROW),
            ..Answer::plain(200, "text/csv;charset=UTF-8", "email,firstName,Import Failure Reason\r\n")
        },
        // One row that does not end.
        path if path.ends_with("/warnings.json") => Answer {
            endless: Some("\"\"\n"),
            ..Answer::plain(200, "text/csv", "email,firstName,Import Warning Reason\na@example.com,\"")
        },
        path if path.contains("/batch/") => Answer::json(
            r#"{"success":true,"result":[{"batchId":1,"status":"Complete","numOfLeadsProcessed":0,
                "numOfRowsFailed":1,"numOfRowsWithWarning":1,"message":"done"}]}"#,
        ),
        _ => Answer::created(),
    });
    let fake = fake.await;
    let mut env = TestEnv::new(quick()).await;
    env.config = fake.instance("fake");
    env.start().await;
    let id = env.add(&format!("{LEADS}&instance=fake"), FILE).await.id;
    let job = env.ended(id).await;
    assert_eq!((job.state, &job.error), (JobState::Complete, &None));
    // The bytes sent, 1,000 for the one row, and a mebibyte.
    let limit = FILE.len() as u64 + 1_000 + (1 << 20);
    let failures = env.get(&format!("/v1/jobs/{id}/failures")).await;
    assert_eq!(job.batches[0].failures_bytes, Some(failures.len() as u64));
    assert!(failures.len() as u64 <= limit && limit - (failures.len() as u64) < ROW.len() as u64, "{}", failures.len());
    assert!(failures.ends_with(ROW), "it is cut in a row");
    assert_eq!(env.get(&format!("/v1/jobs/{id}/warnings")).await, "email,firstName,Import Warning Reason\n");
    let history = env.get(&format!("/v1/jobs/{id}/history")).await;
    for kind in ["failures", "warnings"] {
        let output = format!("Marketo's {kind} file has more than {limit} bytes");
        assert!(history.contains("report-cut") && history.contains(&output), "{history}");
    }
    assert!(env.log().contains("report is larger than"), "{}", env.log());
}

#[tokio::test]
async fn long_messages_of_marketo_are_clipped_before_storage() {
    let long = format!("Sorry, carol@example.com. {}", "x".repeat(300_000));
    let words = long.clone();
    let fake = Fake::start(move |request| match request.path() {
        path if path.starts_with("/identity") => Answer::token(),
        path if path.contains("/batch/") => Answer::json(
            serde_json::json!({"success": true, "requestId": words,
                "result": [{"batchId": 1, "status": "Failed", "message": words}]})
            .to_string(),
        ),
        _ => Answer::created(),
    });
    let fake = fake.await;
    let mut env = TestEnv::new(quick()).await;
    env.config = fake.instance("fake");
    env.start().await;
    let failed = env.add(&format!("{LEADS}&instance=fake"), FILE).await.id;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(1006, &long)));
    let refused = env.add(LEADS, FILE).await.id;
    for id in [failed, refused] {
        let job = env.ended(id).await;
        let error = job.error.expect("Marketo's words");
        assert!(error.contains("Sorry, ***@***. xxx") && error.contains("(clipped: it had "), "{error}");
        let history = env.get(&format!("/v1/jobs/{id}/history")).await;
        assert!(history.len() < 10_000 && !history.contains("carol"), "{history}");
    }
    let log = env.until("the end is logged", async |env| Some(env.log()).filter(|log| log.contains("rejected")));
    let log = tokio::time::timeout(Duration::from_secs(60), log).await.expect("it is logged");
    assert!(!log.contains("carol") && log.lines().all(|line| line.len() < 5_000), "a line of the log is too long");
}
