//! Timestamps: conversions to and from whole milliseconds, and their JSON schema.

use std::time::Duration;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

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
    fn sum_beyond_the_range_is_clamped() {
        assert_eq!(after(Timestamp::MAX, Duration::from_secs(1)), Timestamp::MAX);
    }
}
