//! When is a client too slow? Not by our own slowness: only what it keeps us waiting for counts.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Less than this in one `api.stall_timeout` of waiting is as good as nothing: who sends, or reads, a byte now and then
/// would hold its place for years.
const LEAST: usize = 1024;

/// Waiting for one client, in one direction.
pub(super) struct Waited {
    pace: Pace,
    end: Option<Pin<Box<Sleep>>>,
}

impl Waited {
    pub(super) fn new(stall_timeout: Duration) -> Waited {
        let pace = Pace { stall_timeout, waited: Duration::ZERO, moved: 0, since: None };
        Waited { pace, end: None }
    }

    /// The client has moved so many bytes, and is waited for no longer.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.pace.moved(bytes, Instant::now());
        self.end = None;
    }

    /// The client is waited for; ready when that has been for too long.
    pub(super) fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = self.pace.wait(Instant::now());
        self.end.get_or_insert_with(|| Box::pin(sleep_until(end))).as_mut().poll(cx)
    }
}

struct Pace {
    stall_timeout: Duration,
    /// For the last bytes, less than [`LEAST`], before the wait that is going on.
    waited: Duration,
    moved: usize,
    since: Option<Instant>,
}

impl Pace {
    fn moved(&mut self, bytes: usize, now: Instant) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
        }
        self.moved += bytes;
        if self.moved >= LEAST {
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
        let mut pace = Waited::new(SECOND).pace;
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
    fn a_client_that_moves_enough_may_take_for_ever_and_one_that_drips_may_not() {
        assert_eq!(gets_through(SECOND * 2, 1_000_000), 0, "nothing at all");
        assert_eq!(gets_through(SECOND, LEAST), 1_000);
        assert_eq!(gets_through(SECOND / 2, LEAST / 2), 1_000);
        assert_eq!(gets_through(SECOND / 10, 1), 10);
        assert_eq!(gets_through(SECOND / 10, LEAST / 11), 10);
    }

    #[test]
    fn what_keeps_us_busy_is_not_held_against_the_client() {
        let mut pace = Waited::new(SECOND).pace;
        let mut now = Instant::now();
        for _ in 0..100 {
            assert_eq!(pace.wait(now), now + SECOND);
            pace.moved(1, now);
            now += SECOND * 100;
        }
    }
}
