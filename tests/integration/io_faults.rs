//! Failing database writes: each write of a short run fails in turn. A library in C, loaded into the daemon, makes it
//! fail.
//!
//! The daemon either refuses a file, or stores it for good and brings its job to an end: by itself where one write
//! failed, after a kill and a restart where all later writes failed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use marqueue::api::dto::JobDto;
use marqueue::domain::{JobId, JobState};
use marqueue::store::Store;

use crate::notification::Receiver;
use crate::support::{TestEnv, quick};

pub const EIO: i32 = 5;
pub const ENOSPC: i32 = 28;

/// How many daemons are at work at once. Most of the time each waits for a disk or an answer.
pub const AT_ONCE: usize = 24;

/// How many journeys without a fault are made to count the writes.
pub const COUNTS: usize = 8;

/// Which call fails, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub at: u64,
    /// Half of this one is written, and all after it fail.
    pub on: bool,
    pub errno: i32,
}

/// What all journeys begin with.
pub struct Start {
    folder: tempfile::TempDir,
}

impl Start {
    /// Makes the library, and a database that is empty but for its schema.
    pub async fn new() -> Start {
        let folder = tempfile::tempdir().expect("a folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/io_faults/fault.c");
        let library = folder.path().join("fault.so");
        let made = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([library, source]).status();
        let made = made.expect("a C compiler");
        assert!(made.success());
        let store = Store::open(&folder.path().join("q.db")).await.expect("a store");
        store.close().await;
        Start { folder }
    }

    pub async fn start_env(&self, fault: Option<Fault>) -> TestEnv {
        let mut settings = quick();
        settings.import_base = Duration::ZERO;
        settings.import_per_row = Duration::ZERO;
        let mut env = TestEnv::new(settings).await;
        std::fs::copy(self.folder.path().join("q.db"), env.database()).expect("a copy");
        let Fault { at, on, errno } = fault.unwrap_or(Fault { at: 0, on: false, errno: 0 });
        env.environment = vec![
            ("LD_PRELOAD", self.folder.path().join("fault.so").display().to_string()),
            ("FAULT_FILE", env.database().display().to_string()),
            ("FAULT_LOG", calls_of(&env).display().to_string()),
            ("FAULT_AT", at.to_string()),
            ("FAULT_ON", u8::from(on).to_string()),
            ("FAULT_ERRNO", errno.to_string()),
        ];
        env
    }
}

fn calls_of(env: &TestEnv) -> PathBuf {
    env.folder.path().join("calls")
}

/// How many writes there were so far.
pub fn calls(env: &TestEnv) -> u64 {
    std::fs::metadata(calls_of(env)).map_or(0, |file| file.len())
}

/// The files of the journey, and how many of their rows fail.
const FILES: [(&str, &str, u64); 2] = [
    ("a.csv", "email\nann@example.com\n", 0),
    ("b.csv", "email,firstName\nbob@example.com,!fail:no\neve@example.com,Eve\n", 1),
];

/// Submits the file once. None if the daemon refused it and named the disk as the reason.
async fn add(env: &TestEnv, file: usize) -> Option<JobId> {
    let (name, content, _) = FILES[file];
    let (status, body) = env.request("POST", &format!("/v1/jobs?target=leads&filename={name}"), content).await;
    if status == 201 {
        let job: JobDto = serde_json::from_slice(&body).expect("a job");
        return Some(job.id);
    }
    let output = String::from_utf8_lossy(&body);
    assert!(matches!(status, 503 | 507) && output.contains("the disk of the database"), "{status}: {output}");
    None
}

/// The job when it has ended. The daemon is not asked again and again: there are many of these at once.
async fn ended(env: &TestEnv, id: JobId) -> JobDto {
    let job: JobDto = serde_json::from_str(&env.get(&format!("/v1/jobs/{id}?wait=100s")).await).expect("a job");
    assert!(job.state.is_terminal(), "{job:?}\n{}", env.log());
    job
}

/// The file's job is complete, and Marketo's reports are there.
async fn is_complete(env: &TestEnv, file: usize, id: JobId) {
    let job = ended(env, id).await;
    let (_, content, failed) = FILES[file];
    assert_eq!((job.state, job.rows.failed), (JobState::Complete, Some(failed)), "{job:?}");
    assert_eq!(env.get(&format!("/v1/jobs/{id}/file")).await, content);
    if failed > 0 {
        assert!(env.get(&format!("/v1/jobs/{id}/failures")).await.contains("bob@example.com,!fail:no,no"));
    }
}

/// The daemon at the fault. True if it started.
async fn start_at(env: &mut TestEnv) -> bool {
    if env.try_start().await.is_ok() {
        return true;
    }
    let log = env.log();
    assert!(log.contains("q.db") && log.contains("the disk"), "it says why it does not start: {log}");
    false
}

/// One write fails: all goes on by itself. True if it came to the fault.
async fn one_fails(start: &Start, at: u64, errno: i32) -> bool {
    let mut env = start.start_env(Some(Fault { at, on: false, errno })).await;
    if !start_at(&mut env).await {
        env.environment.clear();
        env.start().await;
    }
    for file in 0..FILES.len() {
        // A refused client sends it again.
        let id = loop {
            if let Some(id) = add(&env, file).await {
                break id;
            }
        };
        is_complete(&env, file, id).await;
    }
    let (jobs, imports) = (env.json("GET", "/v1/jobs").await.1, env.simulator.call_log().accepted().count());
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(FILES.len()), "nothing is there that was refused");
    assert_eq!(imports, FILES.len(), "nothing is sent twice that Marketo has");
    calls(&env) >= at
}

/// All writes fail from one on, the daemon is killed, and the next one has a good disk. True if the fault was reached.
async fn all_fail(start: &Start, at: u64, errno: i32) -> bool {
    let mut env = start.start_env(Some(Fault { at, on: true, errno })).await;
    let mut jobs = [None, None];
    if start_at(&mut env).await {
        for (file, job) in jobs.iter_mut().enumerate() {
            *job = add(&env, file).await;
        }
        let end = async {
            for id in jobs.into_iter().flatten() {
                ended(&env, id).await;
            }
        };
        let fault = async {
            while calls(&env) < at {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = fault => {}
            () = end => {}
        }
        env.kill();
    }
    let met = calls(&env) >= at;
    env.environment.clear();
    env.start().await;
    for (file, job) in jobs.into_iter().enumerate() {
        let id = match job {
            Some(id) => id,
            None => add(&env, file).await.expect("the disk is well again"),
        };
        is_complete(&env, file, id).await;
    }
    met
}

/// How many writes the journey has where none fails.
async fn count(start: &Start) -> u64 {
    let mut env = start.start_env(None).await;
    env.start().await;
    for file in 0..FILES.len() {
        let id = add(&env, file).await.expect("it is accepted");
        is_complete(&env, file, id).await;
    }
    calls(&env)
}

/// Journeys with a fault at each write, some at a time. How often Marketo is asked is a matter of time, and each answer
/// is recorded: so the writes are those of the journey with the fewest, and even of those the last few may not come.
async fn journeys(start: &Start, journey: impl AsyncFn(&Start, u64, i32) -> bool) {
    let counts = stream::iter(0..COUNTS).map(|_| count(start)).buffer_unordered(COUNTS);
    let all = counts.fold(u64::MAX, async |fewest, writes| fewest.min(writes)).await;
    assert!(all > 100, "the library counts the writes: {all}");
    let errno = |at| if at % 2 == 0 { EIO } else { ENOSPC };
    let journeys = stream::iter(1..=all).map(|at| journey(start, at, errno(at))).buffer_unordered(AT_ONCE);
    let met = journeys.filter(|met| std::future::ready(*met)).count().await as u64;
    assert!(met >= all * 9 / 10, "of {all} faults only {met} were met");
}

#[tokio::test]
async fn a_failing_write_is_refused_or_retried() {
    journeys(&Start::new().await, one_fails).await;
}

#[tokio::test]
async fn failing_all_later_writes_loses_nothing_accepted() {
    journeys(&Start::new().await, all_fail).await;
}

#[tokio::test]
async fn a_full_disk_is_reported_without_writing_a_row() {
    let start = Start::new().await;
    let mut env = start.start_env(None).await;
    env.start().await;
    let at = calls(&env) + 10;
    drop(env);

    let receiver = Receiver::default();
    *receiver.refuse.lock().expect("the lock is not poisoned") = 1;
    let mut env = start.start_env(Some(Fault { at, on: true, errno: ENOSPC })).await;
    env.config = format!("\n[notify]\nurl = {:?}", receiver.open().await);
    env.start().await;
    while add(&env, 0).await.is_some() {}
    // The first try is refused, and the next one is made from memory.
    env.until("it is reported", async |_| (receiver.of_event("disk-full").len() == 2).then_some(())).await;
    for _ in 0..20 {
        assert_eq!(add(&env, 0).await, None);
    }
    let alerts = receiver.of_event("disk-full");
    assert_eq!((alerts.len(), &alerts[0]), (2, &alerts[1]), "one occurrence is reported once");
    assert_eq!(alerts[0]["database"], env.database().canonicalize().expect("a path").to_str().expect("text"));
    assert!(alerts[0]["at"].is_string(), "{alerts:?}");
}

#[tokio::test]
async fn a_delivery_is_not_repeated_while_it_cannot_be_recorded() {
    let start = Start::new().await;
    let mut env = start.start_env(None).await;
    env.start().await;
    let at = calls(&env) + 30;
    drop(env);

    let receiver = Receiver::default();
    let mut env = start.start_env(Some(Fault { at, on: true, errno: ENOSPC })).await;
    env.config = format!("\n[notify]\nurl = {:?}", receiver.open().await);
    env.start().await;
    let gate = receiver.gate.clone().write_owned().await;
    assert_eq!(env.request("POST", "/v1/instances/default/pause", "").await.0, 200);
    env.until("the pause is reported", async |_| (!receiver.of_event("instance-paused").is_empty()).then_some(()))
        .await;
    while add(&env, 0).await.is_some() {}
    drop(gate);
    env.until("it can't be recorded", async |env| {
        env.log().contains("recording a delivery failed; retrying").then_some(())
    })
    .await;
    // Each try is a failing write.
    let before = calls(&env);
    env.until("it is tried some times more", async |env| (calls(env) > before + 3).then_some(())).await;
    assert_eq!(receiver.of_event("instance-paused").len(), 1);
}
