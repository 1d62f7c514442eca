//! Crash tests: the real binary is killed with SIGKILL at random points, with faults injected on the way to Marketo,
//! and an oracle checks from the simulator and the clients that nothing is lost or sent twice and that no limit is
//! passed.
//!
//! All that is random comes from one seed: files, faults, kill points. `CRASH_RUNS=500 CRASH_SEED=7 cargo test
//! --release --test crash kills -- --nocapture` makes 500 kills, in scenarios of at most [`KILLS`] each. A scenario
//! that violates an invariant is printed with its seed and its number of kills, which repeat it.

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
mod sharing;
#[path = "../support/test_env.rs"]
mod test_env;
mod trace;
mod uploads;
mod valid_trace;

use oracle::{Invariant, check};
use scenario::Scenario;

/// Kills in one scenario.
const KILLS: u32 = 25;

/// A random number generator for one purpose. Draws for one purpose do not change those for another.
fn rng(seed: u64, purpose: &str) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::from_seed(
        Sha256::new().chain_update(seed.to_le_bytes()).chain_update(purpose).finalize().into(),
    )
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a whole number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_no_job_and_exceed_no_limit() {
    let mut left = number("CRASH_RUNS").map_or(KILLS, |kills| u32::try_from(kills).expect("no more than can be"));
    // In this scenario the queue and the window of calls are filled.
    let mut seed = number("CRASH_SEED").unwrap_or(31);
    let (mut faults, mut shared) = (Vec::new(), 0);
    while left > 0 {
        let kills = left.min(KILLS);
        println!("CRASH_SEED={seed} CRASH_RUNS={kills}");
        let (trace, stats) = Scenario::new(seed).await.run(kills, None).await;
        println!("  {:?}\n  {stats}\n  {:?}\n  {:?}", trace.limits, stats.kill_points, stats.faults);
        shared += stats.shared.imports;
        let violations = check(&trace);
        if violations.is_empty() {
            // The mutations are detected in real traces too, not only in the constructed one.
            oracle_tests::assert_all_detected(&trace);
        }
        faults.extend(
            violations.into_iter().map(|violations| format!("CRASH_SEED={seed} CRASH_RUNS={kills}: {violations}")),
        );
        (left, seed) = (left - kills, seed + 1);
    }
    assert!(shared > 0, "no jobs have shared an import");
    assert!(faults.is_empty(), "{} invariants were violated:\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tampering_with_the_database_is_detected() {
    // In this scenario an upload with a lost answer is sent again, and there are no other integrations. Batches that
    // share an import are left alone: with one of them changed, the others would never end.
    let seed = 2;
    let scenarios = [
        ("DELETE FROM job WHERE state = 'pending'", Invariant::NoJobLost),
        ("UPDATE job SET state = 'complete', finished_at = 1 WHERE state = 'pending'", Invariant::Imported),
        (
            "UPDATE batch SET state = 'pending', marketo_batch_id = NULL, accepted_at = NULL, importing_at = NULL
             WHERE state IN ('queued', 'importing') AND polled_at IS NOT NULL AND shared_import IS NULL",
            Invariant::NoUnexplainedResend,
        ),
    ];
    let scenarios = scenarios.map(|(statement, invariant)| async move {
        let (trace, _) = Scenario::new(seed).await.run(6, Some(statement)).await;
        let violations = check(&trace);
        assert!(
            violations.iter().any(|violations| violations.invariant == invariant),
            "{statement} was not detected: {violations:?}"
        );
    });
    futures_util::future::join_all(scenarios).await;
}
