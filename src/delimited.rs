//! Delimited text: parsing, validation, splitting and joining of CSV, TSV and SSV files.
//!
//! Nothing here does I/O. Each reader takes the bytes of a file in pieces, reads each byte once, and holds no more than
//! a header and a few counters, whatever the size of the file.
//!
//! The dialect is RFC 4180 with the delimiter of the [`Format`](crate::domain::Format). A quote opens only at the start
//! of a field, `""` inside quotes is one quote, and LF or CRLF outside quotes ends a record, the last of which may lack
//! its end. A lone CR is data.
//!
//! The checks refuse only what is certain to fail on Marketo or to be misread there. No message holds a value of a row:
//! a column's name is shown only where it cannot be a value.

mod column_appender;
mod column_names;
mod column_remover;
mod encoding;
mod error;
mod failed_row_error;
mod failed_rows;
mod field_reader;
mod file_kind;
mod header;
mod hints;
mod join;
mod layout;
mod lexer;
mod line_inserter;
#[cfg(test)]
mod proptests;
mod ragged_row;
mod reason_groups;
#[cfg(test)]
mod refusal_tests;
mod report_header;
mod report_reader;
mod row_checks;
mod row_limit;
mod row_match;
mod row_selector;
mod scan;
mod shared_report;
mod split;
mod table;
#[cfg(test)]
mod test_dialect;
mod utf8;
mod warning;

pub use column_appender::{AddedValues, ColumnAppender};
pub use column_names::{ColumnName, NameError, without_values};
pub use encoding::Encoding;
pub use error::ValidationError;
pub use failed_row_error::FailedRowError;
pub use failed_rows::{CorrectedFormat, FailedRowExtractor, FailedRows};
pub use file_kind::FileKind;
pub use header::{
    MAX_HEADER_BYTES, RequiredColumn, columns, columns_required_at_upload, lookup_column, required_columns,
};
pub use hints::ScanExtent;
pub use join::{JoinError, Joiner};
pub use layout::{FileLayout, ScanRules};
pub use line_inserter::LineInserter;
pub use ragged_row::{RaggedRow, RaggedSign};
pub use reason_groups::{GroupedReason, ReasonGroup, ReasonGroups};
pub use report_header::ReportHeader;
pub use report_reader::{ReportReader, ReportRow};
pub use row_limit::RowLimit;
pub use row_match::{DamagedMatchError, ReportMatcher, RowMatch, SentMatcher, SentRow, decode_rows, encode_rows};
pub use row_selector::RowSelector;
pub use scan::Scanner;
pub use shared_report::{JobReport, JobReports, RawReports, ReportDivider, UnknownRows};
pub use split::{Bisector, FilePart, SingleRowError};
pub use warning::Warning;
