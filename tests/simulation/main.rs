//! Do the promises hold in ten thousand worlds? Each is made by one seed: arrivals, faults, lost requests, lost answers,
//! kills, other integrations' imports, clocks that jump, a person who pauses and retries.
//!
//! `SIMULATION_RUNS=n` says how many, `SIMULATION_SEED=n` replays one and tells its story.

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

use driver::{Count, Lie, World};
use invariants::{Broken, Promise};

/// Steps of a world before its faults cease.
const STEPS: u32 = 80;

/// In how many worlds each lie is told, until it is found out.
const LIES: u64 = 1_000;

/// Lives through a world. The error is the promise that was broken, and the world's story if it was kept.
fn live(seed: u64, lie: Lie, keep_log: bool) -> Result<Count, (Broken, Vec<String>)> {
    let mut world = World::new(seed, lie);
    world.keep_log = keep_log;
    let mut lived = || {
        for _ in 0..STEPS {
            world.step()?;
        }
        world.settle()
    };
    match lived() {
        Ok(()) => Ok(world.count),
        Err(broken) => Err((broken, world.log)),
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a whole number"))
}

#[test]
fn the_promises_hold_in_every_world() {
    if let Some(seed) = number("SIMULATION_SEED") {
        if let Err((broken, story)) = live(seed, Lie::None, true) {
            panic!("{}\nworld {seed}: {broken}", story.join("\n"));
        }
        return;
    }
    let worlds = number("SIMULATION_RUNS").unwrap_or(10_000);
    let next = AtomicU64::new(0);
    let told = Mutex::new((Count::default(), BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= worlds {
                        return;
                    }
                    let lived = live(seed, Lie::None, false);
                    let (count, broken) = &mut *told.lock().unwrap();
                    match lived {
                        Ok(world) => *count += world,
                        Err((why, _)) => _ = broken.insert(seed, why),
                    }
                }
            });
        }
    });
    let (count, broken) = told.into_inner().unwrap();
    println!("{worlds} worlds: {count:?}");
    let first: Vec<String> =
        broken.iter().take(12).map(|(seed, why)| format!("SIMULATION_SEED={seed}: {why}")).collect();
    assert!(broken.is_empty(), "{} of {worlds} worlds broke a promise:\n{}", broken.len(), first.join("\n"));
}

#[test]
fn a_daemon_that_lies_is_found_out() {
    for (lie, promises) in [
        (Lie::ForgetsUploads, &[Promise::Queue, Promise::Group, Promise::List, Promise::Move][..]),
        (Lie::LooksAtRowsFirst, &[Promise::Queue, Promise::Group, Promise::List, Promise::Move]),
        (Lie::ForgetsGhosts, &[Promise::Queue]),
        (Lie::SendsAgainAfterAPoll, &[Promise::Once]),
        (Lie::SendsWithoutAReason, &[Promise::Reason]),
        (Lie::ForgetsGroups, &[Promise::Group]),
        (Lie::ForgetsLists, &[Promise::List]),
        (Lie::BurnsAttempts, &[Promise::Attempts]),
        (Lie::BlamesTheBatch, &[Promise::Attempts]),
        (Lie::TriesTheSame, &[Promise::Turn]),
        (Lie::ForgetsPolls, &[Promise::Polling]),
        (Lie::CallsWhilePaused, &[Promise::Paused]),
        (Lie::ForgetsCalls, &[Promise::Calls]),
        (Lie::Sleeps, &[Promise::Awake]),
        (Lie::TakesNoForYes, &[Promise::Fair]),
        (Lie::GivesUp, &[Promise::Fair]),
        (Lie::BelievesTheClock, &[Promise::Patience]),
        (Lie::ForgetsAbandoned, &[Promise::Queue]),
        (Lie::KeepsEndsOverALeap, &[Promise::Queue]),
        (Lie::BeginsADayAtALeap, &[Promise::Daily]),
    ] {
        let mut broken = (0..LIES).filter_map(|seed| live(seed, lie, false).err()).map(|(broken, _)| broken.promise);
        assert!(broken.any(|broken| promises.contains(&broken)), "{lie:?} was not found out");
    }
}
