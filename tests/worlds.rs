//! Do the promises hold in ten thousand worlds? Each is made by one seed: arrivals, faults, lost requests, lost answers,
//! kills, other integrations' imports, clocks that jump, a person who pauses and retries.
//!
//! `WORLDS=n` says how many, `WORLD_SEED=n` replays one and tells its story.

use std::sync::atomic::{AtomicU64, Ordering};

#[path = "worlds/judge.rs"]
mod judge;
#[path = "worlds/shelf.rs"]
mod shelf;
#[path = "worlds/worker.rs"]
mod worker;
#[path = "worlds/world.rs"]
mod world;

use judge::{Broken, Promise};
use world::{Lie, World};

/// Steps of a world before its faults cease.
const STEPS: u32 = 100;

/// Lives through a world. The error is the promise that was broken, and the world's story if it was kept.
fn live(seed: u64, lie: Lie, keep_log: bool) -> Result<u64, (Broken, Vec<String>)> {
    let mut world = World::new(seed, lie);
    world.keep_log = keep_log;
    let mut lived = || {
        for _ in 0..STEPS {
            world.step()?;
        }
        world.settle()
    };
    match lived() {
        Ok(()) => Ok(world.uploads),
        Err(broken) => Err((broken, world.log)),
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a whole number"))
}

#[test]
fn the_promises_hold_in_every_world() {
    if let Some(seed) = number("WORLD_SEED") {
        if let Err((broken, story)) = live(seed, Lie::None, true) {
            panic!("{}\nworld {seed}: {broken:?}", story.join("\n"));
        }
        return;
    }
    let worlds = number("WORLDS").unwrap_or(10_000);
    let (next, uploads) = (AtomicU64::new(0), AtomicU64::new(0));
    let broken = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= worlds {
                        return;
                    }
                    match live(seed, Lie::None, false) {
                        Ok(sent) => uploads.fetch_add(sent, Ordering::Relaxed),
                        Err((why, _)) => {
                            broken.lock().unwrap().push((seed, why));
                            0
                        }
                    };
                }
            });
        }
    });
    let mut broken = broken.into_inner().unwrap();
    broken.sort_by_key(|&(seed, _)| seed);
    println!("{worlds} worlds, {} uploads", uploads.into_inner());
    let mut by_promise = std::collections::BTreeMap::<Promise, Vec<u64>>::new();
    broken.iter().for_each(|(seed, why)| by_promise.entry(why.promise).or_default().push(*seed));
    by_promise
        .iter()
        .for_each(|(promise, seeds)| println!("{promise:?} {} {:?}", seeds.len(), &seeds[..seeds.len().min(5)]));
    let first: Vec<String> = broken
        .iter()
        .take(12)
        .map(|(seed, why)| format!("WORLD_SEED={seed}: {:?}: {}", why.promise, why.text))
        .collect();
    assert!(broken.is_empty(), "{} of {worlds} worlds broke a promise:\n{}", broken.len(), first.join("\n"));
}

#[test]
fn a_daemon_that_lies_is_found_out() {
    for (lie, promises) in [
        (Lie::ForgetsUploads, &[Promise::Queue, Promise::Group, Promise::List, Promise::Move][..]),
        (Lie::ForgetsGhosts, &[Promise::Queue]),
        (Lie::SendsAgainAfterAPoll, &[Promise::Once]),
        (Lie::SendsWithoutAReason, &[Promise::Reason]),
        (Lie::ForgetsGroups, &[Promise::Group]),
        (Lie::ForgetsLists, &[Promise::List]),
        (Lie::BurnsAttempts, &[Promise::Attempts]),
        (Lie::ForgetsPolls, &[Promise::Polling]),
        (Lie::CallsWhilePaused, &[Promise::Paused]),
        (Lie::ForgetsCalls, &[Promise::Calls]),
        (Lie::Sleeps, &[Promise::Awake]),
        (Lie::TakesNoForYes, &[Promise::Fair]),
        (Lie::GivesUp, &[Promise::Fair]),
    ] {
        let found = (0..400).find_map(|seed| live(seed, lie, false).err());
        let (broken, _) = found.unwrap_or_else(|| panic!("{lie:?} was not found out"));
        assert!(promises.contains(&broken.promise), "{lie:?}: {broken:?}");
    }
}
