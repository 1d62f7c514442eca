//! Time source: the system's clock, or one that a test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::monitor::ClockReading;
use crate::clock::timestamps::from_ms;
use crate::clock::uptime::Uptime;

/// The longest sleep before the clock is read again, so that a clock that was set is noticed.
const MAX_SLEEP: Duration = Duration::from_secs(30);

/// The maximum difference in milliseconds of two uptime readings around one of the time of day, so that all three count
/// as one moment; and the number of tries.
const READING_MS: i64 = 100;
const READINGS: u32 = 5;

/// The system's clock, or one that a test sets.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's clock.
    #[default]
    System,
    /// The system's clock plus an offset in milliseconds. The uptime is the system's.
    Adjustable(Arc<AtomicI64>),
}

impl Clock {
    /// Returns a clock that shows the system's time until [`Clock::leap`] moves it.
    pub fn adjustable() -> Clock {
        Clock::Adjustable(Arc::default())
    }

    /// Sets an adjustable clock forward by `by_ms` milliseconds, or back by a negative number. Has no effect on the
    /// system's clock.
    pub fn leap(&self, by_ms: i64) {
        if let Clock::Adjustable(offset) = self {
            offset.fetch_add(by_ms, Ordering::SeqCst);
        }
    }

    /// Returns the time of day, in whole milliseconds.
    pub fn now(&self) -> Timestamp {
        #[allow(clippy::disallowed_methods, reason = "the clock is the only code that reads the time")]
        let system = Timestamp::now().as_millisecond();
        match self {
            Clock::System => from_ms(system),
            Clock::Adjustable(offset) => from_ms(system.saturating_add(offset.load(Ordering::SeqCst))),
        }
    }

    /// Returns the machine's uptime. Setting the clock does not change it, and it continues over a restart of the
    /// daemon.
    pub fn uptime(&self) -> Uptime {
        Uptime::of_the_machine()
    }

    /// Reads time of day and uptime of one moment. Where the process was suspended between the two, it reads again: the
    /// time in between would look like a clock that was set.
    pub fn reading(&self) -> ClockReading {
        let mut up = self.uptime();
        for _ in 0..READINGS {
            let (wall, after) = (self.now(), self.uptime());
            if after.boot == up.boot && after.ms - up.ms <= READING_MS {
                return ClockReading { wall, up: after };
            }
            up = after;
        }
        ClockReading { wall: self.now(), up }
    }

    /// Returns at `until`, or after 30 seconds: callers check the time again in both cases.
    pub async fn sleep_until(&self, until: Timestamp) {
        let left = Duration::try_from(until.duration_since(self.now())).unwrap_or(Duration::ZERO);
        // A timer may fire slightly before the wall clock reaches the same moment.
        tokio::time::sleep(left.min(MAX_SLEEP) + Duration::from_millis(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_the_adjustable_clock_keeps_its_uptime() {
        const DAY_MS: i64 = 86_400_000;
        let clock = Clock::adjustable();
        let before = clock.reading();
        clock.clone().leap(DAY_MS);
        let moved = clock.reading();
        assert!(moved.wall.as_millisecond() - before.wall.as_millisecond() >= DAY_MS - 1_000);
        assert!(moved.up.ms - before.up.ms < DAY_MS / 2);
    }

    #[test]
    fn system_time_has_whole_milliseconds() {
        let now = Clock::System.now();
        assert_eq!(from_ms(now.as_millisecond()), now);
    }
}
