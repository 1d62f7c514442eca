//! Instance lists: rows of several instances, read by one statement and divided by instance.
//!
//! A daemon may have hundreds of instances, and each statement costs more than the few rows that it returns.

use std::collections::HashMap;

use serde_json::{Value, json};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// Returns the value of a parameter for `json_each`: SQLite takes a list as JSON.
pub(crate) fn list_parameter(elements: impl IntoIterator<Item = Value>) -> String {
    Value::Array(elements.into_iter().collect()).to_string()
}

/// Returns that value for a list of instances.
pub(crate) fn names_parameter<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    list_parameter(names.into_iter().map(|name| json!(name)))
}

/// Divides rows by their column `instance`, in the order of the rows.
pub(crate) fn by_instance<T>(
    rows: &[SqliteRow],
    read: impl Fn(&SqliteRow) -> Result<T, sqlx::Error>,
) -> Result<HashMap<String, Vec<T>>, sqlx::Error> {
    let mut divided = HashMap::<String, Vec<T>>::new();
    for row in rows {
        let (name, value) = (row.try_get::<&str, _>("instance")?, read(row)?);
        match divided.get_mut(name) {
            Some(values) => values.push(value),
            None => {
                divided.insert(name.to_owned(), vec![value]);
            }
        }
    }
    Ok(divided)
}
