//! Pace: how fast a client sends or reads, and when that is too slow.
//!
//! Only the time counts in which the daemon waits for the client, never the daemon's own slowness.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Less than this in one `api.stall_timeout` of waiting is as good as nothing: who sends, or reads, a byte now and then
/// would hold its place for years.
const MIN_BYTES: usize = 1024;

/// Why a client is not waited for any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StallError {
    /// It moved next to nothing for `api.stall_timeout`.
    Stalled,
    /// Another client needs the connection, and this is the slowest one.
    Slowest,
}

/// In which direction a client is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// It sends.
    In,
    /// It reads.
    Out,
}

/// The speed of one client since its request began, in both directions together.
#[derive(Default)]
pub(super) struct TransferSpeed {
    measured: Mutex<Measured>,
    give_up: CancellationToken,
}

#[derive(Default)]
struct Measured {
    bytes: u64,
    waited: Duration,
    /// One for each direction: an answer can be flushed while a request's body is waited for.
    since: [Option<Instant>; 2],
}

impl TransferSpeed {
    /// Bytes for each second of waiting for the client; none where it was not waited for so long in all.
    pub(super) fn once_waited(&self, least: Duration, now: Instant) -> Option<f64> {
        let measured = self.measured();
        let going_on = measured.since.iter().flatten().map(|&since| now.saturating_duration_since(since));
        let waited = measured.waited + going_on.sum::<Duration>();
        #[expect(clippy::cast_precision_loss, reason = "speeds are compared, and need not be exact")]
        (waited >= least).then(|| measured.bytes as f64 / waited.as_secs_f64())
    }

    /// Ends the waiting for this client.
    pub(super) fn close(&self) {
        self.give_up.cancel();
    }

    #[cfg(test)]
    pub(super) fn wait_since(&self, since: Instant) {
        self.wait(Direction::In, since);
    }

    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.give_up.is_cancelled()
    }

    fn moved(&self, direction: Direction, bytes: usize, now: Instant) {
        let mut measured = self.measured();
        if let Some(since) = measured.since[direction as usize].take() {
            measured.waited += now.saturating_duration_since(since);
        }
        measured.bytes += bytes as u64;
    }

    fn wait(&self, direction: Direction, now: Instant) {
        self.measured().since[direction as usize].get_or_insert(now);
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waiting for one client, in one direction.
pub(super) struct ClientWait {
    direction: Direction,
    pace: StallTimer,
    end: Option<Pin<Box<Sleep>>>,
    given_up: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl ClientWait {
    pub(super) fn new(direction: Direction, stall_timeout: Duration) -> ClientWait {
        let pace = StallTimer { stall_timeout, waited: Duration::ZERO, moved: 0, since: None };
        ClientWait { direction, pace, end: None, given_up: None }
    }

    /// The client has moved so many bytes, and is waited for no longer.
    pub(super) fn moved(&mut self, bytes: usize, speed: &TransferSpeed) {
        let now = Instant::now();
        self.pace.moved(bytes, now);
        speed.moved(self.direction, bytes, now);
        (self.end, self.given_up) = (None, None);
    }

    /// The client is waited for; ready when that has been for too long.
    pub(super) fn poll_wait(&mut self, cx: &mut Context<'_>, speed: &TransferSpeed) -> Poll<StallError> {
        let now = Instant::now();
        let end = self.pace.wait(now);
        speed.wait(self.direction, now);
        if self.end.get_or_insert_with(|| Box::pin(sleep_until(end))).as_mut().poll(cx).is_ready() {
            return Poll::Ready(StallError::Stalled);
        }
        let given_up = || Box::pin(speed.give_up.clone().cancelled_owned());
        self.given_up.get_or_insert_with(given_up).as_mut().poll(cx).map(|()| StallError::Slowest)
    }
}

struct StallTimer {
    stall_timeout: Duration,
    /// For the last bytes, less than [`LEAST`], before the wait that is going on.
    waited: Duration,
    moved: usize,
    since: Option<Instant>,
}

impl StallTimer {
    fn moved(&mut self, bytes: usize, now: Instant) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
        }
        self.moved += bytes;
        if self.moved >= MIN_BYTES {
            (self.moved, self.waited) = (0, Duration::ZERO);
        }
    }

    /// Until when, now that the client has to be waited for.
    fn wait(&mut self, now: Instant) -> Instant {
        *self.since.get_or_insert(now) + self.stall_timeout.saturating_sub(self.waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How many waits of that length a client gets through that moves so many bytes after each, of a thousand.
    fn gets_through(wait: Duration, bytes: usize) -> usize {
        let mut pace = ClientWait::new(Direction::In, SECOND).pace;
        let mut now = Instant::now();
        for wait_number in 0..1_000 {
            let end = pace.wait(now);
            now += wait;
            if end < now {
                return wait_number;
            }
            pace.moved(bytes, now);
        }
        1_000
    }

    #[test]
    fn only_transfers_below_the_minimum_rate_are_closed() {
        assert_eq!(gets_through(SECOND * 2, 1_000_000), 0, "nothing at all");
        assert_eq!(gets_through(SECOND, MIN_BYTES), 1_000);
        assert_eq!(gets_through(SECOND / 2, MIN_BYTES / 2), 1_000);
        assert_eq!(gets_through(SECOND / 10, 1), 10);
        assert_eq!(gets_through(SECOND / 10, MIN_BYTES / 11), 10);
    }

    #[test]
    fn only_waiting_for_the_client_lowers_its_speed() {
        let speed = TransferSpeed::default();
        let start = Instant::now();
        speed.wait(Direction::In, start);
        speed.moved(Direction::Out, 0, start);
        assert_eq!(speed.once_waited(SECOND, start + SECOND / 2), None);
        assert_eq!(speed.once_waited(SECOND, start + SECOND), Some(0.0));
        speed.moved(Direction::In, 4_000, start + SECOND);
        // What lies between is the daemon's own time.
        speed.wait(Direction::Out, start + SECOND * 50);
        assert_eq!(speed.once_waited(SECOND, start + SECOND * 51), Some(2_000.0));
    }

    #[test]
    fn what_keeps_us_busy_is_not_held_against_the_client() {
        let mut pace = ClientWait::new(Direction::In, SECOND).pace;
        let mut now = Instant::now();
        for _ in 0..100 {
            assert_eq!(pace.wait(now), now + SECOND);
            pace.moved(1, now);
            now += SECOND * 100;
        }
    }
}
