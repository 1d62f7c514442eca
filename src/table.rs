//! What is in a delimited file, and where may it be cut? Dialects, record ends, checks, cutting, joining.
//!
//! Bytes in, values out: nothing here reads a file or a socket. Each reader is pushed the bytes as they stream in,
//! sees each once, and holds no more than a header and a few counters, whatever the size of the file.
//!
//! The dialect is RFC 4180 with the delimiter of the [`Format`](crate::job::Format). A quote opens only at the start of
//! a field, `""` inside quotes is one quote, and LF or CRLF outside quotes ends a record, the last of which may lack its
//! end. A lone CR is data.
//!
//! The checks refuse what is certain to fail on Marketo, or to be read there as something else, and nothing that may be
//! right. No message holds a value of a row: names of the header stand in it only where they surely are names.

mod cut;
mod encoding;
mod fault;
mod file_kind;
mod header;
mod join;
mod lexer;
mod names;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod refusals;
mod row_limit;
mod rows;
mod scan;
mod strip;
mod text;
mod warning;

pub use cut::{Bisector, FilePart, SingleRowError};
pub use encoding::Encoding;
pub use fault::{RaggedRow, RaggedSign, ValidationError};
pub use file_kind::FileKind;
pub use header::{MAX_HEADER_BYTES, RequiredColumn, columns, lookup_column, required_columns};
pub use join::{JoinError, Joiner};
pub use names::{ColumnName, NameError, without_values};
pub use row_limit::RowLimit;
pub use scan::{FileLayout, ScanRules, Scanner};
pub use strip::{FailedRowError, FailedRowExtractor, FailedRows};
pub use warning::Warning;
