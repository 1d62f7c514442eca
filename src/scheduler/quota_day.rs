//! Quota day: the 24 hours for which Marketo counts the calls of `limits.daily_calls`.

use jiff::{Timestamp, civil};

use crate::clock::from_ms;

const DAY_MS: i64 = 24 * 3_600_000;

/// Returns the start of the quota day that contains `now`. `reset` is its time of day in UTC (`limits.daily_reset`).
pub fn day_of(now: Timestamp, reset: civil::Time) -> Timestamp {
    let seconds = i64::from(reset.hour()) * 3600 + i64::from(reset.minute()) * 60 + i64::from(reset.second());
    let past_midnight = seconds * 1000;
    from_ms((now.as_millisecond() - past_midnight).div_euclid(DAY_MS) * DAY_MS + past_midnight)
}

/// Returns the start of the quota day after the one that contains `now`.
pub fn next_day(now: Timestamp, reset: civil::Time) -> Timestamp {
    from_ms(day_of(now, reset).as_millisecond() + DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_day_begins_at_its_reset_time_in_utc() {
        for (reset, now, began) in [
            ((6, 0, 0), "2026-03-10T06:00:00Z", "2026-03-10T06:00:00Z"),
            ((6, 0, 0), "2026-03-10T05:59:59.999Z", "2026-03-09T06:00:00Z"),
            ((6, 0, 0), "2026-03-10T23:00:00Z", "2026-03-10T06:00:00Z"),
            ((6, 0, 0), "1969-12-31T07:00:00Z", "1969-12-31T06:00:00Z"),
            ((0, 0, 0), "2026-03-10T00:00:00Z", "2026-03-10T00:00:00Z"),
            ((23, 59, 58), "2026-03-10T23:59:57.999Z", "2026-03-09T23:59:58Z"),
        ] {
            let reset = civil::time(reset.0, reset.1, reset.2, 0);
            assert_eq!(day_of(now.parse().unwrap(), reset), began.parse().unwrap(), "{now}");
        }
        assert_eq!(
            next_day("2026-03-10T06:00:00Z".parse().unwrap(), civil::time(6, 0, 0, 0)),
            "2026-03-11T06:00:00Z".parse::<Timestamp>().unwrap()
        );
    }
}
