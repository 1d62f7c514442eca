//! Clock monitor: compares the time of day with the machine's uptime to detect that the clock was set. Ages are used
//! only after the clock has been steady for a while.
//!
//! Its record is kept in the database, so it continues over a restart of the daemon.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::timestamps::from_ms;
use crate::clock::uptime::Uptime;

/// How long the clock has to be steady before anything is ended or erased by age. A clock that is wrong at boot is
/// usually corrected within this time.
pub const PATIENCE: Duration = Duration::from_secs(3600);

/// The smallest change of the clock (milliseconds) that shifts stored times. Smaller ones are reading noise.
const SHIFT_MS: i64 = 1_000;

/// The smallest change of the clock (milliseconds) after which it is not steady. Smaller corrections are normal.
const LEAP_MS: i64 = 60_000;

/// The time of day and the uptime of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// The time of day.
    pub wall: Timestamp,
    /// The uptime.
    pub up: Uptime,
}

impl ClockReading {
    /// Returns the time of day at which the uptime was 0, in milliseconds.
    fn offset_ms(&self) -> i64 {
        self.wall.as_millisecond().saturating_sub(self.up.ms)
    }
}

/// The last observation of the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockRecord {
    /// The boot that the uptimes below count from.
    pub boot: String,
    /// Time of day minus uptime, in milliseconds. It changes only when the clock is set.
    pub offset_ms: i64,
    /// The uptime since which the clock has been steady, in milliseconds; negative where it was steady before this
    /// boot.
    pub steady_since_up: i64,
    /// The uptime when the record was last written, in milliseconds.
    pub seen_up: i64,
    /// The time of day when the record was last written.
    pub seen_wall: Timestamp,
}

/// The result of an observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The new record.
    pub record: ClockRecord,
    /// The milliseconds by which stored times are to be shifted, so that the time left until them stays the same.
    pub shift_ms: i64,
}

impl ClockRecord {
    /// Begins the record of a new database. Nothing in it has an age that could be wrong, so the clock counts as
    /// steady.
    pub fn begin_steady(reading: &ClockReading) -> ClockRecord {
        let patience = i64::try_from(PATIENCE.as_millis()).unwrap_or(i64::MAX);
        let steady_since_up = reading.up.ms.saturating_sub(patience);
        ClockRecord { steady_since_up, ..Self::begin_unsteady(reading) }
    }

    /// Begins the record of a database with ages, or after another boot: the clock counts as steady after
    /// [`PATIENCE`].
    pub fn begin_unsteady(reading: &ClockReading) -> ClockRecord {
        ClockRecord {
            boot: reading.up.boot.clone(),
            offset_ms: reading.offset_ms(),
            steady_since_up: reading.up.ms,
            seen_up: reading.up.ms,
            seen_wall: reading.wall,
        }
    }

    /// Compares a reading with the record.
    ///
    /// After another boot it is unknown how long the machine was off. Stored times then keep the time that they had
    /// left when the record was last written, which may be too much and is never too little.
    pub fn observe(&self, reading: &ClockReading) -> Observation {
        // A slightly smaller uptime is a reading that another one overtook. A container's uptime begins again from 0.
        let is_same_boot = self.boot == reading.up.boot && reading.up.ms.saturating_add(LEAP_MS) >= self.seen_up;
        if !is_same_boot {
            let shift_ms = reading.wall.as_millisecond().saturating_sub(self.seen_wall.as_millisecond());
            return Observation { record: Self::begin_unsteady(reading), shift_ms };
        }
        let moved = reading.offset_ms().saturating_sub(self.offset_ms);
        let mut record =
            ClockRecord { seen_up: self.seen_up.max(reading.up.ms), seen_wall: reading.wall, ..self.clone() };
        if moved.saturating_abs() < SHIFT_MS {
            return Observation { record, shift_ms: 0 };
        }
        record.offset_ms = reading.offset_ms();
        if moved.saturating_abs() >= LEAP_MS {
            record.steady_since_up = reading.up.ms;
        }
        Observation { record, shift_ms: moved }
    }

    /// Returns whether the clock was not set between this record and an earlier one.
    pub fn runs_on(&self, earlier: &ClockRecord) -> bool {
        let origin = |record: &ClockRecord| (record.offset_ms, record.steady_since_up);
        self.boot == earlier.boot && origin(self) == origin(earlier)
    }

    /// Returns when the clock will have been steady for `patience`; none where it has been.
    pub fn steady_at(&self, reading: &ClockReading, patience: Duration) -> Option<Timestamp> {
        let patience = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
        let left = patience.saturating_sub(reading.up.ms.saturating_sub(self.steady_since_up));
        (left > 0).then(|| from_ms(reading.wall.as_millisecond().saturating_add(left)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn reading(boot: &str, up: i64, wall: i64) -> ClockReading {
        ClockReading { wall: from_ms(wall), up: Uptime { boot: boot.into(), ms: up } }
    }

    fn is_steady(record: &ClockRecord, reading: &ClockReading) -> bool {
        record.steady_at(reading, PATIENCE).is_none()
    }

    #[test]
    fn steady_clock_shifts_nothing_and_keeps_its_start() {
        let begun = ClockRecord::begin_unsteady(&reading("a", 5_000, 1_000_000));
        let later = reading("a", 5_000 + HOUR, 1_000_000 + HOUR + 999);
        let seen = begun.observe(&later);
        assert_eq!((seen.shift_ms, seen.record.offset_ms, seen.record.seen_up), (0, 995_000, 5_000 + HOUR));
        assert!(is_steady(&seen.record, &later));
    }

    #[test]
    fn set_clock_shifts_by_its_change_in_either_direction() {
        let begun = ClockRecord::begin_steady(&reading("a", 0, 9 * HOUR));
        for (leap, steady) in
            [(1_000, true), (-1_000, true), (59_999, true), (60_000, false), (-60_000, false), (-8 * HOUR, false)]
        {
            let leapt = reading("a", 60_000, 9 * HOUR + 60_000 + leap);
            let seen = begun.observe(&leapt);
            assert_eq!((seen.shift_ms, is_steady(&seen.record, &leapt)), (leap, steady), "{leap}");
            assert_eq!(seen.record.observe(&leapt).shift_ms, 0, "a change is reported once");
        }
    }

    #[test]
    fn clock_is_steady_an_hour_after_a_jump() {
        let begun = ClockRecord::begin_steady(&reading("a", 0, 0));
        let seen = begun.observe(&reading("a", 10, 8 * 24 * HOUR + 10)).record;
        let soon = reading("a", HOUR, 8 * 24 * HOUR + HOUR);
        assert_eq!(seen.steady_at(&soon, PATIENCE), Some(from_ms(8 * 24 * HOUR + HOUR + 10)));
        assert!(is_steady(&seen, &reading("a", HOUR + 10, 0)));
        assert_eq!(seen.steady_at(&soon, Duration::from_secs(60)), None, "a shorter retention period waits for less");
    }

    #[test]
    fn another_boot_keeps_the_remaining_time() {
        let begun = ClockRecord::begin_steady(&reading("a", 5 * HOUR, 9 * HOUR));
        for other in [reading("b", 7, 10 * HOUR), reading("a", 7, 10 * HOUR), reading("b", 6 * HOUR, HOUR)] {
            let seen = begun.observe(&other);
            assert_eq!(seen.shift_ms, other.wall.as_millisecond() - 9 * HOUR);
            assert!(!is_steady(&seen.record, &other));
        }
    }

    #[test]
    fn overtaken_reading_is_not_another_boot() {
        let begun = ClockRecord::begin_steady(&reading("a", 5 * HOUR, 9 * HOUR));
        let seen = begun.observe(&reading("a", 5 * HOUR - 20, 9 * HOUR - 20));
        assert_eq!((seen.shift_ms, seen.record.seen_up), (0, 5 * HOUR));
    }

    #[test]
    fn first_record_of_a_database_with_ages_is_not_steady() {
        let first = reading("a", 5 * HOUR, 9 * HOUR);
        assert!(!is_steady(&ClockRecord::begin_unsteady(&first), &first));
        assert!(is_steady(&ClockRecord::begin_steady(&first), &first));
    }
}
