//! Warnings about a file: what is likely to go wrong on Marketo and does not keep the file from being imported.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One finding that does not prevent the import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// The machine-readable code: `empty-lookup-value` or `columns-differ-in-case`.
    pub code: String,
    /// The warning in one sentence, without a value of any row.
    pub detail: String,
    /// The line of the first row that it is about, counted from 1; none where it is about the header.
    pub line: Option<u64>,
    /// How many rows it is about.
    pub rows: Option<u64>,
}

impl Warning {
    /// `rows` rows have no value in `column`, by which Marketo finds or makes the record; the first begins on `line`.
    pub(super) fn empty_lookup_value(column: &str, rows: u64, line: u64) -> Warning {
        let have = if rows == 1 {
            format!("1 row has no value in the lookup field {column:?}, on line {line}: it")
        } else {
            format!("{rows} rows have no value in the lookup field {column:?}, the first on line {line}: each")
        };
        Warning {
            code: "empty-lookup-value".into(),
            detail: format!("{have} will fail on Marketo"),
            line: Some(line),
            rows: Some(rows),
        }
    }

    /// The columns `first` and `second`, counted from 1, have names that are one but for capital letters, and `more`
    /// such pairs follow.
    pub(super) fn columns_differ_in_case(first: (usize, &str), second: (usize, &str), more: usize) -> Warning {
        let more = if more == 0 { String::new() } else { format!(" (and {more} more such columns)") };
        let detail = format!(
            "columns {} and {} of the header, {:?} and {:?}, differ only in capital letters{more}: Marketo may take them \
             for one field",
            first.0, second.0, first.1, second.1
        );
        Warning { code: "columns-differ-in-case".into(), detail, line: None, rows: None }
    }
}
