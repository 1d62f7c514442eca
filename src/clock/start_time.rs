//! Start time: a point in time as a user writes it, either exact or as a local time of day.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::clock::timestamps::from_ms;

/// A point in time as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum StartTime {
    /// A date and a time with their offset from UTC.
    At(Timestamp),
    /// The next such local time.
    Daily(Time),
}

impl StartTime {
    /// Returns the point in time that is meant at `now` in `zone`, in whole milliseconds. A time of day that is skipped
    /// when the clocks are set forward is later by as much; one that comes twice is the first of the two.
    ///
    /// # Errors
    /// A sentence, if the time is outside of the representable range.
    pub fn resolve(self, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
        let time = match self {
            StartTime::At(at) => return Ok(from_ms(at.as_millisecond())),
            StartTime::Daily(time) => time,
        };
        let unknown = |error| format!("the next {time:.0} of the local time can't be computed: {error}");
        let today = now.to_zoned_datetime(zone.clone()).date();
        let at = today.to_datetime(time).to_zoned_datetime(zone.clone()).map_err(unknown)?.timestamp();
        if at > now {
            return Ok(at);
        }
        let tomorrow = today.tomorrow().map_err(unknown)?;
        Ok(tomorrow.to_datetime(time).to_zoned_datetime(zone.clone()).map_err(unknown)?.timestamp())
    }

    /// Does the same as [`StartTime::resolve`] in the system's time zone, which is read only for a time of day.
    ///
    /// # Errors
    /// A sentence, if the time zone can't be read.
    pub fn resolve_in_system_zone(self, now: Timestamp) -> Result<Timestamp, String> {
        let zone = match self {
            StartTime::At(_) => TimeZone::UTC,
            StartTime::Daily(_) => TimeZone::try_system().map_err(|error| {
                format!(
                    "the system's time zone can't be read ({error}): give the time with its date and offset, such as \
                     2026-01-31T02:00:00+01:00"
                )
            })?,
        };
        self.resolve(now, &zone)
    }
}

impl FromStr for StartTime {
    type Err = String;

    fn from_str(text: &str) -> Result<StartTime, String> {
        // The parser of times alone would also take one out of a date and time without an offset.
        let is_time_of_day = matches!(text.len(), 5 | 8)
            && text.char_indices().all(|(at, letter)| match at % 3 {
                2 => letter == ':',
                _ => letter.is_ascii_digit(),
            });
        let found = match is_time_of_day {
            true => text.parse().ok().map(StartTime::Daily),
            false => text.parse().ok().map(StartTime::At),
        };
        found.ok_or_else(|| {
            format!(
                "a time is one of the day such as 02:00, or has its date and offset such as 2026-01-31T02:00:00+01:00, \
                 and \"{text}\" is neither"
            )
        })
    }
}

impl TryFrom<String> for StartTime {
    type Error = String;

    fn try_from(text: String) -> Result<StartTime, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Central Europe, as POSIX writes it: clocks go forward at 02:00 and back at 03:00.
    fn zone() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn resolved(text: &str, now: &str) -> String {
        let now: Timestamp = now.parse().unwrap();
        text.parse::<StartTime>().unwrap().resolve(now, &zone()).unwrap().to_string()
    }

    #[test]
    fn a_time_of_day_is_the_next_one() {
        for (text, now, expected) in [
            ("02:00", "2026-08-01T10:00:00Z", "2026-08-02T00:00:00Z"),
            ("12:00", "2026-08-01T09:59:59.999Z", "2026-08-01T10:00:00Z"),
            ("12:00", "2026-08-01T10:00:00Z", "2026-08-02T10:00:00Z"),
            ("00:30:15", "2026-12-31T23:00:00Z", "2026-12-31T23:30:15Z"),
            ("23:59", "2026-01-31T22:59:30Z", "2026-02-01T22:59:00Z"),
        ] {
            assert_eq!(resolved(text, now), expected, "{text} at {now}");
        }
    }

    #[test]
    fn daylight_saving_days_have_each_time_once() {
        for (text, now, expected) in [
            // 02:30 does not exist on 29 March: the clocks go from 02:00 to 03:00.
            ("02:30", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"),
            ("03:30", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"),
            ("02:30", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"),
            // 02:30 exists twice on 25 October.
            ("02:30", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
            ("02:30", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
        ] {
            assert_eq!(resolved(text, now), expected, "{text} at {now}");
        }
    }

    #[test]
    fn an_exact_time_is_unchanged() {
        for (text, expected) in [
            ("2026-01-31T02:00:00+01:00", "2026-01-31T01:00:00Z"),
            ("2020-01-31T02:00:00Z", "2020-01-31T02:00:00Z"),
            ("2026-01-31T02:00:00.0019Z", "2026-01-31T02:00:00.001Z"),
        ] {
            assert_eq!(resolved(text, "2026-08-01T10:00:00Z"), expected, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "2", "2:00", "24:00", "02:60", "02.00", "tomorrow", "2026-01-31", "2026-01-31T02:00", "+1h"] {
            let error = text.parse::<StartTime>().unwrap_err();
            assert!(error.contains(&format!("\"{text}\" is neither")), "{error}");
        }
    }
}
