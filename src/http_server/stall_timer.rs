//! Stall timer: measures how fast a client sends or reads, and ends the wait for one that is too slow.
//!
//! Only the time counts in which the daemon waits for the client, never the daemon's own work.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A client that transfers less than this in one `api.stall_timeout` of waiting has stalled. Otherwise a byte now and
/// then would hold a connection for years.
const MIN_BYTES: usize = 1024;

/// Why the wait for a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StallError {
    /// The client transferred next to nothing for `api.stall_timeout`.
    Stalled,
    /// Another client needs the connection, and this is the slowest one.
    Slowest,
}

/// Direction of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// The client sends.
    In,
    /// The client reads.
    Out,
}

/// Speed of one client since its request began, in both directions together.
#[derive(Default)]
pub(super) struct TransferSpeed {
    totals: Mutex<Totals>,
    closed: CancellationToken,
}

#[derive(Default)]
struct Totals {
    bytes: u64,
    waited: Duration,
    /// Begin of the wait by direction: a response can be flushed while a request's body is read.
    since: [Option<Instant>; 2],
}

impl TransferSpeed {
    /// Returns the bytes a second of waiting; none where the wait was shorter than `min_wait` in all.
    pub(super) fn speed_after(&self, min_wait: Duration, now: Instant) -> Option<f64> {
        let totals = self.totals.lock();
        let current = totals.since.iter().flatten().map(|&since| now.saturating_duration_since(since));
        let waited = totals.waited + current.sum::<Duration>();
        #[expect(clippy::cast_precision_loss, reason = "speeds are compared, and need not be exact")]
        (waited >= min_wait).then(|| totals.bytes as f64 / waited.as_secs_f64())
    }

    /// Ends the wait for this client.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    #[cfg(test)]
    pub(super) fn wait_since(&self, since: Instant) {
        self.begin_wait(Direction::In, since);
    }

    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    fn record_transfer(&self, direction: Direction, bytes: usize, now: Instant) {
        let mut totals = self.totals.lock();
        if let Some(since) = totals.since[direction as usize].take() {
            totals.waited += now.saturating_duration_since(since);
        }
        totals.bytes += bytes as u64;
    }

    fn begin_wait(&self, direction: Direction, now: Instant) {
        self.totals.lock().since[direction as usize].get_or_insert(now);
    }
}

/// Wait for one client, in one direction.
pub(super) struct ClientWait {
    direction: Direction,
    timer: StallTimer,
    timeout: Option<Pin<Box<Sleep>>>,
    closed: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl ClientWait {
    /// Makes a wait that has not begun.
    pub(super) fn new(direction: Direction, stall_timeout: Duration) -> ClientWait {
        let timer = StallTimer { stall_timeout, waited: Duration::ZERO, bytes: 0, since: None };
        ClientWait { direction, timer, timeout: None, closed: None }
    }

    /// Records that the client has transferred so many bytes, which ends the wait.
    pub(super) fn record_transfer(&mut self, bytes: usize, speed: &TransferSpeed) {
        let now = Instant::now();
        self.timer.record_transfer(bytes, now);
        speed.record_transfer(self.direction, bytes, now);
        (self.timeout, self.closed) = (None, None);
    }

    /// Waits for the client; ready when the wait has been too long or was ended.
    pub(super) fn poll_wait(&mut self, cx: &mut Context<'_>, speed: &TransferSpeed) -> Poll<StallError> {
        let now = Instant::now();
        let deadline = self.timer.begin_wait(now);
        speed.begin_wait(self.direction, now);
        if self.timeout.get_or_insert_with(|| Box::pin(sleep_until(deadline))).as_mut().poll(cx).is_ready() {
            return Poll::Ready(StallError::Stalled);
        }
        let closed = || Box::pin(speed.closed.clone().cancelled_owned());
        self.closed.get_or_insert_with(closed).as_mut().poll(cx).map(|()| StallError::Slowest)
    }
}

/// Time limit that starts again after each [`MIN_BYTES`].
struct StallTimer {
    stall_timeout: Duration,
    /// Wait for the last bytes, fewer than [`MIN_BYTES`], without the current wait.
    waited: Duration,
    bytes: usize,
    since: Option<Instant>,
}

impl StallTimer {
    fn record_transfer(&mut self, bytes: usize, now: Instant) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
        }
        self.bytes += bytes;
        if self.bytes >= MIN_BYTES {
            (self.bytes, self.waited) = (0, Duration::ZERO);
        }
    }

    /// Begins a wait, and returns when it times out.
    fn begin_wait(&mut self, now: Instant) -> Instant {
        *self.since.get_or_insert(now) + self.stall_timeout.saturating_sub(self.waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns how many waits of that length, of a thousand, a client completes that transfers so many bytes after
    /// each.
    fn completed_waits(wait: Duration, bytes: usize) -> usize {
        let mut timer = ClientWait::new(Direction::In, SECOND).timer;
        let mut now = Instant::now();
        for wait_number in 0..1_000 {
            let deadline = timer.begin_wait(now);
            now += wait;
            if deadline < now {
                return wait_number;
            }
            timer.record_transfer(bytes, now);
        }
        1_000
    }

    #[test]
    fn a_steady_client_has_no_time_limit_and_a_slow_one_does() {
        assert_eq!(completed_waits(SECOND * 2, 1_000_000), 0, "nothing at all");
        assert_eq!(completed_waits(SECOND, MIN_BYTES), 1_000);
        assert_eq!(completed_waits(SECOND / 2, MIN_BYTES / 2), 1_000);
        assert_eq!(completed_waits(SECOND / 10, 1), 10);
        assert_eq!(completed_waits(SECOND / 10, MIN_BYTES / 11), 10);
    }

    #[test]
    fn only_waiting_for_the_client_lowers_its_speed() {
        let speed = TransferSpeed::default();
        let start = Instant::now();
        speed.begin_wait(Direction::In, start);
        speed.record_transfer(Direction::Out, 0, start);
        assert_eq!(speed.speed_after(SECOND, start + SECOND / 2), None);
        assert_eq!(speed.speed_after(SECOND, start + SECOND), Some(0.0));
        speed.record_transfer(Direction::In, 4_000, start + SECOND);
        // The time in between is the daemon's own.
        speed.begin_wait(Direction::Out, start + SECOND * 50);
        assert_eq!(speed.speed_after(SECOND, start + SECOND * 51), Some(2_000.0));
    }

    #[test]
    fn the_daemons_own_work_does_not_count_as_waiting() {
        let mut timer = ClientWait::new(Direction::In, SECOND).timer;
        let mut now = Instant::now();
        for _ in 0..100 {
            assert_eq!(timer.begin_wait(now), now + SECOND);
            timer.record_transfer(1, now);
            now += SECOND * 100;
        }
    }
}
