//! What does a stop wait for? Not for the answers to questions, nor for uploads of which nothing has left.

use std::time::{Duration, Instant};

use marqueue::domain::{BatchState, JobId};
use marqueue::simulator::{Call, Fault, FaultEffect};
use tokio::net::TcpListener;

use crate::support::{Town, quick};

const FILE: &str = "email,firstName\nann@example.com,Ann\n";

/// Half of what a stop has for uploads under way.
const SOON: Duration = Duration::from_secs(30);

/// Longer than a stop waits for anything.
const HANGS: Duration = Duration::from_secs(110);

async fn stops_soon(town: &mut Town) {
    let begun = Instant::now();
    assert!(town.terminate().await.success());
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert!(!town.log().contains("some work did not end in time"));
}

/// The daemon is started anew, and the job completes with the one upload that Marketo took.
async fn completes_after_a_start(mut town: Town, id: JobId) {
    town.start().await;
    let job = town.ended(id).await;
    assert_eq!((job.batches[0].state, job.batches[0].attempts), (BatchState::Complete, 1), "{job:?}");
    assert_eq!(town.simulator.call_log().imports.len(), 1);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_polls_and_files() {
    for (call, file) in [(Call::Status, FILE), (Call::Failures, "email,firstName\nann@example.com,!fail:no\n")] {
        let mut town = Town::with_daemon(quick()).await;
        town.simulator.push_fault(Fault::on(call, FaultEffect::delay(HANGS)));
        let id = town.add("target=leads&format=csv", file).await.id;
        town.until("the call hangs", async |town| (town.simulator.call_log().calls_of(call) > 0).then_some(())).await;
        stops_soon(&mut town).await;
        completes_after_a_start(town, id).await;
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_upload_that_has_not_begun() {
    // It takes connections and never speaks TLS, so nothing of the upload can leave.
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = mute.local_addr().expect("its address");
    let mut town = Town::new(quick()).await;
    let real = town.simulator.base_url().to_owned();
    let eu = |base_url: &str| {
        format!(
            "[instances.eu]\nbase_url = \"{base_url}\"\nidentity_url = \"{real}/identity\"\n\
             client_id = \"simulator\"\nclient_secret = \"secret\"\n"
        )
    };
    town.config = eu(&format!("https://{address}"));
    town.start().await;
    let id = town.add("target=leads&format=csv&instance=eu", FILE).await.id;
    let _connection = mute.accept().await.expect("the upload's connection");
    stops_soon(&mut town).await;
    town.config = eu(&real);
    completes_after_a_start(town, id).await;
}

#[tokio::test]
async fn a_stop_waits_for_the_answer_to_an_upload() {
    let mut town = Town::with_daemon(quick()).await;
    town.simulator.push_fault(Fault::on(Call::Create, FaultEffect::delay(Duration::from_secs(3))));
    let id = town.add("target=leads&format=csv", FILE).await.id;
    town.until("Marketo has the upload", async |town| {
        (town.simulator.call_log().calls_of(Call::Create) > 0).then_some(())
    })
    .await;
    stops_soon(&mut town).await;
    completes_after_a_start(town, id).await;
}
