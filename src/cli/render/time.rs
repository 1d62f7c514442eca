//! Times and spans as text.

use jiff::{SignedDuration, Timestamp};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Days from which on a date says more than a number of days.
const MAX_DAYS: i64 = 60;

/// Formats a time in UTC, to the millisecond: all exact times have the same length.
pub fn exact(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// Formats a time in UTC, to the second, for times whose exact value is of no interest.
pub fn to_the_second(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// Formats a time as seen from `now`: `3 min ago`, `in 2 h`, `now`; a date where it is far away.
pub fn relative(at: Timestamp, now: Timestamp) -> String {
    let passed = now.duration_since(at);
    if passed.as_secs().abs() >= MAX_DAYS * DAY {
        return at.to_string().chars().take(10).collect();
    }
    match passed.as_secs() {
        0 => "now".to_owned(),
        1.. => format!("{} ago", span(passed)),
        _ => format!("in {}", span(passed)),
    }
}

/// Formats a length of time in its largest unit: `40 s`, `3 min`, `2 h`, `5 days`. The sign is left out.
pub fn span(length: SignedDuration) -> String {
    match length.as_secs().abs() {
        seconds @ ..MINUTE => format!("{seconds} s"),
        seconds @ MINUTE..HOUR => format!("{} min", seconds / MINUTE),
        seconds if seconds < 2 * DAY => format!("{} h", seconds / HOUR),
        seconds => format!("{} days", seconds / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::samples::at;

    #[test]
    fn an_exact_time_has_three_digits_of_milliseconds() {
        assert_eq!(exact(at(0)), "2026-08-01T10:00:00.000Z");
        assert_eq!(exact(crate::clock::from_ms(1_785_578_400_990)), "2026-08-01T10:00:00.990Z");
        assert_eq!(to_the_second(crate::clock::from_ms(1_785_578_400_990)), "2026-08-01T10:00:00Z");
    }

    #[test]
    fn a_relative_time_has_its_largest_unit() {
        for (seconds, text) in [
            (0, "now"),
            (1, "1 s ago"),
            (59, "59 s ago"),
            (60, "1 min ago"),
            (3_599, "59 min ago"),
            (3_600, "1 h ago"),
            (47 * 3_600, "47 h ago"),
            (48 * 3_600, "2 days ago"),
            (60 * 86_400, "2026-08-01"),
            (-5, "in 5 s"),
            (-7_200, "in 2 h"),
        ] {
            assert_eq!(relative(at(0), at(seconds)), text, "{seconds}");
        }
    }
}
