//! Row mapping: reads the types of single columns.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::clock::from_ms;

/// Reads a column with the name of an enum's value. The schema's `CHECK` allows no other text.
pub(crate) fn parse_column<T>(row: &SqliteRow, column: &str) -> Result<T, sqlx::Error>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    row.try_get::<&str, _>(column)?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Reads such a column that may be null.
pub(crate) fn optional_parse_column<T>(row: &SqliteRow, column: &str) -> Result<Option<T>, sqlx::Error>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))).transpose()
}

/// Reads a column with milliseconds since 1970.
pub(crate) fn time_column(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(from_ms))
}

/// Reads a column with a number that is not negative.
pub(crate) fn size_column(row: &SqliteRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)?.cast_unsigned())
}

/// Reads such a column that may be null.
pub(crate) fn optional_size_column(row: &SqliteRow, column: &str) -> Result<Option<u64>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(i64::cast_unsigned))
}

/// Reads a column with a duration in milliseconds.
pub(crate) fn duration_column(row: &SqliteRow, column: &str) -> Result<Duration, sqlx::Error> {
    Ok(Duration::from_millis(size_column(row, column)?))
}

/// Returns a time as the value of a column.
pub(crate) fn time_value(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_millisecond)
}

/// Returns a duration as the value of a column.
pub(crate) fn duration_value(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
