//! Limits of calls and imports over kills, clock jumps, and instances that share one Marketo.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use marqueue::domain::JobState;
use marqueue::simulator::Settings;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::support::{TestEnv, leads, quick};

const LEADS: &str = "target=leads&format=csv";

/// A Marketo that is at work on a call for `TAKES`, whether or not the client still waits for its answer.
#[derive(Clone, Default)]
struct Slow {
    at_work: Arc<Mutex<(usize, usize)>>,
}

/// A call that was under way at a kill counts for the request timeout of the test, which is longer by what a loaded
/// machine may need until this Marketo reads it.
const TAKES: Duration = Duration::from_secs(2);

impl Slow {
    /// Its address. The threads end with the process.
    fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let slow = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let slow = slow.clone();
                thread::spawn(move || slow.answer(stream));
            }
        });
        format!("http://{address}")
    }

    fn answer(&self, mut stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let (mut path, mut length) = (String::new(), 0);
        reader.read_line(&mut path).ok()?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(bytes) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = bytes.trim().parse().ok()?;
            }
        }
        reader.read_exact(&mut vec![0; length]).ok()?;
        let body = if path.contains("/oauth/token") {
            r#"{"access_token":"t","expires_in":3600}"#.to_owned()
        } else {
            let number = {
                let mut at_work = self.at_work.lock().expect("not poisoned");
                at_work.0 += 1;
                at_work.1 = at_work.1.max(at_work.0);
                rand::random::<u32>()
            };
            #[expect(clippy::disallowed_methods, reason = "it is how long this Marketo takes, on a thread of its own")]
            thread::sleep(TAKES);
            self.at_work.lock().expect("not poisoned").0 -= 1;
            let status = if path.contains("/batch/") { "Complete" } else { "Queued" };
            format!(
                r#"{{"success":true,"result":[{{"batchId":{number},"status":"{status}","numOfLeadsProcessed":1,
                    "numOfRowsFailed":0,"numOfRowsWithWarning":0}}]}}"#
            )
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).ok()
    }

    fn now_at_work(&self) -> usize {
        self.at_work.lock().expect("not poisoned").0
    }

    fn most_at_work(&self) -> usize {
        self.at_work.lock().expect("not poisoned").1
    }
}

#[tokio::test]
async fn calls_at_once_are_kept_over_a_kill() {
    let slow = Slow::default();
    let mut env = TestEnv::new(quick()).await;
    env.config = format!(
        "limits = {{ calls = 5000, window = \"1s\" }}\n[instances.eu]\nbase_url = {:?}\nclient_id = \"i\"\n\
         client_secret = \"s\"\nrequest_timeout = \"12s\"\nbackoff_max = \"1s\"\npolling = {{ min = \"10ms\", max = \"200ms\" }}\n\
         limits = {{ calls = 5000, window = \"1s\", concurrent_calls = 3 }}\n",
        slow.start()
    );
    env.start().await;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(env.add(&format!("{LEADS}&instance=eu"), leads(&[&format!("{n}@example.com")])).await.id);
    }
    for _ in 0..2 {
        env.until("Marketo has as many calls as it may", async |_| (slow.now_at_work() == 3).then_some(())).await;
        env.kill();
        env.start().await;
    }
    for id in ids {
        assert_eq!(env.ended(id).await.state, JobState::Complete);
    }
    assert_eq!(slow.most_at_work(), 3);
}

/// Sets the clock while no daemon runs: what was stored seems to be that much older.
async fn leap(env: &TestEnv, by: Duration) {
    let mut connection: SqliteConnection =
        SqliteConnectOptions::new().filename(env.database()).connect().await.expect("the database opens");
    let ms = by.as_millis();
    let sql = format!("UPDATE api_call SET started_at = started_at - {ms}, ended_at = ended_at - {ms}");
    let done = sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.expect("it is changed");
    assert!(done.rows_affected() > 0);
    connection.close().await.expect("it closes");
}

#[tokio::test]
async fn a_clock_jump_over_a_restart_resets_no_call_window() {
    // So long that a loaded machine makes twelve calls in it.
    let window = Duration::from_secs(12);
    let mut env = TestEnv::new(Settings { window, ..quick() }).await;
    env.config = "limits = { calls = 12, window = \"12s\" }\n".into();
    env.start().await;
    let mut ids = Vec::new();
    for n in 0..9 {
        ids.push(env.add(LEADS, leads(&[&format!("{n}@example.com")])).await.id);
    }
    env.until("the window is used up", async |env| {
        (env.instance_status("default").await["limits"]["calls_used"] == 12).then_some(())
    })
    .await;
    env.kill();
    leap(&env, Duration::from_secs(86_400)).await;
    env.start().await;
    for id in ids {
        assert_eq!(env.ended(id).await.state, JobState::Complete);
    }
    let most = env.simulator.call_log().max_calls_in_window;
    assert!(most <= 12, "{most} calls in one window");
}

impl TestEnv {
    async fn instance_status(&self, name: &str) -> serde_json::Value {
        self.json("GET", "/v1/status").await.1["instances"][name].take()
    }

    /// A second instance for the same Marketo, with these limits.
    fn twin(&self, limits: &str) -> String {
        format!(
            "[instances.twin]\nbase_url = \"{}/rest/\"\nclient_id = \"simulator\"\nclient_secret = \"secret\"\n\
             backoff_min = \"20ms\"\nbackoff_max = \"200ms\"\npolling = {{ min = \"10ms\", max = \"200ms\" }}\n\
             limits = {{ {limits} }}\n",
            self.simulator.base_url()
        )
    }

    /// Adds so many jobs to each instance while both are paused, so that all of them compete, and waits for their end.
    async fn both_complete(&mut self, jobs: usize) {
        const INSTANCES: [&str; 2] = ["default", "twin"];
        let mut ids = Vec::new();
        for instance in INSTANCES {
            assert_eq!(self.request("POST", &format!("/v1/instances/{instance}/pause"), "").await.0, 200);
            for n in 0..jobs {
                // The first imports last so long that all slots are taken at once, however slow the machine is.
                let lasts = if n < 2 { "12s" } else { "200ms" };
                let file = format!("email,firstName\n{n}@example.com,!lasts:{lasts}\n");
                ids.push(self.add(&format!("{LEADS}&instance={instance}"), file).await.id);
            }
        }
        for instance in INSTANCES {
            assert_eq!(self.request("POST", &format!("/v1/instances/{instance}/resume"), "").await.0, 200);
        }
        for id in ids {
            assert_eq!(self.ended(id).await.state, JobState::Complete);
        }
    }
}

#[tokio::test]
async fn two_instances_of_one_marketo_share_its_limits() {
    let window = Duration::from_secs(1);
    let mut env = TestEnv::new(Settings { window, ..quick() }).await;
    let warning = "instances default, twin have the same base_url, so they share one set of limits";
    env.config = format!(
        "limits = {{ calls = 30, window = \"1s\" }}\n{}",
        env.twin("queued = 4, concurrent_calls = 2, window = \"1500ms\"")
    );
    env.start().await;
    assert!(env.log().contains(warning), "{}", env.log());
    env.both_complete(10).await;
    let ledger = env.simulator.call_log();
    assert_eq!(ledger.max_queued, 4);
    assert!(ledger.max_concurrent_calls <= 2, "{} calls at once", ledger.max_concurrent_calls);
    // The fewer calls in the longer window.
    let status = env.instance_status("default").await;
    assert_eq!((&status["limits"]["calls"], &status["limits"]["window"]), (&30.into(), &1.5.into()));
    assert!(ledger.max_calls_in_window <= 30);
    let mut doctor = std::process::Command::new(crate::support::binary());
    doctor.args(["doctor", "--json", "--config"]).arg(env.config_file());
    let ran = tokio::task::spawn_blocking(move || doctor.output()).await;
    let output = ran.expect("it does not panic").expect("the doctor runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains(warning));
}

#[tokio::test]
async fn a_reload_of_one_of_two_instances_limits_both() {
    let mut env = TestEnv::new(quick()).await;
    let limits = "limits = { calls = 5000, window = \"1s\" }\n";
    env.config = format!("{limits}{}", env.twin("calls = 5000, window = \"1s\""));
    env.start().await;
    env.config = format!("{limits}{}", env.twin("calls = 5000, window = \"1s\", queued = 1, importing = 1"));
    env.write_config();
    env.signal("HUP");
    env.until("the limits are in force", async |env| {
        (env.instance_status("default").await["slots"]["limit"] == 1).then_some(())
    })
    .await;
    env.both_complete(4).await;
    assert_eq!(env.simulator.call_log().max_queued, 1);
}

#[tokio::test]
async fn a_lowered_upload_size_holds_for_waiting_jobs() {
    let mut env = TestEnv::new(Settings { max_body: 10_000, ..quick() }).await;
    let calls = "calls = 5000, window = \"1s\"";
    env.config = format!("limits = {{ {calls} }}\n");
    env.start().await;
    assert_eq!(env.json("POST", "/v1/instances/default/pause").await.0, 200);
    let addresses: Vec<String> = (0..2_000).map(|n| format!("{n}@example.com")).collect();
    let id = env.add(LEADS, leads(&addresses.iter().map(String::as_str).collect::<Vec<_>>())).await.id;
    env.kill();
    env.config = format!("limits = {{ {calls}, upload_bytes = 10000 }}\n");
    env.start().await;
    assert_eq!(env.json("POST", "/v1/instances/default/resume").await.0, 200);
    let job = env.ended(id).await;
    assert_eq!((job.state, job.rows.processed), (JobState::Complete, Some(2_000)), "{job:?}");
    let ledger = env.simulator.call_log();
    assert_eq!(ledger.errors_of("http 413"), 0, "{:?}", ledger.errors);
    assert!(job.batches.iter().all(|batch| batch.attempts == 1));
}
