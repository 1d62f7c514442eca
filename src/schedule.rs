//! What is done next, and by whom? A pure plan, and the workers that carry its steps out.
//!
//! A wake-up carries no news. A timer, an arrival, a finished step and a restart all lead to the same look at the same
//! rows, so taking up the work after a crash is the first plan and not a second program. One [`Lane`] does this for one
//! instance; instances share nothing but the database.

mod call;
mod collect;
mod desk;
pub mod explain;
mod halve;
mod lane;
pub mod outcome;
mod plan;
mod poll;
mod polling;
mod upload;

pub use lane::{Lane, OpenError};
pub use plan::{Plan, Rules, Step, Work, plan};

/// When the day of Marketo's quota begins: "12:00 AM CST", and whether that follows daylight saving is not said, so the
/// later of the two readings in UTC.
const RESET_HOUR_UTC: i64 = 6;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The moment at which the quota's day that `now` is in began.
pub fn day_of(now: jiff::Timestamp) -> jiff::Timestamp {
    let since = now.as_millisecond() - RESET_HOUR_UTC * HOUR_MS;
    crate::clock::from_ms(since.div_euclid(DAY_MS) * DAY_MS + RESET_HOUR_UTC * HOUR_MS)
}

/// The moment at which the next one begins.
pub fn next_day(now: jiff::Timestamp) -> jiff::Timestamp {
    crate::clock::from_ms(day_of(now).as_millisecond() + DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quotas_day_begins_at_six_in_utc() {
        for (now, began) in [
            ("2026-03-10T06:00:00Z", "2026-03-10T06:00:00Z"),
            ("2026-03-10T05:59:59.999Z", "2026-03-09T06:00:00Z"),
            ("2026-03-10T23:00:00Z", "2026-03-10T06:00:00Z"),
            ("1969-12-31T07:00:00Z", "1969-12-31T06:00:00Z"),
        ] {
            assert_eq!(day_of(now.parse().unwrap()), began.parse().unwrap(), "{now}");
        }
        assert_eq!(
            next_day("2026-03-10T06:00:00Z".parse().unwrap()),
            "2026-03-11T06:00:00Z".parse::<jiff::Timestamp>().unwrap()
        );
    }
}
