//! Is anything lost, sent twice or passed when the daemon is killed again and again? The real binary, SIGKILL at any
//! moment, faults on the way to Marketo, and a judge that believes the simulator and the clients.
//!
//! All that is random comes from one seed: files, faults, moments. `CRASH_RUNS=500 CRASH_SEED=7 cargo test --release --test
//! crash kill_9 -- --nocapture` kills so often, in houses of at most [`KILLS`] kills each; a house that broke a promise is
//! named by its seed and its kills, and with these it is lived in again.

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use sha2::{Digest, Sha256};

mod clients;
mod fault_injection;
mod files;
mod kill_points;
mod operator;
mod oracle;
mod oracle_tests;
mod scenario;
#[path = "../support/test_env.rs"]
mod test_env;
mod trace;
mod uploads;
mod valid_trace;

use oracle::{Promise, judge};
use scenario::Episode;

/// In one house.
const KILLS: u32 = 25;

/// For one purpose, so that what one of those who throw them does changes nothing for the others.
fn dice(seed: u64, purpose: &str) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::from_seed(
        Sha256::new().chain_update(seed.to_le_bytes()).chain_update(purpose).finalize().into(),
    )
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a whole number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_at_any_moment_loses_nothing_and_passes_no_limit() {
    let mut left = number("CRASH_RUNS").map_or(KILLS, |kills| u32::try_from(kills).expect("no more than can be"));
    // In this house the queue and the window of calls are used to their end.
    let mut seed = number("CRASH_SEED").unwrap_or(31);
    let mut faults = Vec::new();
    while left > 0 {
        let kills = left.min(KILLS);
        println!("CRASH_SEED={seed} CRASH_RUNS={kills}");
        let (story, count) = Episode::new(seed).await.live(kills, None).await;
        println!("  {:?}\n  {count}\n  {:?}\n  {:?}", story.limits, count.moments, count.faults);
        let broken = judge(&story);
        if broken.is_empty() {
            // About what really happened the judge is as hard to deceive as about what was made up.
            oracle_tests::are_found_out(&story);
        }
        faults.extend(broken.into_iter().map(|broken| format!("CRASH_SEED={seed} CRASH_RUNS={kills}: {broken}")));
        (left, seed) = (left - kills, seed + 1);
    }
    assert!(faults.is_empty(), "{} promises were broken:\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_whose_database_lies_to_it_is_found_out() {
    // In this house a lost answer is sent again, and nobody else is at Marketo.
    let seed = 2;
    let houses = [
        ("DELETE FROM job WHERE state = 'pending'", Promise::Kept),
        ("UPDATE job SET state = 'complete', finished_at = 1 WHERE state = 'pending'", Promise::Imported),
        (
            "UPDATE batch SET state = 'pending', marketo_batch_id = NULL, accepted_at = NULL, importing_at = NULL
             WHERE state IN ('queued', 'importing') AND polled_at IS NOT NULL",
            Promise::Once,
        ),
    ];
    let houses = houses.map(|(statement, promise)| async move {
        let (story, _) = Episode::new(seed).await.live(6, Some(statement)).await;
        let broken = judge(&story);
        assert!(broken.iter().any(|broken| broken.promise == promise), "{statement} was not found out: {broken:?}");
    });
    futures_util::future::join_all(houses).await;
}
