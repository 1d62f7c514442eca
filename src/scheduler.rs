//! What is done next, and by whom? A pure plan, and the workers that carry its steps out.
//!
//! A wake-up carries no news. A timer, an arrival, a finished step and a restart all lead to the same look at the same
//! rows, so taking up the work after a crash is the first plan and not a second program. One [`Lane`] does this for one
//! instance; instances share nothing but the database.

mod api_call;
pub mod explain;
mod fetch_reports;
mod import_watch;
mod instance_scheduler;
pub mod outcome;
mod plan;
mod poll;
mod poll_interval;
mod redaction;
mod shared_endpoint;
mod split;
mod upload;
mod worker_context;

pub use instance_scheduler::{InstanceScheduler, SchedulerError};
pub use plan::{Plan, SchedulingRules, Step, Work, may_still_upload, plan};
pub use shared_endpoint::SharedEndpoint;

use jiff::{Timestamp, civil};

use crate::clock::from_ms;

const DAY_MS: i64 = 24 * 3_600_000;

/// The moment at which the quota's day that `now` is in began. `reset` is its time of day in UTC.
pub fn day_of(now: Timestamp, reset: civil::Time) -> Timestamp {
    let seconds = i64::from(reset.hour()) * 3600 + i64::from(reset.minute()) * 60 + i64::from(reset.second());
    let past_midnight = seconds * 1000;
    from_ms((now.as_millisecond() - past_midnight).div_euclid(DAY_MS) * DAY_MS + past_midnight)
}

/// The moment at which the next one begins.
pub fn next_day(now: Timestamp, reset: civil::Time) -> Timestamp {
    from_ms(day_of(now, reset).as_millisecond() + DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quotas_day_begins_at_its_time_in_utc() {
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
