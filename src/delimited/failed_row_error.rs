//! Error of failed rows: why the rows of a failure file cannot be sent again.

use crate::delimited::header::MAX_HEADER_BYTES;

/// A failure file whose rows cannot be sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FailedRowError {
    /// There is no row.
    #[error("the file has no rows")]
    NoRows,
    /// The last column is not the reason column.
    #[error("the file's last column is neither \"Import Failure Reason\" nor \"Import Warning Reason\"")]
    NoReason,
    /// A row has another number of fields than the header.
    #[error("the row on line {line} has {fields} fields where the header has {columns}")]
    Ragged {
        /// The line of the row, counted from 1.
        line: u64,
        /// The number of its fields.
        fields: u64,
        /// The number of columns of the header.
        columns: u64,
    },
    /// The file ends within a quoted field.
    #[error("the quote opened on line {line} has no end")]
    UnclosedQuote {
        /// The line of the opening quote, counted from 1.
        line: u64,
    },
    /// The header is larger than [`MAX_HEADER_BYTES`].
    #[error("the header does not end within {MAX_HEADER_BYTES} bytes")]
    HeaderTooLarge,
}
