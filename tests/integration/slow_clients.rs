//! Slow and misbehaving clients: they do not harm other clients. Raw sockets against the real binary, other clients'
//! jobs in between, and nothing is left afterwards.

use std::io::{BufRead, BufReader, ErrorKind};
use std::process::Command;
use std::time::Duration;

use crate::support::test_env::PATIENCE;
use crate::support::{TestEnv, leads, quick};
use marqueue::domain::JobState;
use marqueue::simulator::Settings;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const MB: usize = 1 << 20;

/// An environment whose daemon has short limits of time.
async fn env_with_limits(api: &str) -> TestEnv {
    // Some send files of hundreds of thousands of rows, and no test waits for their imports.
    let mut env = TestEnv::new(Settings { import_per_row: Duration::ZERO, ..quick() }).await;
    env.api = api.to_owned();
    env.start().await;
    env
}

/// A client that has read no manual.
struct Raw(UnixStream);

impl Raw {
    async fn open(env: &TestEnv) -> Raw {
        Raw(UnixStream::connect(env.socket()).await.expect("the daemon listens"))
    }

    /// One that has sent so much.
    async fn with(env: &TestEnv, bytes: impl AsRef<[u8]>) -> Raw {
        let mut raw = Raw::open(env).await;
        raw.send(bytes).await.expect("it is taken");
        raw
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.0.write_all(bytes.as_ref()).await
    }

    /// All that comes until the daemon closes.
    async fn rest(&mut self) -> String {
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut answer)).await;
        if let Err(error) = read.expect("the daemon closes") {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// What has come since the last look, without waiting for more.
    fn received(&mut self) -> String {
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(bytes @ 1..) = self.0.try_read(&mut piece) {
            answer.extend(&piece[..bytes]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// What has come when this is in it.
    async fn until(&mut self, what: &str) -> String {
        let mut answer = String::new();
        let mut piece = [0; 4096];
        while !answer.contains(what) {
            let read = tokio::time::timeout(PATIENCE, self.0.read(&mut piece)).await;
            let bytes = read.unwrap_or_else(|_| panic!("in vain: {what}: {answer}")).expect("more comes");
            assert!(bytes > 0, "closed without {what}: {answer}");
            answer += &String::from_utf8_lossy(&piece[..bytes]);
        }
        answer
    }
}

/// The head of an upload, and so many bytes of rows.
fn upload(announced: usize, sent: usize) -> Vec<u8> {
    let head =
        format!("POST /v1/jobs?target=leads&format=csv HTTP/1.1\r\nHost: d\r\nContent-Length: {announced}\r\n\r\n");
    [head.as_bytes(), &rows(sent)[..sent]].concat()
}

/// At least so many bytes.
fn rows(bytes: usize) -> Vec<u8> {
    let mut file = b"email,name\n".to_vec();
    for row in 0.. {
        if file.len() >= bytes {
            break;
        }
        file.extend(format!("person{row}@example.com,somebody\n").bytes());
    }
    file
}

/// How many files are being received. The API does not show them, for they are no jobs yet.
async fn receiving(env: &TestEnv) -> i64 {
    let database = SqliteConnectOptions::new().filename(env.database()).read_only(true);
    let mut database = database.connect().await.expect("the database can be read");
    let count = sqlx::query_scalar("SELECT count(*) FROM job WHERE state = 'receiving'").fetch_one(&mut database).await;
    count.expect("it is counted")
}

/// Imports a file as a well-behaved client, to completion.
async fn others_are_served(env: &mut TestEnv) {
    let id = env.add("target=leads&format=csv", leads(&["ann@example.com"])).await.id;
    assert_eq!(env.ended(id).await.state, JobState::Complete);
}

/// Nothing half received is left, and no more files are open than at the start.
async fn all_is_as_before(env: &mut TestEnv, open_files: usize) {
    env.until("half received files are swept", async |env| (receiving(env).await == 0).then_some(())).await;
    // The database's readers may have come up meanwhile: four, each with the database and its log.
    env.until("connections are closed", async |env| (env.open_files() <= open_files + 8).then_some(())).await;
}

#[tokio::test]
async fn uploads_that_break_off_leave_nothing() {
    let mut env = env_with_limits("").await;
    others_are_served(&mut env).await;
    let open_files = env.open_files();
    let mut cut_off = Vec::new();
    for _ in 0..30 {
        cut_off.push(Raw::with(&env, upload(5 * MB, MB)).await);
    }
    env.until("all are being received", async |env| (receiving(env).await == 30).then_some(())).await;
    others_are_served(&mut env).await;
    // Ten go, ten close only their own direction, ten stay for now.
    for (n, raw) in cut_off.iter_mut().enumerate().skip(10) {
        if n < 20 {
            raw.0.shutdown().await.expect("half closed");
        }
    }
    cut_off.drain(..10);
    env.until("twenty are swept", async |env| (receiving(env).await == 10).then_some(())).await;
    others_are_served(&mut env).await;
    drop(cut_off);
    all_is_as_before(&mut env, open_files).await;
}

#[tokio::test]
async fn a_stalled_or_very_slow_upload_is_closed() {
    // Longer than a client on a loaded machine stalls.
    let mut env = env_with_limits("stall_timeout = '2s'").await;
    others_are_served(&mut env).await;
    let open_files = env.open_files();
    let mut stopped = Raw::with(&env, upload(5 * MB, MB)).await;
    let mut never_begun = Raw::with(&env, upload(5 * MB, 0)).await;
    let mut drips = Raw::with(&env, upload(5 * MB, MB)).await;
    let dripping = async {
        // Until the daemon closes the connection.
        while drips.send("x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (stopped, never_begun, ()) = tokio::join!(stopped.rest(), never_begun.rest(), dripping);
    for answer in [stopped, never_begun] {
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.contains("the file was cut off: the body stalled for 2s (api.stall_timeout)"), "{answer}");
    }
    others_are_served(&mut env).await;
    all_is_as_before(&mut env, open_files).await;
}

#[tokio::test]
async fn too_large_file_is_refused_early_with_a_readable_reason() {
    // Long enough for a sender on a loaded machine.
    let mut env = env_with_limits("max_file_bytes = 1000000\nstall_timeout = '10s'").await;
    let expected = "the file has more than 1000000 bytes (api.max_file_bytes)";
    let refused = |answer: &str| {
        assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
        assert!(answer.contains("content-type: application/problem+json") && answer.contains(expected), "{answer}");
    };
    // Announced: before a byte of it has come, and without asking for it.
    refused(&Raw::with(&env, upload(10_000_000_000, 0)).await.until(expected).await);
    let asks = "POST /v1/jobs?target=leads&format=csv HTTP/1.1\r\nHost: d\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n";
    refused(&Raw::with(&env, asks).await.until(expected).await);
    // The plainest of clients sends all of it and only then reads.
    let mut plain = Raw::with(&env, upload(30_000_000, 30_000_000)).await;
    refused(&plain.until(expected).await);
    // In chunks, when it is too large.
    let file = rows(20_000_000);
    let mut chunked = Raw::with(
        &env,
        "POST /v1/jobs?target=leads&format=csv HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
    .await;
    for piece in file.chunks(100_000) {
        chunked.send(format!("{:x}\r\n", piece.len())).await.expect("it is read on");
        chunked.send([piece, b"\r\n"].concat()).await.expect("it is read on");
    }
    refused(&chunked.until(expected).await);
    // As the command line sends it.
    let file = env.folder.path().join("large.csv");
    std::fs::write(&file, rows(30_000_000)).expect("a file");
    let client = Command::new(crate::support::binary())
        .args(["add", "leads"])
        .arg(&file)
        .env("MARQUEUE_SOCKET", env.socket())
        .output()
        .expect("it runs");
    assert_eq!(client.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&client.stderr).contains(expected), "{client:?}");
    others_are_served(&mut env).await;
    let jobs = env.json("GET", "/v1/jobs").await.1;
    assert_eq!(jobs["jobs"].as_array().expect("jobs").len(), 1);
    env.until("nothing is received", async |env| (receiving(env).await == 0).then_some(())).await;
}

#[tokio::test]
async fn a_thousand_idle_connections_are_closed_for_new_ones() {
    let mut env = env_with_limits("max_connections = 40\nidle_timeout = '3s'").await;
    others_are_served(&mut env).await;
    let open_files = env.open_files();
    let mut idle = Vec::new();
    for n in 0..600 {
        // Half of them have begun a request that they never end.
        let began = if n % 2 == 0 { "" } else { "GET /v1/status HTTP/1.1\r\nHost:" };
        let mut raw = Raw::open(&env).await;
        // Some are closed by now for those after them.
        let _ = raw.send(began).await;
        idle.push(raw);
    }
    others_are_served(&mut env).await;
    assert!(env.open_files() <= open_files + 40 + 8, "{} files are open", env.open_files());
    for raw in &mut idle {
        assert_eq!(raw.rest().await, "");
    }
    all_is_as_before(&mut env, open_files).await;
    let count = env.log().matches("api.max_connections reached").count();
    assert!((1..20).contains(&count), "once for each time that it came to that: {count}");
}

#[tokio::test]
async fn request_with_endless_headers_is_closed() {
    // Longer than a client on a loaded machine takes for its request.
    let mut env = env_with_limits("idle_timeout = '2s'").await;
    let mut raw = Raw::with(&env, "GET /healthz HTTP/1.1\r\n").await;
    while raw.send("X-Slow: 1\r\n").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    others_are_served(&mut env).await;
}

#[tokio::test]
async fn invalid_requests_are_refused_and_closed() {
    let mut env = env_with_limits("idle_timeout = '5s'").await;
    others_are_served(&mut env).await;
    let open_files = env.open_files();
    let start = "GET /healthz HTTP/1.1\r\nHost: d\r\n";
    for (what, bytes, status) in [
        ("one large header", format!("{start}X: {}\r\n\r\n", "x".repeat(8 * MB)).into_bytes(), "431"),
        ("thousands of headers", format!("{start}{}\r\n", "X: y\r\n".repeat(5_000)).into_bytes(), "431"),
        ("a path without an end", [b"GET /".as_slice(), &vec![b'x'; 8 * MB]].concat(), "4"),
        ("bad bytes", b"GET /healthz HTTP/1.1\r\nHo\x00st: \xff\x01\r\n\r\n".to_vec(), "400"),
        ("no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n".to_vec(), "400"),
        ("two lengths", format!("{start}Content-Length: 1\r\nContent-Length: 2\r\n\r\n").into_bytes(), "400"),
        ("no length at all", format!("{start}Content-Length: minus\r\n\r\n").into_bytes(), "400"),
    ] {
        let mut raw = Raw::open(&env).await;
        // The daemon may close before all of it is sent.
        let _ = raw.send(bytes).await;
        let answer = raw.rest().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{what}: {answer}");
    }
    let mut pipelined = Raw::with(&env, format!("{start}\r\n{start}\r\n\x00\x01rubbish\r\n\r\n")).await;
    let answer = pipelined.rest().await;
    assert_eq!((answer.matches("HTTP/1.1 200").count(), answer.matches("HTTP/1.1 400").count()), (2, 1), "{answer}");
    others_are_served(&mut env).await;
    all_is_as_before(&mut env, open_files).await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_disconnected() {
    // Longer than a client on a loaded machine stalls.
    let mut env = env_with_limits("stall_timeout = '2s'").await;
    let id = env.add("target=leads&format=csv", rows(20 * MB)).await.id;
    let open_files = env.open_files();
    let before = env.most_memory();
    let mut readers = Vec::new();
    for n in 0..40 {
        let path = if n % 2 == 0 { format!("/v1/jobs/{id}/file") } else { "/v1/events".to_owned() };
        let mut reader = Raw::with(&env, format!("GET {path} HTTP/1.1\r\nHost: d\r\n\r\n")).await;
        // They are all there before it is counted who is left.
        reader.until("\r\n\r\n").await;
        readers.push(reader);
    }
    env.until("the files' readers are left", async |env| (env.open_files() <= open_files + 8 + 20).then_some(())).await;
    // Events that fill what the system keeps for a reader of them.
    let group = "g".repeat(250);
    let mut changes = 0;
    while env.open_files() > open_files + 8 {
        changes += 1;
        assert!(changes < 5_000, "the readers of events are still there");
        env.add(&format!("target=leads&format=csv&group={group}"), leads(&["ann@example.com"])).await;
    }
    let grown = env.most_memory() - before;
    assert!(grown < 64 * MB as u64, "{grown} bytes more");
    others_are_served(&mut env).await;
    all_is_as_before(&mut env, open_files).await;
}

#[tokio::test]
async fn a_client_waiting_for_events_is_not_idle() {
    // Longer than a client on a loaded machine takes for its request.
    let env = env_with_limits("idle_timeout = '2s'\nstall_timeout = '2s'").await;
    env.request("POST", "/v1/instances/default/pause", "").await;
    let id = env.add("target=leads&format=csv", leads(&["ann@example.com"])).await.id;
    let mut events = Raw::with(&env, "GET /v1/events HTTP/1.1\r\nHost: d\r\n\r\n").await;
    events.until("\r\n\r\n").await;
    // Longer than the idle timeout; then it is answered.
    let ask = format!("GET /v1/jobs/{id}?wait=5s HTTP/1.1\r\nHost: d\r\n\r\n");
    Raw::with(&env, ask).await.until("\"state\":\"pending\"").await;
    env.request("POST", "/v1/instances/default/resume", "").await;
    events.until("\"state\":\"complete\"").await;
}

#[tokio::test]
async fn a_connection_above_the_limit_waits_and_is_served() {
    let mut env = env_with_limits("max_connections = 3").await;
    let file = rows(MB);
    let mut busy = Vec::new();
    for _ in 0..3 {
        busy.push(Raw::with(&env, &upload(file.len(), 1000)).await);
    }
    let mut next = Raw::with(&env, "GET /healthz HTTP/1.1\r\nHost: d\r\n\r\n").await;
    env.until("it has come in", async |env| env.log().contains("api.max_connections reached").then_some(())).await;
    let mut first = busy.remove(0);
    first.send(&file[1000..]).await.expect("it is taken");
    first.until("HTTP/1.1 201").await;
    next.until("HTTP/1.1 200").await;
}

const EVENTS: &str = "GET /v1/events HTTP/1.1\r\nHost: d\r\n\r\n";

#[tokio::test]
async fn waiting_responses_leave_connections_for_short_requests() {
    let mut env = env_with_limits("max_connections = 8").await;
    env.request("POST", "/v1/instances/default/pause", "").await;
    let id = env.add("target=leads&format=csv", leads(&["ann@example.com"])).await.id;
    let mut streams = Vec::new();
    let mut waits = Vec::new();
    for _ in 0..15 {
        let mut raw = Raw::with(&env, EVENTS).await;
        let mut answer = raw.until("\r\n\r\n").await;
        if answer.starts_with("HTTP/1.1 200 ") {
            streams.push(raw);
        } else {
            if !answer.contains('}') {
                answer += &raw.until("}").await;
            }
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: 2\r\n"), "{answer}");
            assert!(answer.contains("urn:marqueue:problem:too-many-waiting"), "{answer}");
        }
        // The response to the first of the two requests says that the second is about to be answered.
        let requests = ["/healthz".to_owned(), format!("/v1/jobs/{id}?wait=1h")];
        let requests = requests.map(|path| format!("GET {path} HTTP/1.1\r\nHost: d\r\n\r\n")).concat();
        let mut raw = Raw::with(&env, requests).await;
        let answer = raw.until("ok\n").await;
        waits.push((raw, answer));
    }
    // A wait may take its place after the next stream has asked for one, so which four have a place is not known.
    env.until("all but four have a response", async |_| {
        for (raw, answer) in &mut waits {
            answer.push_str(&raw.received());
        }
        let is_answered = |answer: &str| answer.matches("HTTP/1.1 200 ").count() == 2;
        let answered =
            waits.iter().filter(|(_, answer)| is_answered(answer) && answer.contains("\"state\":\"pending\""));
        (streams.len() + waits.len() - answered.count() == 4).then_some(())
    })
    .await;
    for words in [vec!["health"], vec!["status"], vec!["pause"], vec!["show", "1"]] {
        let ran =
            Command::new(crate::support::binary()).args(&words).env("MARQUEUE_SOCKET", env.socket()).output().unwrap();
        assert!(ran.status.success(), "{words:?}: {ran:?}");
    }
    // Other long work is refused as well, and does not take the last places.
    for (method, path) in [("GET", "/v1/backup"), ("POST", "/v1/retention")] {
        assert_eq!(env.request(method, path, "").await.0, 503, "{path}");
    }
    // A place is free again when one has gone.
    drop((streams, waits));
    env.until("events can be followed", async |env| {
        let mut raw = Raw::with(env, EVENTS).await;
        raw.until("\r\n").await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    assert_eq!(env.request("GET", "/v1/backup", "").await.0, 200);
}

#[tokio::test]
async fn events_of_chosen_jobs_begin_with_their_state() {
    let mut env = env_with_limits("").await;
    env.request("POST", "/v1/instances/default/pause", "").await;
    for n in 0..3 {
        env.add("target=leads&format=csv", leads(&[&format!("ann{n}@example.com")])).await;
    }
    let mut events = Raw::with(&env, "GET /v1/events?job=3,1,3 HTTP/1.1\r\nHost: d\r\n\r\n").await;
    // Both may come in one piece.
    let begun = events.until("\"id\":1,").await;
    assert!(begun.contains("\"id\":3,"), "{begun}");
    env.request("POST", "/v1/instances/default/resume", "").await;
    env.ended(marqueue::domain::JobId(2)).await;
    let mut printed = String::new();
    while printed.matches("\"state\":\"complete\"").count() < 2 || !printed.contains("\"id\":1,") {
        printed += &events.until("\n\n").await;
    }
    assert!(!printed.contains("\"id\":2,") && !printed.contains("event: instance"), "{printed}");
    for (query, status) in [("job=99", 404), ("job=0", 400), ("job=1,x", 400), ("job=1,,2", 400), ("jobs=1", 400)] {
        assert_eq!(env.request("GET", &format!("/v1/events?{query}"), "").await.0, status, "{query}");
    }
    let many: Vec<String> = (1..=1001).map(|id: u32| id.to_string()).collect();
    assert_eq!(env.request("GET", &format!("/v1/events?job={}", many.join(",")), "").await.0, 400);
}

#[tokio::test]
async fn a_reconnected_follower_gets_missed_events() {
    let mut env = env_with_limits("").await;
    env.request("POST", "/v1/instances/default/pause", "").await;
    let add = async |env: &TestEnv| env.add("target=leads&format=csv", leads(&["ann@example.com"])).await.id;
    let follow = async |env: &TestEnv, last: &str| {
        let header = if last.is_empty() { String::new() } else { format!("Last-Event-ID: {last}\r\n") };
        Raw::with(env, format!("GET /v1/events HTTP/1.1\r\nHost: d\r\n{header}\r\n")).await
    };
    let mut events = follow(&env, "").await;
    events.until("\r\n\r\n").await;
    let first = add(&env).await;
    let received = events.until("\n\n").await;
    let id = received.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").trim().to_owned();
    drop(events);
    let second = add(&env).await;
    env.request("POST", &format!("/v1/jobs/{second}/cancel"), "").await;

    // What came in between, each job once with its state now, then what comes.
    let mut events = follow(&env, &id).await;
    let mut received = events.until(&format!("\"id\":{second},")).await;
    let third = add(&env).await;
    while !received.contains(&format!("\"id\":{third},")) {
        received += &events.until("\n\n").await;
    }
    assert!(received.contains("\"state\":\"cancelled\""), "{received}");
    assert!(!received.contains(&format!("\"id\":{first},")) && !received.contains("event: missed"), "{received}");
    drop(events);

    // After a restart the changes are lost, and the stream reports that.
    env.terminate().await;
    env.start().await;
    let mut events = follow(&env, &id).await;
    let received = events.until("\"count\":null").await;
    assert!(received.contains("event: missed"), "{received}");
}

// The simulator goes on while commands are waited for.
#[tokio::test(flavor = "multi_thread")]
async fn many_waiting_commands_do_not_delay_others() {
    let mut env = env_with_limits("max_connections = 12").await;
    env.request("POST", "/v1/instances/default/pause", "").await;
    let id = env.add("target=leads&format=csv", leads(&["ann@example.com"])).await.id;
    let file = env.folder.path().join("a.csv");
    std::fs::write(&file, leads(&["bob@example.com"])).expect("a file");
    let command = |words: &[&str]| {
        let mut command = Command::new(crate::support::binary());
        command.args(words).env("MARQUEUE_SOCKET", env.socket());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
        command
    };
    let number = id.to_string();
    let mut waits: Vec<_> = (0..30).map(|_| command(&["wait", &number]).spawn().expect("it starts")).collect();
    let add = command(&["add", "leads", file.to_str().unwrap(), "--wait"]).spawn().expect("it starts");
    waits.push(add);
    let asked = [vec!["health"], vec!["pause"], vec!["status"], vec!["add", "leads", file.to_str().unwrap()]];
    for round in 0..5 {
        for words in &asked {
            let ran = command(words).output().expect("it runs");
            assert!(ran.status.success(), "{words:?} in round {round}: {ran:?}");
        }
    }
    assert!(waits.iter_mut().all(|wait| wait.try_wait().expect("its state").is_none()), "all still wait");
    assert_eq!(command(&["resume"]).status().expect("it runs").code(), Some(0));
    for wait in waits {
        let ran = wait.wait_with_output().expect("it ends");
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    }
    others_are_served(&mut env).await;
}

#[tokio::test]
async fn wait_uses_one_connection() {
    let mut env = env_with_limits("").await;
    env.request("POST", "/v1/instances/default/pause", "").await;
    for n in 0..5 {
        env.add("target=leads&format=csv", leads(&[&format!("ann{n}@example.com")])).await;
    }
    let sockets = |env: &TestEnv| {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", env.pid())).expect("they can be listed");
        let links = fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    };
    let before = sockets(&env);
    let mut waits: Vec<_> = (0..10)
        .map(|_| {
            let mut command = Command::new(crate::support::binary());
            command.args(["wait", "1", "2", "3", "4", "5"]).env("MARQUEUE_SOCKET", env.socket());
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().expect("it starts")
        })
        .collect();
    for wait in &mut waits {
        // Each says how the jobs stand, and then waits.
        let lines = BufReader::new(wait.stderr.take().expect("it was asked for")).lines().map_while(Result::ok);
        assert_eq!(lines.take(5).count(), 5);
    }
    env.until("one connection each is left", async |env| (sockets(env) == before + 10).then_some(())).await;
    for mut wait in waits {
        wait.kill().expect("it is ended");
        wait.wait().expect("it ends");
    }
}

#[tokio::test]
async fn the_slowest_transfer_is_closed_for_short_requests() {
    let mut env = env_with_limits("max_connections = 4").await;
    // As it comes: the pieces below make no rows.
    let head =
        "POST /v1/jobs?target=leads&format=csv&check=false HTTP/1.1\r\nHost: d\r\nContent-Length: 400000000\r\n\r\n";
    let mut fast = Vec::new();
    for _ in 0..3 {
        fast.push(Raw::with(&env, head).await);
    }
    let mut drips = Raw::with(&env, head).await;
    let piece = rows(20_000)[..20_000].to_vec();
    let expected = "closed as the slowest connection because api.max_connections is reached";
    let mut next = Raw::open(&env).await;
    next.send("GET /healthz HTTP/1.1\r\nHost: d\r\n\r\n").await.expect("it is taken");
    let sending = async {
        loop {
            for raw in &mut fast {
                raw.send(&piece).await.expect("it is taken");
            }
            drips.send(&piece[..2000]).await.ok();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = sending => {}
        _ = next.until("HTTP/1.1 200") => {}
    }
    let answer = drips.rest().await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(expected), "{answer}");
    for raw in &mut fast {
        raw.send(&piece).await.expect("the others go on");
    }
    // The place that it had is enough for all that is short.
    for _ in 0..20 {
        env.get("/healthz").await;
    }
    drop(fast);
    others_are_served(&mut env).await;
}

#[tokio::test]
async fn a_new_connection_is_not_closed_before_its_request() {
    let env = env_with_limits("max_connections = 4").await;
    let mut events = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::with(&env, EVENTS).await;
        raw.until("HTTP/1.1 200").await;
        events.push(raw);
    }
    // Each pair connects before either has sent a request, and two more wait behind them.
    for _ in 0..20 {
        let mut four = Vec::new();
        for _ in 0..4 {
            four.push(Raw::open(&env).await);
        }
        for raw in &mut four {
            raw.send("GET /healthz HTTP/1.1\r\nHost: d\r\n\r\n").await.expect("it is taken");
        }
        for raw in &mut four {
            raw.until("ok\n").await;
        }
    }
}

#[tokio::test]
async fn many_slow_uploads_at_once_take_little_memory() {
    let mut env = env_with_limits("").await;
    others_are_served(&mut env).await;
    let (open_files, before) = (env.open_files(), env.most_memory());
    let mut slow = Vec::new();
    for _ in 0..150 {
        slow.push(Raw::with(&env, upload(5 * MB, MB + 200_000)).await);
    }
    env.until("all are being received", async |env| (receiving(env).await == 150).then_some(())).await;
    others_are_served(&mut env).await;
    let grown = env.most_memory() - before;
    assert!(grown < 150 * MB as u64, "{grown} bytes more");
    drop(slow);
    all_is_as_before(&mut env, open_files).await;
}

#[tokio::test]
async fn many_fast_uploads_at_once_take_little_memory() {
    let mut env = env_with_limits("").await;
    others_are_served(&mut env).await;
    // What is accepted is not to be sent yet: that would be another's memory.
    env.request("POST", "/v1/instances/default/pause", "").await;
    let before = env.most_memory();
    let file = bytes::Bytes::from(noise(8 * MB));
    let uploads = (0..100).map(|_| env.request("POST", "/v1/jobs?target=leads&format=csv&check=false", file.clone()));
    let done = futures_util::future::join_all(uploads).await;
    assert!(done.iter().all(|(status, _)| *status == 201));
    let grown = env.most_memory() - before;
    assert!(grown < 150 * MB as u64, "{grown} bytes more");
}

/// Rows that no compression makes much smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut file = b"email,noise\n".to_vec();
    let mut state = 1_u64;
    while file.len() < bytes {
        file.extend(b"a@example.com,");
        for _ in 0..100 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            file.extend(format!("{:016x}", state ^ (state >> 29)).bytes());
        }
        file.push(b'\n');
    }
    file
}

#[tokio::test]
async fn an_unknown_parameter_is_refused_on_every_route() {
    let env = env_with_limits("").await;
    let id = env.add("target=leads&format=csv", leads(&["ann@example.com"])).await.id;
    for (method, path) in [
        ("GET", "jobs".to_owned()),
        ("POST", "jobs".to_owned()),
        ("GET", format!("jobs/{id}")),
        ("GET", format!("jobs/{id}/failures")),
        ("GET", format!("jobs/{id}/warnings")),
        ("GET", format!("jobs/{id}/file")),
        ("GET", format!("jobs/{id}/history")),
        ("GET", format!("jobs/{id}/explain")),
        ("POST", format!("jobs/{id}/cancel")),
        ("POST", format!("jobs/{id}/retry")),
        ("POST", format!("jobs/{id}/settle")),
        ("GET", "events".to_owned()),
        ("GET", "status".to_owned()),
        ("POST", "instances/default/pause".to_owned()),
        ("POST", "instances/default/resume".to_owned()),
    ] {
        let new = if (method, path.as_str()) == ("POST", "jobs") { "target=leads&format=csv&" } else { "" };
        let (status, body) =
            env.request(method, &format!("/v1/{path}?{new}nonsense=1"), "email\na@example.com\n").await;
        let body = String::from_utf8_lossy(&body);
        assert_eq!(status, 400, "{method} {path}: {body}");
        assert!(body.contains("nonsense"), "{method} {path}: {body}");
    }
}

/// Sets how many files the daemon may have open, while it runs.
fn may_open(env: &TestEnv, files: u64) {
    let pid = Pid::from_raw(env.pid().try_into().expect("a process id"));
    let limit = prlimit(pid, Resource::Nofile, Rlimit { current: Some(files), maximum: Some(4096) });
    limit.expect("its limit can be set");
}

#[tokio::test]
async fn exhausted_file_descriptors_are_logged_once() {
    let mut env = env_with_limits("").await;
    others_are_served(&mut env).await;
    let expected = "connections can't be accepted";
    for spell in 1..=2 {
        // Its own are closed for those who come, so one connection has to be allowed to stay.
        let mut events = Raw::with(&env, "GET /v1/events HTTP/1.1\r\nHost: d\r\n\r\n").await;
        events.until("\r\n\r\n").await;
        may_open(&env, 3);
        let mut waits = Raw::with(&env, "GET /healthz HTTP/1.1\r\nHost: d\r\n\r\n").await;
        env.until("it is logged", async |env| (env.log().matches(expected).count() >= spell).then_some(())).await;
        // Some tries later.
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(env.log().matches(expected).count(), spell, "it is logged once each time");
        may_open(&env, 1024);
        waits.until("HTTP/1.1 200").await;
        others_are_served(&mut env).await;
    }
}

#[tokio::test]
async fn low_fd_limit_lowers_connections_or_stops_the_start() {
    let env = TestEnv::new(quick()).await;
    env.write_config();
    let serve = |files: u32| {
        let line = format!("ulimit -n {files}; exec \"$0\" serve --config \"$1\"");
        let mut command = Command::new("sh");
        command.args(["-c", &line]).arg(crate::support::binary()).arg(env.config_file());
        command.stderr(std::process::Stdio::piped());
        command
    };
    let refused = serve(30).output().expect("it runs");
    assert!(!refused.status.success());
    let printed = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(printed.contains("this process may open 30 files, and needs at least 72: raise its limit"), "{printed}");
    let mut few = serve(100).spawn().expect("it runs");
    let mut lines = BufReader::new(few.stderr.take().expect("it was asked for")).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("api.max_connections is 500")).expect("it is logged");
    assert!(line.contains("29 connections are taken at once"), "{line}");
    lines.find(|line| line.contains("the daemon is ready")).expect("it starts");
    let mut connections = Vec::new();
    for _ in 0..100 {
        connections.push(Raw::open(&env).await);
    }
    env.add("target=leads&format=csv", leads(&["ann@example.com"])).await;
    few.kill().expect("it is ended");
    few.wait().expect("it ends");
}
