//! When does the daemon die? At a moment of the clock, or at a known state of the work.

use std::sync::atomic::Ordering;
use std::time::Duration;

use marqueue::simulator::{Call, CallLog, Fault, FaultEffect, Simulator};
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use tokio::time::{Instant, sleep, timeout};

use super::clients::{Counter, LOOK};

/// If what a moment waits for does not come to pass by then, that is the moment.
const PATIENCE: Duration = Duration::from_millis(1_200);

/// How long the simulator keeps an answer back over which the daemon is to die.
const KEPT_BACK: Duration = Duration::from_millis(700);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So long after its process was started, whether or not it listens by then.
    Starting(Duration),
    /// So long after its first answer.
    Working(Duration),
    /// So long after it was told to end, and that so long after its first answer.
    Leaving(Duration, Duration),
    /// The `n`th call of its kind has begun to arrive.
    Arriving(Call, u64),
    /// The `n`th upload is with Marketo as a whole, and is not answered yet.
    Uploaded(usize),
    /// The `n`th call of its kind has been heard, and is not answered yet.
    Unanswered(Call, u64),
    /// The `n`th upload was answered just now.
    Accepted(usize),
    /// The `n`th file was acknowledged just now.
    Acknowledged(usize),
    /// The `n`th piece of a large file has just left its client.
    Receiving(usize),
}

impl Moment {
    pub fn any(dice: &mut Xoshiro256PlusPlus) -> Moment {
        let question = [Call::Status, Call::Status, Call::Failures, Call::Warnings][dice.random_range(0..4)];
        let any_call = [Call::Create, Call::Token, question][dice.random_range(0..3)];
        match dice.random_range(0..15) {
            0 => Moment::Starting(Duration::from_micros(dice.random_range(0..120_000))),
            1..5 => Moment::Working(Duration::from_micros(dice.random_range(0..700_000))),
            5 => Moment::Arriving(any_call, if any_call == Call::Token { 1 } else { dice.random_range(1..8) }),
            6..8 => Moment::Uploaded(dice.random_range(1..6)),
            8 => Moment::Unanswered(question, dice.random_range(1..8)),
            9..11 => Moment::Accepted(dice.random_range(1..6)),
            11 => Moment::Acknowledged(dice.random_range(1..6)),
            12 => {
                let [works, leaves] = [600, 1_200].map(|most| Duration::from_millis(dice.random_range(0..most)));
                Moment::Leaving(works, leaves)
            }
            _ => Moment::Receiving(dice.random_range(5..11)),
        }
    }

    /// How long the daemon has to leave by itself.
    pub fn leaves(self) -> Duration {
        match self {
            Moment::Leaving(_, leaves) => leaves,
            _ => Duration::ZERO,
        }
    }

    /// A word for the count.
    pub fn name(self) -> String {
        let name = format!("{self:?}").to_lowercase();
        name.split('(').next().unwrap_or_default().to_owned()
    }

    /// What it needs; before the daemon makes its first call.
    pub fn prepare(self, simulator: &Simulator, counter: &Counter) {
        let nth = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let (call, n) = match self {
            Moment::Uploaded(n) => (Call::Create, nth(n as u64)),
            Moment::Unanswered(call, n) => (call, nth(n)),
            Moment::Receiving(_) => return counter.large.add_permits(1),
            _ => return,
        };
        simulator.push_fault(Fault::on(call, FaultEffect::delay(KEPT_BACK)).nth(n));
    }

    /// Waits for it. `before` is what there was before this life.
    pub async fn come(self, simulator: &Simulator, counter: &Counter, before: &Before) {
        let calls = |call: Call| simulator.call_log().calls_of(call) - before.ledger.calls_of(call);
        let came = async {
            loop {
                let come = match self {
                    Moment::Starting(time) => return sleep(time.saturating_sub(before.started.elapsed())).await,
                    Moment::Working(time) | Moment::Leaving(time, _) => return sleep(time).await,
                    Moment::Arriving(call, n) | Moment::Unanswered(call, n) => calls(call) >= n,
                    Moment::Uploaded(n) => simulator.call_log().creates.len() >= before.ledger.creates.len() + n,
                    Moment::Accepted(n) => simulator.call_log().imports.len() >= before.ledger.imports.len() + n,
                    Moment::Acknowledged(n) => counter.heard.load(Ordering::SeqCst) >= before.heard + n,
                    Moment::Receiving(n) => counter.pieces.load(Ordering::SeqCst) >= before.pieces + n,
                };
                if come {
                    return;
                }
                sleep(LOOK).await;
            }
        };
        let _ = timeout(PATIENCE, came).await;
    }
}

/// How things stood when a life began.
pub struct Before {
    ledger: CallLog,
    heard: usize,
    pieces: usize,
    started: Instant,
}

impl Before {
    pub fn now(simulator: &Simulator, counter: &Counter) -> Before {
        Before {
            ledger: simulator.call_log(),
            heard: counter.heard.load(Ordering::SeqCst),
            pieces: counter.pieces.load(Ordering::SeqCst),
            started: Instant::now(),
        }
    }
}
