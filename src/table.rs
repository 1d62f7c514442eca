//! What is in a delimited file, and where may it be cut? Dialects, record ends, checks, cutting, joining.
//!
//! Bytes in, values out: nothing here reads a file or a socket. Each reader is pushed the bytes as they stream in,
//! sees each once, and holds no more than a header and a few counters, whatever the size of the file.
//!
//! The dialect is RFC 4180 with the delimiter of the [`Format`](crate::job::Format). A quote opens only at the start of
//! a field, `""` inside quotes is one quote, and LF or CRLF outside quotes ends a record, the last of which may lack its
//! end. A lone CR is data.

mod cut;
mod fault;
mod header;
mod join;
mod lexer;
#[cfg(test)]
mod properties;
mod row_limit;
mod scan;
mod strip;
mod text;

pub use cut::{Halver, Part, SingleRow};
pub use fault::{Fault, RaggedRow};
pub use header::{MAX_HEADER_BYTES, Required, columns, required_columns};
pub use join::{JoinFault, Joiner};
pub use row_limit::RowLimit;
pub use scan::{Layout, Rules, Scanner};
pub use strip::{StripFault, StripReason, Stripped};
