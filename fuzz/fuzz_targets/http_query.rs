//! Every path and query gets a response, and the accepted parameters of a job round-trip through the client.
//!
//! `cargo +nightly fuzz run http_query fuzz/corpus/http_query fuzz/seeds/http_query -- -max_total_time=60`
//!
//! The input is what follows `/v1/` in a request's first line, sent as it is to a daemon that has no jobs. What is
//! behind its `?` is read as the parameters of a new job too.
#![no_main]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use marqueue::client::{BatchOptions, NewFile};
use marqueue::api::handlers::create;
use marqueue::api::dto::Problem;
use marqueue::clock::Clock;
use marqueue::config::Config;
use marqueue::daemon::{Daemon, StartMode};
use marqueue::domain::Source;
use marqueue::intake::Checks;
use tokio::runtime::Runtime;

/// A daemon that runs as long as this process, and its socket.
static DAEMON: LazyLock<(PathBuf, Daemon, Runtime)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder").keep();
    let socket = folder.join("m.sock");
    let config = format!(
        "[store]\npath = {:?}\n[api]\nsocket = {socket:?}\n[instances.default]\nbase_url = 'http://127.0.0.1:1'\n\
         client_id = 'i'\nclient_secret = 's'",
        folder.join("q.db")
    );
    let config = Config::read(Some(("m.toml".as_ref(), &config)), []).expect("a configuration");
    let runtime = Runtime::new().expect("a runtime");
    let daemon = runtime.block_on(Daemon::start(&config, Clock::System, StartMode::Normal)).expect("a daemon");
    (socket, daemon, runtime)
});

fuzz_target!(|line: &[u8]| {
    if let Some((_, query)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once('?')) {
        accepted_parameters_round_trip(query);
    }
    // Headers are parsed by the HTTP library, and the event stream has no end.
    if line.iter().any(|byte| b"\r\n".contains(byte)) || line.starts_with(b"events") {
        return;
    }
    for method in ["GET", "POST"] {
        let mut client = UnixStream::connect(&DAEMON.0).expect("the daemon listens");
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let head = [method.as_bytes(), b" /v1/", line, b" HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"].concat();
        // It may be closed before all of it is taken.
        let _ = client.write_all(&head);
        let mut answer = Vec::new();
        if let Err(error) = client.read_to_end(&mut answer) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{method}: no end");
        }
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
        let status = status.unwrap_or_else(|| panic!("{method}: no answer: {answer}"));
        assert!(status < 500, "{method}: {answer}");
        // A refusal by the HTTP library has no body.
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        if status >= 400 && answer.contains("application/problem+json") {
            let problem: Problem = serde_json::from_str(body).expect("a problem document");
            assert_eq!(problem.status, status);
            assert!(!problem.detail.is_empty());
        } else {
            assert!(status < 400 || body.is_empty(), "{method}: {answer}");
        }
    }
});

fn pairs(query: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// Parameters that were accepted are written by the client and parsed again: both must be equal.
fn accepted_parameters_round_trip(query: &str) {
    let given = pairs(query);
    let source = Source::Socket { uid: Some(0) };
    let Ok((new, checks)) = create::read(given.clone(), None, source.clone()) else { return };
    assert_eq!(given.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), given.len(), "no name is given twice");
    let file = NewFile {
        target: new.target.clone(),
        filename: new.filename.clone(),
        format: new.format,
        instance: Some(new.instance.clone()),
        priority: new.priority,
        group: new.group.clone(),
        not_before: new.not_before,
        batches: BatchOptions {
            in_order: new.in_order,
            canary: new.canary,
            max_failed_percent: new.max_failed_percent,
        },
        pack: new.pack,
        idempotency_key: None,
        check: checks == Checks::All,
    };
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    let output = text.extend_pairs(file.parameters()).finish();
    let (again, checks_again) = create::read(pairs(&output), None, source).expect("what was accepted is accepted again");
    assert_eq!(format!("{again:?} {checks_again:?}"), format!("{new:?} {checks:?}"));
}
