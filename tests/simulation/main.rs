//! Deterministic simulation: invariants are checked in ten thousand runs, each made by one seed. A seed decides
//! arrivals, faults, lost requests and answers, kills, other integrations' imports, clock jumps, and an operator's
//! pauses and retries.
//!
//! `SIMULATION_RUNS=n` sets the number of runs, `SIMULATION_SEED=n` repeats one of them and prints its log if it fails.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

mod checker;
mod driver;
mod invariants;
mod model_store;
mod outages;
mod worker;

use driver::{Mutation, Simulation, Stats};
use invariants::{Invariant, Violation};

/// Steps of a run before its faults cease.
const STEPS: u32 = 80;

/// The most runs in which a mutation is tried until it is detected.
const MUTATION_RUNS: u64 = 5_000;

/// Simulates one run. The error is the violated invariant, and the run's log if it was kept.
fn simulate(seed: u64, mutation: Mutation, keep_log: bool) -> Result<Stats, (Violation, Vec<String>)> {
    let mut simulation = Simulation::new(seed, mutation);
    simulation.keep_log = keep_log;
    let mut result = || {
        for _ in 0..STEPS {
            simulation.step()?;
        }
        simulation.drain()
    };
    match result() {
        Ok(()) => Ok(simulation.stats),
        Err(violation) => Err((violation, simulation.log)),
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a whole number"))
}

#[test]
fn invariants_hold_in_every_run() {
    if let Some(seed) = number("SIMULATION_SEED") {
        if let Err((violation, log)) = simulate(seed, Mutation::None, true) {
            panic!("{}\nseed {seed}: {violation}", log.join("\n"));
        }
        return;
    }
    let runs = number("SIMULATION_RUNS").unwrap_or(10_000);
    let next = AtomicU64::new(0);
    let results = Mutex::new((Stats::default(), BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= runs {
                        return;
                    }
                    let result = simulate(seed, Mutation::None, false);
                    let (stats, violations) = &mut *results.lock().unwrap();
                    match result {
                        Ok(simulation) => *stats += simulation,
                        Err((why, _)) => _ = violations.insert(seed, why),
                    }
                }
            });
        }
    });
    let (stats, violations) = results.into_inner().unwrap();
    println!("{runs} runs: {stats:?}");
    if runs >= 1_000 {
        let Stats { packed_imports, packed_jobs, unpacked, divided, rules, stopped, .. } = stats;
        assert!(packed_jobs >= 2 * packed_imports && packed_imports > 0, "{packed_jobs} in {packed_imports}");
        assert!(stopped > 0 && rules > 0, "{stopped} of {rules} jobs with rules were stopped");
        assert!(unpacked > 0 && divided > 0, "of these {unpacked} failed and {divided} were divided");
    }
    let first: Vec<String> =
        violations.iter().take(12).map(|(seed, why)| format!("SIMULATION_SEED={seed}: {why}")).collect();
    assert!(violations.is_empty(), "{} of {runs} runs violated an invariant:\n{}", violations.len(), first.join("\n"));
}

#[test]
fn every_mutation_is_detected() {
    for (mutation, invariants) in [
        (
            Mutation::ForgetsUploads,
            &[Invariant::Queue, Invariant::Group, Invariant::List, Invariant::LegalTransition][..],
        ),
        (Mutation::ReadsRowsFirst, &[Invariant::Queue, Invariant::Group, Invariant::List, Invariant::LegalTransition]),
        (Mutation::ForgetsUnconfirmed, &[Invariant::Queue]),
        (Mutation::ResendsAfterPoll, &[Invariant::NoUnexplainedResend]),
        (Mutation::ResendsWithoutReason, &[Invariant::ReasonRecorded]),
        (Mutation::ForgetsGroups, &[Invariant::Group]),
        (Mutation::ForgetsLists, &[Invariant::List]),
        (Mutation::ForgetsNotBefore, &[Invariant::NotBefore]),
        (Mutation::CountsRequeues, &[Invariant::Attempts]),
        (Mutation::BlamesBatch, &[Invariant::Attempts]),
        (Mutation::RetriesInSameOrder, &[Invariant::RetryOrder]),
        (Mutation::ForgetsPolls, &[Invariant::Polling]),
        (Mutation::CallsWhilePaused, &[Invariant::Paused]),
        (Mutation::ForgetsCalls, &[Invariant::Calls]),
        (Mutation::NeverWakes, &[Invariant::NoLostWakeup]),
        (Mutation::AcceptsRefusals, &[Invariant::FailsWithReason]),
        (Mutation::GivesUpAtOnce, &[Invariant::FailsWithReason]),
        (Mutation::TrustsClock, &[Invariant::OverdueTime]),
        (Mutation::ForgetsAbandoned, &[Invariant::Queue]),
        (Mutation::KeepsEndsOverJump, &[Invariant::Queue]),
        (Mutation::BeginsDayAtJump, &[Invariant::Daily]),
        (Mutation::RecordsForLeadOnly, &[Invariant::Sharing, Invariant::Attempts, Invariant::LegalTransition]),
        (Mutation::KeepsNoLead, &[Invariant::Sharing, Invariant::Queue]),
        (Mutation::CountsMembers, &[Invariant::Polling, Invariant::LegalTransition]),
        (Mutation::PacksAfterFailure, &[Invariant::Sharing]),
        (Mutation::ForgetsRules, &[Invariant::Rules]),
    ] {
        let mut violations = (0..MUTATION_RUNS)
            .filter_map(|seed| simulate(seed, mutation, false).err())
            .map(|(violation, _)| violation.invariant);
        assert!(violations.any(|violation| invariants.contains(&violation)), "{mutation:?} was not detected");
    }
}
