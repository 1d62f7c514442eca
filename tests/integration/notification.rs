//! Notifications: commands and webhooks at the end of a job, and for alerts. With the real binary, a real command, and
//! a web server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, Mac};
use marqueue::api::dto::JobDto;
use marqueue::domain::{BatchState, JobState};
use marqueue::simulator::{Call, Fault, FaultEffect};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::{TestEnv, leads, quick};

/// Headers and body.
type Received = (HeaderMap, Vec<u8>);

/// A web server that receives notifications, and refuses the first `refuse` of them.
#[derive(Clone, Default)]
pub struct Receiver {
    received: Arc<Mutex<Vec<Received>>>,
    pub refuse: Arc<Mutex<u32>>,
    /// Nothing is answered while it is locked for writing.
    pub gate: Arc<tokio::sync::RwLock<()>>,
}

impl Receiver {
    pub async fn open(&self) -> String {
        async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
            receiver.received.lock().expect("the lock is not poisoned").push((headers, body.to_vec()));
            drop(receiver.gate.read().await);
            let mut refuse = receiver.refuse.lock().expect("the lock is not poisoned");
            if *refuse == 0 {
                return StatusCode::NO_CONTENT;
            }
            *refuse -= 1;
            StatusCode::BAD_GATEWAY
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook?token=x", listener.local_addr().expect("its address"));
        let routes = Router::new().route("/hook", post(receive)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        url
    }

    fn received(&self) -> Vec<Received> {
        self.received.lock().expect("the lock is not poisoned").clone()
    }

    fn bodies(&self) -> Vec<Value> {
        self.received().iter().map(|(_, body)| serde_json::from_slice(body).expect("JSON")).collect()
    }

    fn jobs(&self) -> Vec<Value> {
        self.bodies().iter().map(|body| body["job"]["id"].clone()).collect()
    }

    /// The bodies of one kind.
    pub fn of_event(&self, event: &str) -> Vec<Value> {
        self.bodies().into_iter().filter(|body| body["event"] == event).collect()
    }
}

#[tokio::test]
async fn the_end_of_a_job_is_posted_and_signed() {
    let receiver = Receiver::default();
    let mut env = TestEnv::new(quick()).await;
    env.config = format!("\n[notify]\nurl = {:?}\nsecret = \"whsec\"", receiver.open().await);
    env.start().await;
    let job = env.add("target=leads&filename=a.csv", leads(&["a@example.com"])).await;
    let ended = env.ended(job.id).await;
    env.until("the notification arrives", async |_| (!receiver.received().is_empty()).then_some(())).await;
    let (headers, body) = receiver.received().remove(0);
    let notification: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&notification["event"], &notification["job"]["state"]), (&json!("job-ended"), &json!("complete")));
    assert_eq!(notification["job"], serde_json::to_value(&ended).unwrap());
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!((header("content-type"), header("marqueue-job")), ("application/json".into(), "1".into()));
    let mut mac = Hmac::<Sha256>::new_from_slice(b"whsec").unwrap();
    mac.update(format!("{}.", header("marqueue-timestamp")).as_bytes());
    mac.update(&body);
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(header("marqueue-signature"), format!("sha256={digits}"));
    assert!(!env.log().contains("token=x") && !env.log().contains("whsec"));
}

#[tokio::test]
async fn pending_notifications_survive_kills_and_refusals() {
    let receiver = Receiver::default();
    *receiver.refuse.lock().unwrap() = u32::MAX;
    let mut env = TestEnv::new(quick()).await;
    env.config = format!("\n[notify]\nurl = {:?}", receiver.open().await);
    env.start().await;
    let first = env.add("target=leads&filename=a.csv", leads(&["a@example.com"])).await.id;
    env.ended(first).await;
    env.until("it was tried", async |_| (!receiver.received().is_empty()).then_some(())).await;
    let second = env.add("target=leads&filename=b.csv", leads(&["b@example.com"])).await.id;
    assert_eq!(env.ended(second).await.state, JobState::Complete, "no job waits for the receiver");
    env.kill();
    *receiver.refuse.lock().unwrap() = 0;
    receiver.received.lock().unwrap().clear();
    env.start().await;
    env.until("both notifications arrive", async |_| {
        let jobs = receiver.jobs();
        (jobs.contains(&json!(1)) && jobs.contains(&json!(2))).then_some(())
    })
    .await;
    env.until("no notification is pending any more", async |env| {
        env.get("/metrics").await.contains("marqueue_notifications_pending 0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn command_gets_the_notification_on_stdin_without_secrets() {
    let mut env = TestEnv::new(quick()).await;
    let (script, out) = (env.folder.path().join("notify.sh"), env.folder.path().join("notified"));
    fs::write(&script, "#!/bin/sh\n{ cat; env; echo \"argument=$2\"; } > \"$1.part\" && mv \"$1.part\" \"$1\"\n")
        .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    env.config = format!("\n[notify]\ncommand = [{script:?}, {out:?}, \"two words\"]");
    env.start().await;
    let id = env.add("target=leads&filename=a.csv", leads(&["a@example.com"])).await.id;
    env.ended(id).await;
    let output = env.until("it was run", async |_| fs::read_to_string(&out).ok()).await;
    let (body, rest) = output.split_once('\n').unwrap();
    let notification: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&notification["event"], &notification["job"]["id"]), (&json!("job-ended"), &json!(1)));
    assert!(rest.contains("argument=two words\n"), "{rest}");
    let ours: Vec<_> = rest.lines().filter(|line| line.starts_with("MARQUEUE_")).collect();
    assert_eq!(ours, ["MARQUEUE_JOB_ID=1"]);
}

#[tokio::test]
async fn a_command_that_fails_is_run_again() {
    let mut env = TestEnv::new(quick()).await;
    let (script, count) = (env.folder.path().join("notify.sh"), env.folder.path().join("count"));
    fs::write(&script, "#!/bin/sh\nprintf x >> \"$1\"\ntest \"$(cat \"$1\")\" = xx\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    env.config = format!("\n[notify]\ncommand = [{script:?}, {count:?}]");
    env.start().await;
    let id = env.add("target=leads&filename=a.csv", leads(&["a@example.com"])).await.id;
    env.ended(id).await;
    env.until("it was delivered at the second try", async |env| {
        let text = env.get("/metrics").await;
        (text.contains("marqueue_notifications_total{result=\"delivered\"} 1")
            && text.contains("marqueue_notifications_pending 0"))
        .then_some(())
    })
    .await;
    assert_eq!(fs::read_to_string(&count).unwrap(), "xx");
}

/// Waits until nothing is to be delivered any more.
async fn all_delivered(env: &mut TestEnv) {
    env.until("no notification is pending", async |env| {
        env.get("/metrics").await.contains("marqueue_notifications_pending 0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn each_pause_of_an_instance_is_reported_once() {
    let receiver = Receiver::default();
    let mut env = TestEnv::new(quick()).await;
    env.config = format!("\n[notify]\nurl = {:?}", receiver.open().await);
    env.start().await;
    for _ in 0..2 {
        assert_eq!(env.request("POST", "/v1/instances/default/pause", "").await.0, 200);
    }
    all_delivered(&mut env).await;
    let paused = env.json("GET", "/v1/status").await.1["instances"]["default"]["pause"].clone();
    let alerts = receiver.of_event("instance-paused");
    assert_eq!((alerts.len(), alerts[0]["instance"].as_str()), (1, Some("default")));
    // The second request has the later time; the alert is that of the first.
    assert_eq!((&alerts[0]["pause"]["kind"], &alerts[0]["pause"]["reason"]), (&json!("operator"), &paused["reason"]));
    assert_eq!(alerts[0]["pause"]["until"], Value::Null);
    assert!(!receiver.received()[0].0.contains_key("marqueue-job"), "it is about no job");

    // Several uploads meet the refused credentials at the same time.
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(603, "Access denied")).times(8));
    for name in ["a", "b", "c"] {
        env.add("target=leads&filename=a.csv", leads(&[&format!("{name}@example.com")])).await;
    }
    assert_eq!(env.request("POST", "/v1/instances/default/resume", "").await.0, 200);
    env.until("the pause is reported", async |_| (receiver.of_event("instance-paused").len() > 1).then_some(())).await;
    all_delivered(&mut env).await;
    let alerts = receiver.of_event("instance-paused");
    assert_eq!((alerts.len(), &alerts[1]["pause"]["kind"]), (2, &json!("credentials")), "{alerts:?}");
    assert!(alerts[1]["pause"]["reason"].as_str().is_some_and(|reason| reason.contains("603: Access denied")));

    // Another pause is another event.
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(607, "Daily quota reached")).times(8));
    assert_eq!(env.request("POST", "/v1/instances/default/resume", "").await.0, 200);
    env.until("the next pause is reported", async |_| (receiver.of_event("instance-paused").len() > 2).then_some(()))
        .await;
}

#[tokio::test]
async fn a_held_batch_is_reported_once_also_over_a_kill() {
    let receiver = Receiver::default();
    *receiver.refuse.lock().unwrap() = u32::MAX;
    let mut env = TestEnv::new(quick()).await;
    env.config = format!("unknown_outcome = \"hold\"\n\n[notify]\nurl = {:?}", receiver.open().await);
    env.start().await;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::LoseAnswer));
    let id = env.add("target=leads&filename=a.csv", leads(&["a@example.com"])).await.id;
    env.in_state(id, BatchState::Held).await;
    env.until("it was tried", async |_| (!receiver.received().is_empty()).then_some(())).await;
    env.kill();
    *receiver.refuse.lock().unwrap() = 0;
    receiver.received.lock().unwrap().clear();
    env.start().await;
    all_delivered(&mut env).await;
    let job = env.job(id).await;
    let alerts = receiver.bodies();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!((&alerts[0]["event"], &alerts[0]["part"]), (&json!("batch-held"), &json!(1)));
    // The plan that says what a job waits for is not made for an alert.
    let without_plan = JobDto { waiting: None, estimated_start: None, estimated_end: None, ..job.clone() };
    assert_eq!(alerts[0]["job"], serde_json::to_value(&without_plan).unwrap());
    assert_eq!(alerts[0]["reason"].as_str(), job.batches[0].message.as_deref());
    assert_eq!(receiver.received()[0].0["marqueue-job"], "1");
    // Its end is reported as of any job.
    assert_eq!(env.request("POST", &format!("/v1/jobs/{id}/cancel"), "").await.0, 200);
    env.until("the end is reported", async |_| (receiver.bodies().len() > 1).then_some(())).await;
    assert_eq!(receiver.of_event("job-ended")[0]["job"]["state"], "cancelled");
}

#[tokio::test]
async fn an_alert_about_no_job_names_none_to_the_command() {
    let mut env = TestEnv::new(quick()).await;
    let (script, out) = (env.folder.path().join("notify.sh"), env.folder.path().join("notified"));
    fs::write(&script, "#!/bin/sh\n{ cat; env; } > \"$1.part\" && mv \"$1.part\" \"$1\"\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    env.config = format!("\n[notify]\ncommand = [{script:?}, {out:?}]");
    env.start().await;
    assert_eq!(env.request("POST", "/v1/instances/default/pause", "").await.0, 200);
    let output = env.until("it was run", async |_| fs::read_to_string(&out).ok()).await;
    let (body, rest) = output.split_once('\n').unwrap();
    let alert: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&alert["event"], &alert["instance"]), (&json!("instance-paused"), &json!("default")));
    assert!(!rest.lines().any(|line| line.starts_with("MARQUEUE_")), "{rest}");
}

/// A command that starts two children and waits for them; each notes its process id.
fn hanging(env: &TestEnv) -> (std::path::PathBuf, std::path::PathBuf) {
    let (script, pids) = (env.folder.path().join("hangs.sh"), env.folder.path().join("pids"));
    let text = "#!/bin/sh\necho $$ >> \"$1\"\nsleep 1000 & echo $! >> \"$1\"\n(sleep 1000) & echo $! >> \"$1\"\nwait\n";
    fs::write(&script, text).expect("the script is written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it can be run");
    (script, pids)
}

fn noted(pids: &std::path::Path) -> Vec<u32> {
    let text = fs::read_to_string(pids).unwrap_or_default();
    // The last line may not be whole yet.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| line.parse().expect("a process id")).collect()
}

/// Whether the process runs: one that has ended and was not waited for has no command line any more.
fn runs(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

async fn all_have_ended(env: &mut TestEnv, pids: &[u32]) {
    env.until("the command and its children have ended", async |_| (!pids.iter().any(|&pid| runs(pid))).then_some(()))
        .await;
}

#[tokio::test]
async fn a_command_is_killed_with_its_children_at_its_timeout() {
    let mut env = TestEnv::new(quick()).await;
    let (script, pids) = hanging(&env);
    // Long enough for the command to note all of its processes on a loaded machine.
    env.config = format!("\n[notify]\ncommand = [{script:?}, {pids:?}]\ntimeout = \"5s\"");
    env.start().await;
    let id = env.add("target=leads&filename=a.csv", leads(&["a@example.com"])).await.id;
    env.ended(id).await;
    let first = env.until("it is run again", async |_| {
        let pids = noted(&pids);
        (pids.len() > 3).then(|| pids[..3].to_vec())
    });
    let first = first.await;
    assert_eq!(first.iter().filter(|&&pid| runs(pid)).count(), 0);
    assert!(env.log().contains("it took longer than 5s (notify.timeout)"));
}

#[tokio::test]
async fn commands_end_with_the_daemon_however_it_ends() {
    for kill in [false, true] {
        let mut env = TestEnv::new(quick()).await;
        let (script, pids) = hanging(&env);
        env.config = format!("\n[notify]\ncommand = [{script:?}, {pids:?}]\ntimeout = \"1h\"");
        env.start().await;
        for n in 0..8 {
            let id = env.add("target=leads&filename=a.csv", leads(&[&format!("a{n}@example.com")])).await.id;
            env.ended(id).await;
        }
        // How many are due at one look is chance; what they note of themselves comes in threes.
        let run = env.until("one is run", async |_| Some(noted(&pids)).filter(|pids| pids.len() >= 3)).await;
        assert!(run.iter().all(|&pid| runs(pid)));
        if kill {
            env.kill();
        } else {
            env.terminate().await;
        }
        let run = noted(&pids);
        all_have_ended(&mut env, &run).await;
        assert!(run.len() <= 12, "no more than four run at once");
    }
}

#[tokio::test]
async fn child_processes_of_a_command_end_at_the_timeout() {
    let mut env = TestEnv::new(quick()).await;
    let (script, pids) = (env.folder.path().join("leaves.sh"), env.folder.path().join("pids"));
    fs::write(&script, "#!/bin/sh\n(exec sleep 1000) & echo $! >> \"$1\"\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    // Long enough for the command itself to end on a loaded machine.
    env.config = format!("\n[notify]\ncommand = [{script:?}, {pids:?}]\ntimeout = \"5s\"");
    env.start().await;
    let id = env.add("target=leads&filename=a.csv", leads(&["a@example.com"])).await.id;
    env.ended(id).await;
    env.until("it was delivered", async |env| {
        env.get("/metrics").await.contains("marqueue_notifications_total{result=\"delivered\"} 1").then_some(())
    })
    .await;
    let left = noted(&pids);
    assert_eq!(left.len(), 1);
    all_have_ended(&mut env, &left).await;
    assert!(env.get("/metrics").await.contains("marqueue_notifications_pending 0"), "and it was delivered once");
}
