//! Row checks: find rows that Marketo would refuse or misread.
//!
//! Nearly every row passes by its first byte and the lexer's counts. Only a suspicious row is read field by field.

use memchr::{memchr, memmem};

use crate::byte_order_mark::BYTE_ORDER_MARK;
use crate::delimited::column_names::is_curly_quote;
use crate::delimited::error::ValidationError;
use crate::delimited::header;
use crate::delimited::header::columns;
use crate::delimited::hints::ScanExtent;
use crate::delimited::lexer::{LexEvent, Lexer, Record};
use crate::delimited::ragged_row::{RaggedRow, RaggedSign};
use crate::delimited::warning::Warning;
use crate::domain::Format;

/// A file is refused at the latest when this many of its rows have another number of fields than the header. They show
/// what is wrong, and where all rows are, reading on would find nothing else.
const RAGGED_ROWS: usize = 5;

/// The checks of the rows of one file, with their counts so far.
#[derive(Debug)]
pub(super) struct RowChecks {
    format: Format,
    /// Without mark and line end.
    header: Vec<u8>,
    names: Vec<String>,
    /// The index of the lookup column.
    lookup: Option<usize>,
    ragged: Vec<RaggedRow>,
    without_values: Rows,
    without_lookup: Rows,
}

/// A count of rows and the line of the first.
#[derive(Clone, Copy, Debug, Default)]
struct Rows {
    number: u64,
    first_line: u64,
}

impl Rows {
    fn add(&mut self, line: u64, rows: u64) {
        if self.number == 0 {
            self.first_line = line;
        }
        self.number += rows;
    }
}

impl RowChecks {
    /// `header` is the header's record; `lookup` is the lookup column, which the file may lack.
    pub fn new(header: &[u8], format: Format, names: &[String], lookup: Option<&str>) -> RowChecks {
        RowChecks {
            format,
            header: header::line_content(header).to_owned(),
            names: names.to_owned(),
            lookup: lookup.and_then(|lookup| names.iter().position(|name| name == lookup)),
            ragged: Vec::new(),
            without_values: Rows::default(),
            without_lookup: Rows::default(),
        }
    }

    /// Checks one row. `bytes` are those of the record, or the beginning of a very large one.
    ///
    /// # Errors
    /// The fault that ends the reading. Faults that are counted over the file come with [`RowChecks::counted`].
    pub fn row(&mut self, record: &Record, bytes: &[u8]) -> Result<(), ValidationError> {
        let &Record { line, last_line, fields, .. } = record;
        let first = bytes.first().copied().unwrap_or_default();
        if first == BYTE_ORDER_MARK[0] && bytes.starts_with(BYTE_ORDER_MARK) {
            return Err(ValidationError::MarkInside { line });
        }
        if fields > 1 && (first == self.format.delimiter() || b"\" \t\r".contains(&first)) && self.has_no_value(bytes) {
            self.without_values.add(line, 1);
            return Ok(());
        }
        if fields != self.names.len() as u64 {
            self.ragged.push(RaggedRow { line, last_line, fields, sign: self.sign(fields, bytes) });
            return if self.ragged.len() == RAGGED_ROWS { Err(self.ragged_rows(ScanExtent::Stopped)) } else { Ok(()) };
        }
        if self.is_header(bytes) {
            return Err(ValidationError::HeaderAgain { line });
        }
        if self.names.len() == 1 && self.is_behind_mark(bytes) {
            return Err(ValidationError::MarkInside { line });
        }
        if record.data_behind_quote && self.has_escaped_quote(bytes) {
            return Err(ValidationError::BackslashQuote { line });
        }
        if record.stray_cr {
            return Err(ValidationError::CrInField { line });
        }
        if self.lookup.is_some_and(|column| self.is_empty(record, bytes, column)) {
            self.without_lookup.add(line, 1);
        }
        Ok(())
    }

    /// So many blank lines from `line` on in a table of one column: rows with an empty field.
    pub fn blank_rows(&mut self, line: u64, rows: u64) {
        if self.lookup.is_some() {
            self.without_lookup.add(line, rows);
        }
    }

    /// Returns a fault that was counted in the rows so far, the first in the file's order.
    pub fn counted(&self, extent: ScanExtent) -> Option<ValidationError> {
        let Rows { number, first_line } = self.without_values;
        match self.ragged.first() {
            Some(ragged) if number == 0 || ragged.line < first_line => Some(self.ragged_rows(ScanExtent::WholeFile)),
            _ if number > 0 => Some(ValidationError::EmptyRows { line: first_line, rows: number, extent }),
            _ => None,
        }
    }

    /// Returns the findings that do not prevent the import.
    pub fn warnings(&self) -> Vec<Warning> {
        let Rows { number, first_line } = self.without_lookup;
        let lookup = self.lookup.filter(|_| number > 0);
        let lookup = lookup.map(|column| Warning::empty_lookup_value(&self.names[column], number, first_line));
        lookup.into_iter().chain(header::case_warning(&self.names)).collect()
    }

    fn ragged_rows(&self, extent: ScanExtent) -> ValidationError {
        ValidationError::Ragged { columns: self.names.len() as u64, rows: self.ragged.clone(), extent }
    }

    /// Returns whether every field is empty or holds only blanks.
    fn has_no_value(&self, bytes: &[u8]) -> bool {
        let delimiter = self.format.delimiter();
        bytes.iter().all(|byte| *byte == delimiter || b"\" \t\r\n".contains(byte))
            && columns(bytes, self.format).iter().all(|value| value.trim().is_empty())
    }

    fn is_header(&self, bytes: &[u8]) -> bool {
        let unquoted = bytes.strip_prefix(b"\"").unwrap_or(bytes);
        let name = self.names.first().map(String::as_bytes).unwrap_or_default();
        // The first byte alone decides for nearly every row.
        unquoted.first() == name.first() && unquoted.starts_with(name) && columns(bytes, self.format) == self.names
    }

    /// A value that ends with a mark and the header: a file of one column was put behind one without its last line end.
    fn is_behind_mark(&self, bytes: &[u8]) -> bool {
        memchr(BYTE_ORDER_MARK[0], bytes).is_some() && {
            let line = header::line_content(bytes);
            line.strip_suffix(self.header.as_slice()).is_some_and(|rest| rest.ends_with(BYTE_ORDER_MARK))
        }
    }

    /// Returns the probable cause of the row's different number of fields.
    fn sign(&self, fields: u64, bytes: &[u8]) -> Option<RaggedSign> {
        let line = header::line_content(bytes);
        let (expected, delimiter) = (self.names.len(), self.format.delimiter());
        if fields > expected as u64 && columns(bytes, self.format).iter().skip(expected).all(|value| value.is_empty()) {
            return Some(RaggedSign::TrailingDelimiter);
        }
        let header_behind =
            line.strip_suffix(self.header.as_slice()).is_some_and(|rest| rest.last() != Some(&delimiter));
        if expected > 1 && fields + 1 == 2 * expected as u64 && header_behind {
            return Some(RaggedSign::HeaderBehind);
        }
        if memmem::find(line, b"\\\"").is_some() {
            return Some(RaggedSign::BackslashQuote);
        }
        String::from_utf8_lossy(line)
            .chars()
            .find(|&letter| is_curly_quote(letter) && !"\u{2018}\u{2019}".contains(letter))
            .map(RaggedSign::CurlyQuote)
    }

    /// Returns whether a quote after a backslash closed a quoted field and more of the field follows.
    fn has_escaped_quote(&self, bytes: &[u8]) -> bool {
        let mut lexer = Lexer::new(self.format, 1);
        let (mut previous, mut closed_behind_backslash) = (0, false);
        for (at, &byte) in bytes.iter().enumerate() {
            let mark = lexer.step(byte);
            if closed_behind_backslash && mark == LexEvent::Data && byte != b'"' {
                // Blanks before the delimiter belong to a path such as "C:\data\" as little as to any other value.
                let next = bytes[at..].iter().find(|byte| !b" \t\r".contains(byte));
                return next.is_some_and(|&next| next != self.format.delimiter() && next != b'\n');
            }
            closed_behind_backslash = mark == LexEvent::Quote && previous == b'\\';
            previous = byte;
        }
        false
    }

    /// Whether the field of a column is empty, or holds nothing but blanks. The row has the right number of fields.
    fn is_empty(&self, record: &Record, bytes: &[u8], column: usize) -> bool {
        let delimiter = self.format.delimiter();
        // The last byte decides nearly always for the last column, the first byte for the others.
        let rest = if column + 1 == self.names.len() && column > 0 {
            match header::line_content(bytes).last() {
                Some(&byte) if byte == delimiter || b"\" \t".contains(&byte) => behind(bytes, column, delimiter),
                _ => return false,
            }
        } else {
            behind(bytes, column, delimiter)
        };
        match rest.and_then(|rest| Some((rest, rest.first()?))) {
            Some((rest, &byte)) if byte == delimiter || b"\" \t\r\n".contains(&byte) => {
                let field = header::line_content(&rest[..field_end(rest, delimiter).unwrap_or(rest.len())]);
                let inner = field.strip_prefix(b"\"").and_then(|field| field.strip_suffix(b"\"")).unwrap_or(field);
                inner.trim_ascii().is_empty()
            }
            Some(_) => false,
            // The last row of a file may end with its last delimiter; of a very large row only the beginning is kept.
            None => record.bytes == bytes.len() as u64 && bytes.last() == Some(&delimiter),
        }
    }
}

/// Returns the bytes after the delimiter before a column; `None` if there are none or they are beyond the end of
/// `bytes`.
fn behind(bytes: &[u8], column: usize, delimiter: u8) -> Option<&[u8]> {
    (0..column).try_fold(bytes, |rest, _| rest.get(field_end(rest, delimiter)? + 1..)).filter(|rest| !rest.is_empty())
}

/// Returns the position of the delimiter after the first field.
fn field_end(bytes: &[u8], delimiter: u8) -> Option<usize> {
    if bytes.first() != Some(&b'"') {
        return memchr(delimiter, bytes);
    }
    let mut at = 1;
    loop {
        at += memchr(b'"', &bytes[at..])? + 1;
        match bytes.get(at)? {
            b'"' => at += 1,
            &byte if byte == delimiter => return Some(at),
            _ => return memchr(delimiter, &bytes[at..]).map(|more| at + more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_found_after_quotes_of_any_kind() {
        let line = b"a,\"b,\"\"c\"\"\",,\"\",\"d\"e,f";
        let begins: Vec<_> = (0..7).map(|column| behind(line, column, b',').map(|rest| rest[0])).collect();
        assert_eq!(begins, [Some(b'a'), Some(b'"'), Some(b','), Some(b'"'), Some(b'"'), Some(b'f'), None]);
    }
}
