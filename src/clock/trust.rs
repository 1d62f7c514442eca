//! Trust in the clock: whether the time of day has run as fast as time itself for a while, so that ages may end something.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A clock that is off at the boot is put right within this, as a rule.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Clocks are nudged all the time; this is a leap.
const LEAP_MS: i64 = 60_000;

/// What has been seen of the clock.
#[derive(Debug)]
pub struct Trust {
    patience: Duration,
    since: Instant,
    seen: (Timestamp, Instant),
}

impl Trust {
    /// `shortest` is the shortest span that something is kept: who keeps things for a minute can't wait for an hour.
    pub fn begin(shortest: Duration, wall: Timestamp, now: Instant) -> Trust {
        Trust { patience: PATIENCE.min(shortest), since: now, seen: (wall, now) }
    }

    /// Whether the clock has run evenly for long enough.
    pub fn steady(&mut self, wall: Timestamp, now: Instant) -> bool {
        let (seen, at) = std::mem::replace(&mut self.seen, (wall, now));
        let passed = i64::try_from((now - at).as_millis()).unwrap_or(i64::MAX);
        let leapt = wall.as_millisecond().saturating_sub(seen.as_millisecond()).saturating_sub(passed);
        if leapt.saturating_abs() >= LEAP_MS {
            tracing::warn!(
                seconds = leapt / 1000,
                "the clock leapt: for a while nothing ends and nothing is erased by its age"
            );
            self.since = now;
        }
        now - self.since >= self.patience
    }
}

impl Trust {
    /// The moment from which an age is counted that would end something; none while the clock is not to be believed.
    pub fn believed(&mut self, since: Option<Timestamp>, wall: Timestamp, now: Instant) -> Option<Timestamp> {
        let steady = self.steady(wall, now);
        since.filter(|_| steady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn nothing_is_due_by_its_age_in_the_first_hour() {
        let begun = Instant::now();
        let mut trust = Trust::begin(7 * DAY, from_ms(0), begun);
        for (minute, steady) in [(1, false), (59, false), (60, true), (61, true)] {
            let now = begun + Duration::from_secs(minute * 60);
            assert_eq!(trust.steady(from_ms(minute.cast_signed() * 60_000), now), steady, "minute {minute}");
        }
    }

    #[test]
    fn a_leap_either_way_begins_the_hour_anew_and_a_nudge_does_not() {
        for (leap_ms, steady) in [(0, true), (59_999, true), (-59_999, true), (60_000, false), (-60_000, false)] {
            let begun = Instant::now();
            let mut trust = Trust::begin(7 * DAY, from_ms(0), begun);
            let hours = |hours: u64| begun + Duration::from_secs(hours * 3600);
            assert!(trust.steady(from_ms(2 * 3_600_000), hours(2)));
            assert_eq!(trust.steady(from_ms(3 * 3_600_000 + leap_ms), hours(3)), steady, "{leap_ms}");
            assert!(trust.steady(from_ms(4 * 3_600_000 + leap_ms), hours(4)));
        }
    }

    #[test]
    fn no_age_is_believed_in_the_hour_after_a_leap() {
        let begun = Instant::now();
        let mut trust = Trust::begin(7 * DAY, from_ms(0), begun);
        let accepted = Some(from_ms(5));
        for (hours, leapt_days, believed) in [(0, 0, false), (2, 0, true), (3, 8, false), (4, 8, true), (5, 0, false)] {
            let wall = from_ms((hours * 3600 + leapt_days * 86_400) * 1000);
            let now = begun + Duration::from_secs(hours.cast_unsigned() * 3600);
            assert_eq!(trust.believed(accepted, wall, now), accepted.filter(|_| believed), "hour {hours}");
        }
    }

    #[test]
    fn the_hour_is_shorter_where_things_are_kept_for_less() {
        let begun = Instant::now();
        let mut trust = Trust::begin(Duration::from_secs(2), from_ms(0), begun);
        assert!(!trust.steady(from_ms(1_000), begun + Duration::from_secs(1)));
        assert!(trust.steady(from_ms(2_000), begun + Duration::from_secs(2)));
    }
}
