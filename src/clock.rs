//! Clock: the only code that reads the machine's time; all other code takes it as an argument.
//!
//! Wall-clock times are whole milliseconds, as in the database. Durations that must not depend on a clock that can be
//! set (the window of calls, a token's lifetime) are measured with [`std::time::Instant`] where they are used.

use std::fs;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

mod monitor;

pub use monitor::{ClockReading, ClockRecord, Observation, PATIENCE};

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

/// How long the machine has been running. Two uptimes can be compared where they are of the same boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uptime {
    /// The id of the boot that it counts from.
    pub boot: String,
    /// Milliseconds, suspended time included.
    pub ms: i64,
}

impl Uptime {
    /// Reads the uptime from Linux. Where that fails, it returns the process's own running time with a boot id of its
    /// own.
    fn of_the_machine() -> Uptime {
        static PROCESS: LazyLock<(String, Instant)> =
            LazyLock::new(|| (format!("process-{:032x}", rand::random::<u128>()), Instant::now()));
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let seconds = fs::read_to_string("/proc/uptime").ok();
        let seconds = seconds.as_deref().and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
        match (boot, seconds) {
            (Some(boot), Some(seconds)) => Uptime { boot: boot.trim().to_owned(), ms: (seconds * 1000.0) as i64 },
            _ => {
                let ms = i64::try_from(PROCESS.1.elapsed().as_millis()).unwrap_or(i64::MAX);
                Uptime { boot: PROCESS.0.clone(), ms }
            }
        }
    }
}

/// Returns the time of so many milliseconds since 1970; outside of the representable range, the nearest time in it.
pub fn from_ms(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// Returns the time `by` after `at`, or the last representable time.
pub fn after(at: Timestamp, by: Duration) -> Timestamp {
    from_ms(at.as_millisecond().saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}

/// The JSON schema of a time. [`Timestamp`] has none of its own.
pub struct TimestampSchema;

impl JsonSchema for TimestampSchema {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    /// RFC 3339, in UTC.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
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

    #[test]
    fn sum_beyond_the_range_is_its_end() {
        assert_eq!(after(Timestamp::MAX, Duration::from_secs(1)), Timestamp::MAX);
    }
}
