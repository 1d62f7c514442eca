//! Table: the rows behind a header, which are checked and added to the parts.

use std::ops::Range;

use crate::delimited::error::ValidationError;
use crate::delimited::lexer::Record;
use crate::delimited::row_checks::RowChecks;
use crate::delimited::split::{RecordOffset, Splitter};

/// The rows of a file, once its header has ended.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) header: Range<u64>,
    pub(super) columns: Vec<String>,
    pub(super) splitter: Splitter,
    /// Blank lines that may turn out to be the last of the file: the line of the first, and where the rows ended.
    pub(super) blank: Option<(u64, RecordOffset)>,
    /// None where the file is sent as it is.
    pub(super) checks: Option<RowChecks>,
}

impl Table {
    /// Adds the record that ends at offset `to`; `bytes` are its own, or the beginning of a very large one.
    pub(super) fn row(&mut self, record: &Record, bytes: &[u8], to: u64) -> Result<(), ValidationError> {
        let columns = self.columns.len();
        if record.blank {
            let offset = self.splitter.record_offset();
            self.blank.get_or_insert((record.line, offset));
        } else {
            let blank = self.blank.take();
            if let Some(checks) = &mut self.checks {
                match blank {
                    Some((line, _)) if columns > 1 => return Err(ValidationError::BlankLine { line }),
                    // In a table of one column a blank line is a row with an empty field.
                    Some((line, offset)) => checks.blank_rows(line, self.splitter.rows_since(&offset)),
                    None => {}
                }
                checks.row(record, bytes)?;
            }
        }
        if record.bytes > self.splitter.max_part_bytes() {
            return Err(ValidationError::RecordTooLarge {
                line: record.line,
                limit: self.splitter.max_part_bytes(),
                open_quote: None,
            });
        }
        self.splitter.add(to - record.bytes, to, record.line);
        Ok(())
    }
}
