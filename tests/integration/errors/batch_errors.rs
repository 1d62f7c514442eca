//! Errors of one batch: wrong requests, undocumented codes, and files that are too large.

use std::time::Duration;

use marqueue::domain::{BatchState, JobState};
use marqueue::simulator::{Call, Fault, FaultEffect};

use super::raw_server::{Answer, Fake};
use super::{FILE, LEADS, outcomes};
use crate::support::{TestEnv, quick};

#[tokio::test]
async fn wrong_request_fails_with_marketos_message_unrepeated() {
    let mut env = TestEnv::with_daemon(quick()).await;
    for (code, words) in [
        (1003, "Empty file"),
        (1006, "Field 'nmae' not found"),
        (1013, "Object not found"),
        (1025, "Program status not found"),
        (610, "Requested resource not found"),
        (612, "Invalid Content Type"),
        (613, "Invalid Multipart Request"),
        (605, "Request method not supported"),
        (702, "Record not found"),
        (1077, "Value for field is too long"),
    ] {
        let before = env.simulator.call_log().creates.len();
        env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(code, words)));
        let id = env.add(LEADS, FILE).await.id;
        let job = env.ended(id).await;
        assert_eq!((job.state, job.error), (JobState::Failed, Some(format!("{code}: {words}"))));
        assert!(env.explained(id, "nothing", false).await.contains(words));
        assert_eq!(env.simulator.call_log().creates.len(), before + 1);
    }
}

#[tokio::test]
async fn an_unknown_code_of_one_batch_alone_uses_up_no_attempt() {
    let mut env = TestEnv::new(quick()).await;
    // Long enough to be seen on a loaded machine.
    env.config = "backoff_min = \"1500ms\"\nbackoff_max = \"1500ms\"\nmax_attempts = 1\n".into();
    env.start().await;
    for code in [9999, 611] {
        env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(code, "Out of paper")).times(4));
        let id = env.add(LEADS, FILE).await.id;
        let text = env.explained(id, "backoff", true).await;
        assert!(text.contains(&format!("{code}: Out of paper (attempts used: 0)")), "{text}");
        env.complete(id, 1).await;
    }
}

/// What Marketo answers about a file of two rows, each time it comes; the others it takes.
pub async fn refusing(body: &'static str) -> Fake {
    Fake::start(move |request| match request.path() {
        "/identity/oauth/token" => Answer::token(),
        // The form around the file is always of one length.
        path if path.starts_with("/bulk/v1/leads.json") && request.content_length > 100_000 => Answer::json(body),
        path if path.starts_with("/bulk/v1/leads.json") => Answer::created(),
        _ => Answer::complete(0),
    })
    .await
}

/// A file that differs from [`FILE`] by its length.
pub fn long_file() -> String {
    let mut file = String::from("email,firstName\n");
    while file.len() < 120_000 {
        file += "ann@example.com,Ann of a long and winding name that fills the file up\n";
    }
    file
}

#[tokio::test]
async fn one_file_that_is_always_refused_fails_and_eleven_complete() {
    for (body, words) in [
        (r#"{"success":false,"errors":[{"code":"611","message":"System error"}]}"#, "611: System error"),
        (r#"{"success":false,"errors":[{"code":"9999","message":"Out of paper"}]}"#, "9999: Out of paper"),
        (r#"{"success":false,"errors":[]}"#, ""),
    ] {
        let fake = refusing(body).await;
        let mut env = TestEnv::new(quick()).await;
        env.config = format!("{}max_attempts = 8\n", fake.instance("eu"));
        env.start().await;
        let query = format!("{LEADS}&instance=eu");
        let bad = env.add(&format!("{query}&priority=9"), long_file()).await.id;
        for number in 0..11 {
            let good = env.add(&query, FILE).await.id;
            env.complete(good, 1).await;
            // Each of the others counts as one proof that Marketo takes files, until the bad one has been tried again.
            let _: () = env
                .until("the bad file was tried again, or has failed", async |env| {
                    let job = env.job(bad).await;
                    (job.state.is_terminal() || job.batches[0].attempts > number.min(6)).then_some(())
                })
                .await;
        }
        let job = env.ended(bad).await;
        let error = job.error.expect("a reason");
        assert!(error.starts_with("given up after 8 attempts; the last answer was: "), "{error}");
        assert!(error.ends_with(words), "{error}");
        assert_eq!((job.state, job.batches[0].attempts, job.batches[0].given_up), (JobState::Failed, 8, true));
    }
}

#[tokio::test]
async fn a_refusal_of_one_batch_does_not_hold_the_others() {
    let mut env = TestEnv::new(quick()).await;
    env.config = "backoff_min = \"60s\"\nbackoff_max = \"60s\"\n".into();
    env.start().await;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(611, "System error")));
    let first = env.add(LEADS, FILE).await.id;
    env.explained(first, "backoff", true).await;
    let second = env.add(LEADS, FILE).await.id;
    env.complete(second, 1).await;
    assert_eq!(env.job(first).await.batches[0].state, BatchState::Pending);
    assert_eq!(outcomes(&env.simulator.call_log()), ["611", "ok"]);
}

fn large_file() -> String {
    let mut file = String::from("email,firstName\n");
    while file.len() < 4_000_000 {
        file += "ann@example.com,Ann of a long and winding name that fills the file up to where it is too large\n";
    }
    file
}

/// What stands between us and Marketo may look at the head of a request only, say 413, and close. Where it closes on
/// bytes that it has not read, the reset may overtake the answer; then it is tried again.
#[tokio::test]
async fn a_413_that_comes_before_the_body_was_read_halves_the_batch() {
    let fake = Fake::start(|request| match request.path() {
        "/identity/oauth/token" => Answer::token(),
        path if path.starts_with("/bulk/v1/leads.json") && request.content_length > 1_500_000 => {
            Answer { after_head: true, ..Answer::plain(413, "text/html", "<h1>413 Request Entity Too Large</h1>") }
        }
        path if path.starts_with("/bulk/v1/leads.json") => Answer::created(),
        // Its counts do not add up, so it is asked for a file too.
        path if path.ends_with("/failures.json") => Answer::plain(404, "text/html", ""),
        _ => Answer::complete(0),
    })
    .await;
    let mut env = TestEnv::new(quick()).await;
    env.config = format!("{}max_attempts = 100\n", fake.instance("early"));
    env.start().await;
    let id = env.add(&format!("{LEADS}&instance=early"), large_file()).await.id;
    let job = env.ended(id).await;
    assert_eq!((job.state, job.batches.len()), (JobState::Complete, 4), "{:?}", job.error);
}

/// Something in between closes on what it finds too large, and does not say so.
#[tokio::test]
async fn an_upload_that_always_breaks_off_blocks_no_other() {
    let fake = Fake::start(|request| match request.path() {
        "/identity/oauth/token" => Answer::token(),
        path if path.starts_with("/bulk/v1/leads.json") && request.content_length > 1_500_000 => {
            Answer { after_head: true, ..Answer::nothing() }
        }
        path if path.starts_with("/bulk/v1/leads.json") => Answer::created(),
        _ => Answer::complete(0),
    })
    .await;
    let mut env = TestEnv::new(quick()).await;
    env.config = format!("{}max_attempts = 3\n", fake.instance("early"));
    env.start().await;
    let large = env.add(&format!("{LEADS}&instance=early"), large_file()).await.id;
    // Only where others get through meanwhile it is known to be about this file.
    let job = loop {
        let small = env.add(&format!("{LEADS}&instance=early"), FILE).await.id;
        env.complete(small, 1).await;
        let job = env.job(large).await;
        if job.state.is_terminal() {
            break job;
        }
    };
    let error = job.error.expect("a reason");
    assert!(
        error.starts_with("given up after 3 attempts") && error.contains("the connection broke during the upload"),
        "{error}"
    );
}

#[tokio::test]
async fn a_response_after_the_timeout_is_an_unknown_outcome() {
    let mut env = TestEnv::new(quick()).await;
    env.config = "request_timeout = \"3s\"\nunknown_outcome = \"hold\"\n".into();
    env.start().await;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::delay(Duration::from_secs(100))));
    let id = env.add(LEADS, FILE).await.id;
    env.in_state(id, BatchState::Held).await;
    let text = env.explained(id, "operator", false).await;
    assert!(text.contains("timed out"), "{text}");
}
