//! Bounds: checks of single values, whose errors name the key, the bound and the value.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use crate::config::error::KeyError;

/// Minimum of timeouts of clients. With less no client could complete a request.
pub(super) const MIN_TIMEOUT: Duration = Duration::from_millis(10);

pub(super) fn within<T: PartialOrd + fmt::Display + Into<u64> + Copy>(
    key: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), KeyError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(KeyError::new(key, format!("must be from {} to {}, not {value}", range.start(), range.end())))
}

pub(super) fn not_empty(key: &str, path: &Path) -> Result<(), KeyError> {
    if path.as_os_str().is_empty() { Err(KeyError::new(key, "must not be empty")) } else { Ok(()) }
}

pub(super) fn above_zero(key: &str, value: Duration) -> Result<(), KeyError> {
    if value.is_zero() { Err(KeyError::new(key, "must be more than zero")) } else { Ok(()) }
}

pub(super) fn at_least(key: &str, value: Duration, min: Duration) -> Result<(), KeyError> {
    if value < min { Err(KeyError::new(key, format!("must be at least {min:?}, not {value:?}"))) } else { Ok(()) }
}

/// Checks that a duration does not exceed that of another key, `max_key`.
pub(super) fn at_most(key: &str, value: Duration, max_key: &str, max: Duration) -> Result<(), KeyError> {
    if value > max {
        return Err(KeyError::new(key, format!("must be at most {max_key} ({max:?}), not {value:?}")));
    }
    Ok(())
}
