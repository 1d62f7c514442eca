//! Kill points: when a scenario kills the daemon, by the clock or at a known state of the work.

use std::sync::atomic::Ordering;
use std::time::Duration;

use marqueue::simulator::{Call, CallLog, Fault, FaultEffect, Simulator};
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use tokio::time::{Instant, sleep, timeout};

use super::clients::{Counter, POLL_PAUSE};

/// The daemon is killed after this time if what the kill point waits for does not happen.
const PATIENCE: Duration = Duration::from_millis(1_200);

/// How long the simulator delays an answer during which the daemon is to be killed.
const KEPT_BACK: Duration = Duration::from_millis(700);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillPoint {
    /// So long after its process was started, whether or not it listens by then.
    Starting(Duration),
    /// So long after its first answer.
    Working(Duration),
    /// So long (second) after SIGTERM, which is so long (first) after its first answer.
    Leaving(Duration, Duration),
    /// The `n`th call of its kind has begun to arrive.
    Arriving(Call, u64),
    /// The `n`th upload is with Marketo as a whole, and is not answered yet.
    Uploaded(usize),
    /// The `n`th call of its kind has arrived, and is not answered yet.
    Unanswered(Call, u64),
    /// The `n`th upload was answered just now.
    Accepted(usize),
    /// The `n`th file was acknowledged just now.
    Acknowledged(usize),
    /// The `n`th piece of a large file has just left its client.
    Receiving(usize),
}

impl KillPoint {
    pub fn any(rng: &mut Xoshiro256PlusPlus) -> KillPoint {
        let question = [Call::Status, Call::Status, Call::Failures, Call::Warnings][rng.random_range(0..4)];
        let any_call = [Call::Create, Call::Token, question][rng.random_range(0..3)];
        match rng.random_range(0..15) {
            0 => KillPoint::Starting(Duration::from_micros(rng.random_range(0..120_000))),
            1..5 => KillPoint::Working(Duration::from_micros(rng.random_range(0..700_000))),
            5 => KillPoint::Arriving(any_call, if any_call == Call::Token { 1 } else { rng.random_range(1..8) }),
            6..8 => KillPoint::Uploaded(rng.random_range(1..6)),
            8 => KillPoint::Unanswered(question, rng.random_range(1..8)),
            9..11 => KillPoint::Accepted(rng.random_range(1..6)),
            11 => KillPoint::Acknowledged(rng.random_range(1..6)),
            12 => {
                let [works, leaves] = [600, 1_200].map(|most| Duration::from_millis(rng.random_range(0..most)));
                KillPoint::Leaving(works, leaves)
            }
            _ => KillPoint::Receiving(rng.random_range(5..11)),
        }
    }

    /// How long the daemon may take to end by itself.
    pub fn leaves(self) -> Duration {
        match self {
            KillPoint::Leaving(_, leaves) => leaves,
            _ => Duration::ZERO,
        }
    }

    /// Its name in the statistics.
    pub fn name(self) -> String {
        let name = format!("{self:?}").to_lowercase();
        name.split('(').next().unwrap_or_default().to_owned()
    }

    /// Sets up what it needs, before the daemon makes its first call.
    pub fn prepare(self, simulator: &Simulator, counter: &Counter) {
        let nth = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let (call, n) = match self {
            KillPoint::Uploaded(n) => (Call::Create, nth(n as u64)),
            KillPoint::Unanswered(call, n) => (call, nth(n)),
            KillPoint::Receiving(_) => return counter.large.add_permits(1),
            _ => return,
        };
        simulator.push_fault(Fault::on(call, FaultEffect::delay(KEPT_BACK)).nth(n));
    }

    /// Waits for it. `before` is the state before this run.
    pub async fn come(self, simulator: &Simulator, counter: &Counter, before: &Before) {
        let calls = |call: Call| simulator.call_log().calls_of(call) - before.call_log.calls_of(call);
        let came = async {
            loop {
                let come = match self {
                    KillPoint::Starting(time) => return sleep(time.saturating_sub(before.started.elapsed())).await,
                    KillPoint::Working(time) | KillPoint::Leaving(time, _) => return sleep(time).await,
                    KillPoint::Arriving(call, n) | KillPoint::Unanswered(call, n) => calls(call) >= n,
                    KillPoint::Uploaded(n) => simulator.call_log().creates.len() >= before.call_log.creates.len() + n,
                    KillPoint::Accepted(n) => simulator.call_log().imports.len() >= before.call_log.imports.len() + n,
                    KillPoint::Acknowledged(n) => counter.reply.load(Ordering::SeqCst) >= before.reply + n,
                    KillPoint::Receiving(n) => counter.pieces.load(Ordering::SeqCst) >= before.pieces + n,
                };
                if come {
                    return;
                }
                sleep(POLL_PAUSE).await;
            }
        };
        let _ = timeout(PATIENCE, came).await;
    }
}

/// State when a run began.
pub struct Before {
    call_log: CallLog,
    reply: usize,
    pieces: usize,
    started: Instant,
}

impl Before {
    pub fn now(simulator: &Simulator, counter: &Counter) -> Before {
        Before {
            call_log: simulator.call_log(),
            reply: counter.reply.load(Ordering::SeqCst),
            pieces: counter.pieces.load(Ordering::SeqCst),
            started: Instant::now(),
        }
    }
}
