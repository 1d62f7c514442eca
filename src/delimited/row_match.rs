//! Row match: which row of an upload each row of Marketo's failure or warning file is.
//!
//! A report's row is matched by the values of the columns that the report has. Where all rows that fit are equal in
//! every column, they are interchangeable, and each is used once. Where they differ in a column that the report lacks,
//! or none fits, the row has no match: a wrong one would be worse than none.

mod columns;
mod encoding;
mod matcher;
#[cfg(test)]
mod proptests;
mod row_hash;
mod types;

pub use encoding::{DamagedMatchError, decode_rows, encode_rows};
pub use matcher::{ReportMatcher, SentMatcher};
pub use types::{RowMatch, SentRow};
