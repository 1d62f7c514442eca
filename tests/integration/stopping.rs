//! Stopping: the daemon waits for answers to uploads, and not for polls or for uploads that have not begun.

use std::time::{Duration, Instant};

use marqueue::domain::{BatchState, JobId};
use marqueue::simulator::{Call, Fault, FaultEffect};
use tokio::net::TcpListener;

use crate::cli_env::{Size, Terminal};
use crate::support::{TestEnv, quick};

const FILE: &str = "email,firstName\nann@example.com,Ann\n";

/// Half of what a stop has for uploads under way.
const SOON: Duration = Duration::from_secs(30);

/// Longer than a stop waits for anything.
const HANGS: Duration = Duration::from_secs(110);

async fn stops_soon(env: &mut TestEnv) {
    let begun = Instant::now();
    assert!(env.terminate().await.success());
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert!(!env.log().contains("some work did not end in time"));
}

/// The daemon is started anew, and the job completes with the one upload that Marketo took.
async fn completes_after_a_start(mut env: TestEnv, id: JobId) {
    env.start().await;
    let job = env.ended(id).await;
    assert_eq!((job.batches[0].state, job.batches[0].attempts), (BatchState::Complete, 1), "{job:?}");
    assert_eq!(env.simulator.call_log().imports.len(), 1);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_polls_and_files() {
    for (call, file) in [(Call::Status, FILE), (Call::Failures, "email,firstName\nann@example.com,!fail:no\n")] {
        let mut env = TestEnv::with_daemon(quick()).await;
        env.simulator.push_fault(Fault::on(call, FaultEffect::delay(HANGS)));
        let id = env.add("target=leads&format=csv", file).await.id;
        env.until("the call hangs", async |env| (env.simulator.call_log().calls_of(call) > 0).then_some(())).await;
        stops_soon(&mut env).await;
        completes_after_a_start(env, id).await;
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_upload_that_has_not_begun() {
    // It takes connections and never answers the TLS handshake, so nothing of the upload can leave.
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = mute.local_addr().expect("its address");
    let mut env = TestEnv::new(quick()).await;
    let real = env.simulator.base_url().to_owned();
    let eu = |base_url: &str| {
        format!(
            "[instances.eu]\nbase_url = \"{base_url}\"\nidentity_url = \"{real}/identity\"\n\
             client_id = \"simulator\"\nclient_secret = \"secret\"\n"
        )
    };
    env.config = eu(&format!("https://{address}"));
    env.start().await;
    let id = env.add("target=leads&format=csv&instance=eu", FILE).await.id;
    let _connection = mute.accept().await.expect("the upload's connection");
    stops_soon(&mut env).await;
    env.config = eu(&real);
    completes_after_a_start(env, id).await;
}

#[tokio::test]
async fn a_stop_waits_for_the_answer_to_an_upload() {
    let mut env = TestEnv::with_daemon(quick()).await;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::delay(Duration::from_secs(3))));
    let id = env.add("target=leads&format=csv", FILE).await.id;
    env.until("Marketo has the upload", async |env| {
        (env.simulator.call_log().calls_of(Call::Create) > 0).then_some(())
    })
    .await;
    stops_soon(&mut env).await;
    completes_after_a_start(env, id).await;
}

#[tokio::test]
async fn closing_its_terminal_stops_the_daemon() {
    let mut env = TestEnv::new(quick()).await;
    let terminal = Terminal::new(Size { columns: 80, lines: 24 });
    env.terminal = Some(terminal.open());
    env.start().await;
    // As long as the terminal is open, SIGHUP means a reload.
    env.signal("HUP");
    env.until("the reload", async |env| env.log().contains("the configuration was read again").then_some(())).await;
    drop(terminal);
    let status = env.until("the daemon ends", async |env| env.exited()).await;
    assert!(status.success(), "{status}: {}", env.log());
    assert!(env.log().contains("the terminal was closed"), "{}", env.log());
}
