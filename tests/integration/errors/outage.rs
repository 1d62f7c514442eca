//! Outages of Marketo over a real socket: every waiting job is complete after them, whatever their kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use marqueue::domain::{BatchState, JobId, JobState};
use serde_json::json;

use super::batch_errors::{long_file, refusing};
use super::raw_server::{Answer, Fake};
use super::{FILE, LEADS};
use crate::closed_port::ClosedPort;
use crate::support::{TestEnv, quick};

const JOBS: usize = 6;

/// More failures than all attempts of all jobs together.
const FAILURES: usize = 2 * JOBS + 1;

type Outage = (&'static str, fn() -> Answer);

/// How a create fails while Marketo is out.
fn outages() -> Vec<Outage> {
    vec![
        ("e608", || Answer::json(r#"{"success":false,"errors":[{"code":"608","message":"API unavailable"}]}"#)),
        ("e611", || Answer::json(r#"{"success":false,"errors":[{"code":"611","message":"System error"}]}"#)),
        ("e713", || Answer::json(r#"{"success":false,"errors":[{"code":"713","message":"Transient error"}]}"#)),
        ("e9999", || Answer::json(r#"{"success":false,"errors":[{"code":"9999","message":"Out of paper"}]}"#)),
        ("no-errors", || Answer::json(r#"{"success":false,"errors":[]}"#)),
        ("proxy-200", || Answer::plain(200, "text/html", "<h1>Please come back later</h1>")),
        ("proxy-404", || Answer::plain(404, "text/html", "<h1>Not here</h1>")),
        ("http-429", || Answer::plain(429, "text/html", "")),
        ("http-502", || Answer::plain(502, "text/html", "<h1>Bad Gateway</h1>")),
        ("http-503", || Answer::plain(503, "text/html", "")),
        ("truncated", || Answer::json(r#"{"success":true,"result":[{"batchI"#)),
        ("empty", || Answer::plain(200, "application/json", "")),
        ("lost", Answer::nothing),
        ("broken-off", || Answer { after_head: true, ..Answer::nothing() }),
        ("hang", Answer::never),
    ]
}

/// Six jobs of the instance, waiting for it.
async fn waiting(env: &TestEnv, instance: &str) -> Vec<JobId> {
    let mut jobs = Vec::new();
    for number in 0..JOBS {
        let query = format!("{LEADS}&instance={instance}&priority={}", number % 2);
        jobs.push(env.add(&query, FILE).await.id);
    }
    jobs
}

#[tokio::test]
async fn after_an_outage_of_any_kind_every_job_is_complete() {
    let (mut env, mut fakes) = (TestEnv::new(quick()).await, Vec::new());
    for (name, answer) in outages() {
        let (out, failures) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (is_out, count) = (out.clone(), failures.clone());
        let fake = Fake::start(move |request| match request.path() {
            "/identity/oauth/token" => Answer::token(),
            path if path.starts_with("/bulk/v1/leads.json") && is_out.load(Ordering::SeqCst) => {
                count.fetch_add(1, Ordering::SeqCst);
                answer()
            }
            path if path.starts_with("/bulk/v1/leads.json") => Answer::created(),
            _ => Answer::complete(0),
        })
        .await;
        env.config += &format!("{}max_attempts = 2\nrequest_timeout = \"5s\"\n", fake.instance(name));
        fakes.push((name, fake, out, failures));
    }
    env.start().await;
    let mut jobs = Vec::new();
    for (name, ..) in &fakes {
        jobs.push(waiting(&env, name).await);
    }
    for ((name, _fake, out, failures), jobs) in fakes.iter().zip(&jobs) {
        // A hang and a lost answer each take a while, or a slot.
        let enough = if matches!(*name, "hang") { JOBS + 1 } else { FAILURES };
        env.until(&format!("{name} lasts"), async |_| (failures.load(Ordering::SeqCst) >= enough).then_some(())).await;
        for &id in jobs {
            assert!(!env.job(id).await.state.is_terminal(), "{name}: job {id}");
        }
        out.store(false, Ordering::SeqCst);
    }
    for ((name, ..), jobs) in fakes.iter().zip(jobs) {
        for id in jobs {
            let job = env.ended(id).await;
            assert_eq!((job.state, job.batches[0].attempts), (JobState::Complete, 1), "{name}: {:?}", job.error);
        }
    }
}

/// Where the address leads nowhere, to no machine, or to something without TLS.
#[tokio::test]
async fn jobs_wait_for_an_unreachable_address() {
    let closed = ClosedPort::bind();
    let nowhere = closed.address();
    let mut env = TestEnv::new(quick()).await;
    let base = env.simulator.base_url().to_owned();
    let instance = |base_url: &str| {
        format!(
            "[instances.eu]\nbase_url = {base_url:?}\nidentity_url = \"{base}/identity\"\nclient_id = \"simulator\"\n\
             client_secret = \"secret\"\nbackoff_min = \"20ms\"\nbackoff_max = \"100ms\"\nmax_attempts = 1\n"
        )
    };
    let tls = base.replace("http://", "https://");
    for base_url in [format!("http://{nowhere}"), "https://marketo.invalid".to_owned(), tls] {
        env.config = instance(&base_url);
        env.start().await;
        let jobs = waiting(&env, "eu").await;
        let text = env.failed_often(jobs[0]).await;
        assert!(text.contains("\"service\""), "{base_url}: {text}");
        for &id in &jobs {
            // The upload under way is counted until it has failed.
            let attempts = env.until("no upload is under way", async |env| {
                let job = env.job(id).await;
                (job.batches[0].state == BatchState::Pending).then_some(job.batches[0].attempts)
            });
            assert_eq!(attempts.await, 0, "{base_url}: job {id}");
        }
        env.kill();
        env.config = instance(&base);
        env.start().await;
        for id in jobs {
            let job = env.ended(id).await;
            assert_eq!(job.state, JobState::Complete, "{base_url}: {:?}", job.error);
        }
        env.kill();
    }
}

#[tokio::test]
async fn content_of_an_exhausted_job_stays_and_is_listed() {
    let fake = refusing(r#"{"success":false,"errors":[{"code":"611","message":"System error"}]}"#).await;
    let mut env = TestEnv::new(quick()).await;
    let reported = env.folder.path().join("notification");
    env.config = format!(
        "{}max_attempts = 1\n[retention]\nfiles = \"300ms\"\n[notify]\ncommand = [\"sh\", \"-c\", \"cat >> '{}'\"]\n",
        fake.instance("eu"),
        reported.display()
    );
    env.start().await;
    let query = format!("{LEADS}&instance=eu");
    let bad = env.add(&query, long_file()).await.id;
    let good = loop {
        let good = env.add(&query, FILE).await.id;
        env.complete(good, 1).await;
        if env.job(bad).await.state.is_terminal() {
            break good;
        }
    };
    env.until("the content of the other job is erased", async |env| env.job(good).await.content_erased_at).await;
    assert_eq!(env.get(&format!("/v1/jobs/{bad}/file")).await, long_file());
    let status = env.json("GET", "/v1/status").await.1;
    assert_eq!(status["instances"]["eu"]["queue"]["given_up"]["first"], json!([bad]));
    assert!(env.get("/metrics").await.contains("marqueue_given_up_jobs{instance=\"eu\"} 1"));
    env.until("a notification says that it waits", async |_| {
        let reported = std::fs::read_to_string(&reported).unwrap_or_default();
        reported
            .lines()
            .any(|line| line.contains("\"state\":\"failed\"") && line.contains("\"content_waits\":true"))
            .then_some(())
    })
    .await;
    // Data that an operator erases is erased.
    assert_eq!(env.json("POST", &format!("/v1/jobs/{bad}/erase")).await.0, 200);
    let status = env.json("GET", "/v1/status").await.1;
    assert_eq!(status["instances"]["eu"]["queue"]["given_up"]["jobs"], 0);
}
