//! TLS on TCP, and new certificates without a restart.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use reqwest::Certificate;

use crate::compat_env::{CRM, Program};
use crate::support::{TestEnv, quick};

const ROOT: &str = include_str!("../tls/root.pem");
const ONE: [&str; 2] = [include_str!("../tls/one.pem"), include_str!("../tls/one.key")];
const TWO: [&str; 2] = [include_str!("../tls/two.pem"), include_str!("../tls/two.key")];

/// What the certificate of a host of this name is good for.
async fn reached(env: &TestEnv, name: &str) -> bool {
    let address: SocketAddr = env.tcp_address().await.parse().expect("an address");
    let http = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([Certificate::from_pem(ROOT.as_bytes()).expect("the root")])
        .resolve(name, address)
        .build()
        .expect("a client");
    let program = Program { base: format!("https://{name}:{}", address.port()), http, token: String::new() };
    let Ok(answer) = program.http.get(format!("{}/healthz", program.base)).send().await else { return false };
    assert_eq!(answer.status(), 200);
    let program = program.logged_in("crm", "crm-secret-4711").await;
    assert_eq!(program.get("/v1/jobs").await.0, 200);
    true
}

fn put(env: &TestEnv, [cert, key]: [&str; 2]) {
    fs::write(env.folder.path().join("cert"), cert).expect("written");
    fs::write(env.folder.path().join("key"), key).expect("written");
}

/// Sends SIGHUP, and waits until the log has the text so many times.
async fn hang_up(env: &mut TestEnv, text: &str, times: usize) {
    env.signal("HUP");
    env.until(text, async |env| (env.log().matches(text).count() >= times).then_some(())).await;
}

#[tokio::test]
async fn a_new_certificate_needs_no_restart() {
    let mut env = TestEnv::new(quick()).await;
    put(&env, ONE);
    let folder = env.folder.path();
    env.api = format!(
        "listen = \"127.0.0.1:0\"\ntls_cert = {:?}\ntls_key = {:?}\n{CRM}",
        folder.join("cert"),
        folder.join("key")
    );
    env.start().await;
    assert!(reached(&env, "one.test").await);
    assert!(!reached(&env, "two.test").await, "it is not that host's certificate");
    let plain = Program::new(format!("http://{}", env.tcp_address().await));
    assert!(plain.http.get(format!("{}/healthz", plain.base)).send().await.is_err());

    // A wrong new file keeps the old one.
    put(&env, [TWO[0], ONE[1]]);
    hang_up(&mut env, "the old ones stay in force", 1).await;
    assert!(reached(&env, "one.test").await);
    put(&env, ["nothing", "at all"]);
    hang_up(&mut env, "the old ones stay in force", 2).await;
    assert!(reached(&env, "one.test").await);

    put(&env, TWO);
    hang_up(&mut env, "the TLS files were read again\"", 1).await;
    assert!(reached(&env, "two.test").await);
    assert!(!reached(&env, "one.test").await);
    assert!(env.terminate().await.success());
}

#[tokio::test]
async fn sighup_without_tls_does_not_stop_the_daemon() {
    let mut env = TestEnv::with_daemon(quick()).await;
    hang_up(&mut env, "the configuration was read again", 1).await;
    assert_eq!(env.json("GET", "/v1/status").await.0, 200);
}

#[tokio::test]
async fn wrong_tls_files_or_a_used_address_stop_the_start() {
    let mut env = TestEnv::new(quick()).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|address| (taken, address)).expect("its address");
    put(&env, [ONE[0], TWO[1]]);
    let folder = env.folder.path().to_owned();
    for (api, text) in [
        (format!("listen = \"{}\"\n{CRM}", taken.1), "api.listen: "),
        (
            format!(
                "listen = \"127.0.0.1:0\"\ntls_cert = {:?}\ntls_key = {:?}\n{CRM}",
                folder.join("cert"),
                folder.join("key")
            ),
            "api.tls_cert and api.tls_key can't be used together",
        ),
        ("listen = \"127.0.0.1:0\"\n".into(), "api.listen needs at least one entry in [[api.clients]]"),
    ] {
        env.api = api;
        env.write_config();
        let ended = Command::new(crate::support::binary()).args(["serve", "--config"]).arg(env.config_file()).output();
        let ended = ended.expect("it runs");
        let words = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success() && words.contains(text), "{words}");
    }
}

#[tokio::test]
async fn an_address_beyond_this_machine_needs_tls_or_permission() {
    let mut env = TestEnv::new(quick()).await;
    env.api = format!("listen = \"0.0.0.0:0\"\n{CRM}");
    env.write_config();
    let ended = Command::new(crate::support::binary()).args(["serve", "--config"]).arg(env.config_file()).output();
    let ended = ended.expect("it runs");
    let words = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(2) && words.contains("api.plaintext_beyond_loopback = true"), "{words}");

    env.api = format!("listen = \"0.0.0.0:0\"\nplaintext_beyond_loopback = true\n{CRM}");
    env.start().await;
    let log = env.log();
    let warned =
        |line: &&str| line.contains("WARN") && line.contains("api.listen is 0.0.0.0:0, which other machines can reach");
    assert!(log.lines().any(|line| warned(&line)), "{log}");
}
