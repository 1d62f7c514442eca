//! Fault injection on the way to Marketo: a few faults for each run of the daemon, and now and then an outage.

use std::collections::BTreeMap;
use std::time::Duration;

use marqueue::simulator::{Call, Corruption, Fault, FaultEffect, Simulator};
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

/// How many faults of each kind were sent out; some may have found no call.
pub type Stats = BTreeMap<String, u32>;

/// How often a run begins with an outage.
const OUTAGES: f64 = 0.2;

/// Lets some things go wrong from now on, at one of the next calls of their kind.
pub fn change(simulator: &Simulator, rng: &mut Xoshiro256PlusPlus, count: &mut Stats) {
    for _ in 0..rng.random_range(0..5) {
        if rng.random_bool(0.08) {
            simulator.revoke_tokens();
            *count.entry("tokens revoked".into()).or_default() += 1;
            continue;
        }
        let call =
            [Call::Create, Call::Create, Call::Create, Call::Status, Call::Failures, Call::Warnings, Call::Token]
                [rng.random_range(0..7)];
        let effect = effect(call, rng);
        *count.entry(name(call, &effect)).or_default() += 1;
        simulator.push_fault(Fault::on(call, effect).nth(rng.random_range(1..=4)));
    }
}

/// Lets all uploads fail from the next on, now and then, until so many have.
pub fn outage(simulator: &Simulator, rng: &mut Xoshiro256PlusPlus, count: &mut Stats) {
    if rng.random_bool(OUTAGES) {
        let (effect, times) = failing(rng);
        *count.entry(format!("outage {}", name(Call::Create, &effect))).or_default() += 1;
        simulator.push_fault(Fault::on(Call::Create, effect).times(times));
    }
}

/// In which way all uploads fail for a while, and how many of them. An answer that is lost leaves an import that holds
/// its place for as long as it may be there, so there are fewer of those.
fn failing(rng: &mut Xoshiro256PlusPlus) -> (FaultEffect, u32) {
    let no_reason = FaultEffect::Error { code: None, message: String::new(), executed: false };
    match rng.random_range(0..7) {
        0 => (FaultEffect::error(611, "System error"), rng.random_range(5..25)),
        1 => (no_reason, rng.random_range(5..25)),
        2 => (FaultEffect::error(608, "API temporarily unavailable"), rng.random_range(5..25)),
        3 => (FaultEffect::http(503), rng.random_range(5..25)),
        4 => (FaultEffect::http(404), rng.random_range(5..25)),
        5 => (FaultEffect::http(502), rng.random_range(3..8)),
        _ => (FaultEffect::LoseRequest, rng.random_range(3..8)),
    }
}

fn effect(call: Call, rng: &mut Xoshiro256PlusPlus) -> FaultEffect {
    let is_file = matches!(call, Call::Failures | Call::Warnings);
    let executed = |code: u32, message: &str| match FaultEffect::error(code, message) {
        FaultEffect::Error { code, message, .. } => FaultEffect::Error { code, message, executed: true },
        other => other,
    };
    let errors = [
        (601, "Access token invalid"),
        (602, "Access token expired"),
        (606, "Max rate limit exceeded"),
        (608, "API temporarily unavailable"),
        (611, "System error"),
        (615, "Concurrent access limit reached"),
    ];
    let on_create = [(1016, "Too many imports queued"), (1019, "Import in progress"), (9999, "Something new")];
    match rng.random_range(0..10) {
        0 => FaultEffect::LoseRequest,
        1 => FaultEffect::LoseAnswer,
        // Half a file with a matching Content-Length is a file like any other, and cannot be recognised.
        2 if is_file => FaultEffect::Garble([Corruption::Empty, Corruption::Torn][rng.random_range(0..2)]),
        2 => FaultEffect::Garble([Corruption::Empty, Corruption::Cut, Corruption::Torn][rng.random_range(0..3)]),
        3 => FaultEffect::delay(Duration::from_millis(rng.random_range(1..400))),
        4 => FaultEffect::http([429, 500, 502, 503][rng.random_range(0..4)]),
        5 => FaultEffect::Http { status: [500, 502, 504][rng.random_range(0..3)], executed: true },
        6 if call == Call::Create => {
            let (code, message) = on_create[rng.random_range(0..on_create.len())];
            FaultEffect::error(code, message)
        }
        7 if call == Call::Create => executed([502, 604, 713][rng.random_range(0..3)], "Nobody knows"),
        // The file of an ended import that comes late.
        6 if is_file => FaultEffect::http(404),
        _ if call == Call::Token => FaultEffect::http(500),
        _ => {
            let (code, message) = errors[rng.random_range(0..errors.len())];
            FaultEffect::error(code, message)
        }
    }
}

fn name(call: Call, effect: &FaultEffect) -> String {
    let what = match effect {
        FaultEffect::Error { code: Some(code), executed, .. } => {
            format!("error {}{}", serde_json::json!(code), if *executed { " executed" } else { "" }).replace('"', "")
        }
        FaultEffect::Http { status, executed } => format!("http {status}{}", if *executed { " executed" } else { "" }),
        FaultEffect::DelayMs(_) => "delay".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    format!("{call:?} {what}").to_lowercase()
}
