//! What time is it? The one place that asks the machine; everything else is told.
//!
//! Wall-clock times are whole milliseconds, as the database keeps them. What must not follow a clock that is set back
//! (the window of calls, a token's life) is measured by [`std::time::Instant`] where it is used.

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

/// Two readings of the uptime around one of the time of day are of one moment if they are no further apart (milliseconds),
/// and how often that is tried.
const READING_MS: i64 = 100;
const READINGS: u32 = 5;

/// The system's clock, or one that a test sets.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    #[default]
    System,
    /// Runs as the system's, so many milliseconds beside it. The uptime is the system's.
    Adjustable(Arc<AtomicI64>),
}

impl Clock {
    /// Returns a clock that shows the system's time until [`Clock::leap`] moves it.
    pub fn adjustable() -> Clock {
        Clock::Adjustable(Arc::default())
    }

    /// Moves an adjustable clock by so many milliseconds, forwards or backwards. The system's is not ours to move.
    pub fn leap(&self, by_ms: i64) {
        if let Clock::Adjustable(ahead) = self {
            ahead.fetch_add(by_ms, Ordering::SeqCst);
        }
    }

    pub fn now(&self) -> Timestamp {
        #[allow(clippy::disallowed_methods, reason = "this is the one place")]
        let system = Timestamp::now().as_millisecond();
        match self {
            Clock::System => from_ms(system),
            Clock::Adjustable(ahead) => from_ms(system.saturating_add(ahead.load(Ordering::SeqCst))),
        }
    }

    /// What no setting of a clock moves, and what goes on over a restart of the daemon.
    pub fn uptime(&self) -> Uptime {
        Uptime::of_the_machine()
    }

    /// Reads time of day and uptime of one moment. A process that is stopped between the two reads again, for the time in
    /// between would look like a clock that was set.
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

    /// Returns when `until` has come, or after half a minute: the caller looks again either way.
    pub async fn sleep_until(&self, until: Timestamp) {
        let left = Duration::try_from(until.duration_since(self.now())).unwrap_or(Duration::ZERO);
        // A timer may fire a hair before a wall clock reaches the same moment.
        tokio::time::sleep(left.min(MAX_SLEEP) + Duration::from_millis(1)).await;
    }
}

/// How long the machine has been running. Two of them can be compared where they are of the same boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uptime {
    /// Which start of the machine it counts from.
    pub boot: String,
    /// Milliseconds, suspended time included.
    pub ms: i64,
}

impl Uptime {
    /// As Linux says. Where it does not, that of this process, which no other can be compared with.
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

/// How long a fault that comes again and again is left unsaid.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// For what may go wrong a thousand times a second: it is said at once, and then once in a while.
#[derive(Debug, Default)]
pub struct LogThrottle {
    last_logged: Option<Instant>,
    suppressed: u64,
}

impl LogThrottle {
    /// Whether it is to be said now, and how often it was left unsaid since the last time.
    pub fn allow(&mut self) -> Option<u64> {
        if self.last_logged.is_some_and(|said| said.elapsed() < LOG_INTERVAL) {
            self.suppressed += 1;
            return None;
        }
        self.last_logged = Some(Instant::now());
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Milliseconds since 1970 as a time; one that no calendar can hold becomes the nearest that it can.
pub fn from_ms(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// `at` later by `by`, or the last moment that a calendar can hold.
pub fn after(at: Timestamp, by: Duration) -> Timestamp {
    from_ms(at.as_millisecond().saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}

/// How a time looks in JSON, for the description of the API: [`Timestamp`] itself can't say it.
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
    fn what_comes_again_and_again_is_said_once() {
        let mut seldom = LogThrottle::default();
        assert_eq!([seldom.allow(), seldom.allow(), seldom.allow()], [Some(0), None, None]);
        // As if half a minute had passed.
        seldom.last_logged = None;
        assert_eq!(seldom.allow(), Some(2));
    }

    #[test]
    fn adjustable_clock_leaps_and_its_uptime_does_not() {
        const DAY_MS: i64 = 86_400_000;
        let clock = Clock::adjustable();
        let before = clock.reading();
        clock.clone().leap(DAY_MS);
        let leapt = clock.reading();
        assert!(leapt.wall.as_millisecond() - before.wall.as_millisecond() >= DAY_MS - 1_000);
        assert!(leapt.up.ms - before.up.ms < DAY_MS / 2);
    }

    #[test]
    fn the_systems_time_survives_a_round_through_milliseconds() {
        let now = Clock::System.now();
        assert_eq!(from_ms(now.as_millisecond()), now);
    }

    #[test]
    fn a_sum_past_the_calendar_is_its_end() {
        assert_eq!(after(Timestamp::MAX, Duration::from_secs(1)), Timestamp::MAX);
    }
}
