//! Failed rows: strips the reason column from a failure file, so that its rows can be sent again.

use crate::delimited::column_names;
use crate::delimited::column_names::{WITHHELD, clip};
use crate::delimited::header;
use crate::delimited::header::{HeaderReader, MAX_HEADER_BYTES};
use crate::delimited::lexer::{LexEvent, Lexer, Record};
use crate::domain::Format;

/// Removes the last column of a failure or warning file. Every other byte stays as it is.
///
/// Adobe does not document the delimiter of the failure file of an import that was not `csv`. So it is found from the
/// header: it is the one with which the columns equal those that were sent.
#[derive(Debug)]
pub struct FailedRowExtractor {
    sent: Vec<String>,
    header: HeaderReader,
    lexer: Lexer,
    format: Option<Format>,
    rows: u64,
    /// Delimiters seen in this record.
    delimiters: usize,
    /// A byte of this record was kept.
    kept: bool,
    /// A CR that begins a record waits for the next byte: with an LF it is a blank line, which is dropped.
    held_cr: bool,
    previous: u8,
}

/// The result of stripping a failure file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedRows {
    /// The format of the failure file and of the output.
    pub format: Format,
    /// The number of rows.
    pub rows: u64,
}

/// A failure file whose rows cannot be sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FailedRowError {
    /// There is no row.
    #[error("the file has no rows")]
    NoRows,
    /// The last column is not the reason column.
    #[error("the file's last column is neither \"Import Failure Reason\" nor \"Import Warning Reason\"")]
    NoReason,
    /// Columns that were sent are missing.
    #[error("the file lacks {}, sent but not given back by Marketo", names(.0))]
    Missing(Vec<String>),
    /// There are columns that were not sent.
    #[error("the file has {}, not among the columns that were sent", names(.0))]
    NotSent(Vec<String>),
    /// The columns are in another order than sent.
    #[error("the file has the columns that were sent in another order")]
    OtherOrder,
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

fn names(columns: &[String]) -> String {
    let listed: Vec<_> = columns.iter().map(|name| format!("{:?}", clip(name))).collect();
    format!("{} {}", if columns.len() == 1 { "the column" } else { "the columns" }, listed.join(", "))
}

impl FailedRowExtractor {
    /// `sent` are the columns of the file that was imported, as [`columns`](crate::delimited::header::columns) reads them.
    pub fn new(sent: Vec<String>) -> Self {
        FailedRowExtractor {
            sent,
            header: HeaderReader::default(),
            // Until the format is known. Names hold neither quotes nor line ends, so any finds the header's end.
            lexer: Lexer::new(Format::Csv, 1),
            format: None,
            rows: 0,
            delimiters: 0,
            kept: false,
            held_cr: false,
            previous: 0,
        }
    }

    /// Reads bytes of the failure file and appends the resulting bytes to `out`.
    ///
    /// # Errors
    /// [`FailedRowError`]; `out` must then be discarded.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), FailedRowError> {
        if self.format.is_none() {
            let end = self.header.push(&mut self.lexer, bytes);
            if self.header.bytes().len() as u64 > MAX_HEADER_BYTES {
                return Err(FailedRowError::HeaderTooLarge);
            }
            let Some(n) = end else { return Ok(()) };
            bytes = &bytes[n..];
            let format = self.find_format()?;
            self.format = Some(format);
            // The header is stripped like any row. The byte-order mark before it is not part of the first name.
            self.lexer = Lexer::new(format, 1);
            let header = std::mem::take(&mut self.header);
            let marked = header.bytes();
            self.strip(&marked[header::byte_order_mark(marked).len()..], out)?;
            self.rows = 0;
        }
        self.strip(bytes, out)
    }

    /// Ends the failure file.
    ///
    /// # Errors
    /// As for [`FailedRowExtractor::push`].
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<FailedRows, FailedRowError> {
        let Some(format) = self.format else { return Err(FailedRowError::NoRows) };
        if let Some(line) = self.lexer.open_quote() {
            return Err(FailedRowError::UnclosedQuote { line });
        }
        if let Some(record) = self.lexer.unended() {
            self.record(&record, b"", out)?;
        }
        if self.rows == 0 { Err(FailedRowError::NoRows) } else { Ok(FailedRows { format, rows: self.rows }) }
    }

    fn strip(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), FailedRowError> {
        for &byte in bytes {
            let first = self.lexer.unended().is_none();
            match self.lexer.step(byte) {
                LexEvent::End(record) if record.blank => self.begin_record(),
                LexEvent::End(record) => {
                    let line_end: &[u8] = if self.previous == b'\r' { b"\r\n" } else { b"\n" };
                    self.record(&record, line_end, out)?;
                }
                _ if first && byte == b'\r' => self.held_cr = true,
                mark => {
                    if std::mem::take(&mut self.held_cr) {
                        self.keep(b'\r', out);
                    }
                    self.delimiters += usize::from(mark == LexEvent::Delimiter);
                    if self.delimiters < self.sent.len() {
                        self.keep(byte, out);
                    }
                }
            }
            self.previous = byte;
        }
        Ok(())
    }

    /// Ends a record. A row whose fields are ambiguous is refused instead of guessed, because it would be imported.
    fn record(&mut self, record: &Record, line_end: &[u8], out: &mut Vec<u8>) -> Result<(), FailedRowError> {
        let columns = self.sent.len() as u64 + 1;
        if record.fields != columns {
            return Err(FailedRowError::Ragged { line: record.line, fields: record.fields, columns });
        }
        if !self.kept {
            // One empty field: without quotes it would be a blank line.
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(line_end);
        self.rows += 1;
        self.begin_record();
        Ok(())
    }

    fn begin_record(&mut self) {
        self.delimiters = 0;
        self.kept = false;
        self.held_cr = false;
    }

    fn keep(&mut self, byte: u8, out: &mut Vec<u8>) {
        out.push(byte);
        self.kept = true;
    }

    fn find_format(&self) -> Result<Format, FailedRowError> {
        let mut fault = FailedRowError::NoReason;
        for format in Format::ALL {
            let mut found = header::columns(self.header.bytes(), format);
            if !found.pop().is_some_and(|name| header::is_reason(&name)) {
                continue;
            }
            if found == self.sent {
                return Ok(format);
            }
            let without = |all: &[String], those: &[String]| -> Vec<String> {
                all.iter().filter(|name| !those.contains(name)).cloned().collect()
            };
            // In a file that was not checked, the first line may be a row with personal data.
            let shown = |names: Vec<String>| -> Vec<String> {
                if column_names::may_be_displayed(&self.sent) {
                    names
                } else {
                    names.iter().map(|_| WITHHELD.to_owned()).collect()
                }
            };
            let (missing, not_sent) = (without(&self.sent, &found), without(&found, &self.sent));
            fault = match (missing.is_empty(), not_sent.is_empty()) {
                (false, _) => FailedRowError::Missing(shown(missing)),
                (true, false) => FailedRowError::NotSent(shown(not_sent)),
                (true, true) => FailedRowError::OtherOrder,
            };
        }
        Err(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(sent: &[&str], text: &str, size: usize) -> Result<(String, FailedRows), FailedRowError> {
        let mut strip = FailedRowExtractor::new(sent.iter().map(|&name| name.to_owned()).collect());
        let mut out = Vec::new();
        for chunk in text.as_bytes().chunks(size) {
            let mut piece = Vec::new();
            strip.push(chunk, &mut piece)?;
            out.append(&mut piece);
        }
        let stripped = strip.finish(&mut out)?;
        Ok((String::from_utf8(out).unwrap(), stripped))
    }

    #[test]
    fn reasons_are_removed_and_every_other_byte_stays() {
        for (sent, text, kept, format, rows) in [
            (vec!["a", "b"], "a,b,Import Failure Reason\n1,2,no\n", "a,b\n1,2\n", Format::Csv, 1),
            (
                vec!["a", "b"],
                "\u{feff}a,b,Import Warning Reason\r\n\"1,\"\"\n\", 2,\"x,\ny\"\r\n\r\n3,4,",
                "a,b\r\n\"1,\"\"\n\", 2\r\n3,4",
                Format::Csv,
                2,
            ),
            (vec!["a", "b"], "a\tb\tImport Failure Reason\n1\t2,\tno\n", "a\tb\n1\t2,\n", Format::Tsv, 1),
            (vec!["a;b"], "\"a;b\";Import Failure Reason\n1;no\n", "\"a;b\"\n1\n", Format::Ssv, 1),
            (vec!["a"], "a,Import Failure Reason\n\r,no\n\r\n\rx,no", "a\n\r\n\rx", Format::Csv, 2),
            (vec!["a"], "a,Import Failure Reason\n,no\n", "a\n\"\"\n", Format::Csv, 1),
        ] {
            for size in [1, 2, 3, 100] {
                let expected = (kept.to_owned(), FailedRows { format, rows });
                assert_eq!(strip(&sent, text, size), Ok(expected), "by {size}");
            }
        }
    }

    #[test]
    fn columns_that_may_be_values_are_not_named() {
        let error = strip(&["Ana Maria", "Lopez"], "Lopez,Import Failure Reason\nB,no\n", 5).unwrap_err().to_string();
        assert_eq!(error, "the file lacks the column \"…\", sent but not given back by Marketo");
    }

    #[test]
    fn a_file_that_cannot_be_sent_again_gives_the_reason() {
        for (text, message) in [
            ("", "the file has no rows"),
            ("a,b,Import Failure Reason\n\n", "the file has no rows"),
            (
                "a,b,Reason\n1,2,no\n",
                "the file's last column is neither \"Import Failure Reason\" nor \"Import Warning Reason\"",
            ),
            (
                "b\tImport Failure Reason\n2\tno\n",
                "the file lacks the column \"a\", sent but not given back by Marketo",
            ),
            (
                "Import Failure Reason\nno\n",
                "the file lacks the columns \"a\", \"b\", sent but not given back by Marketo",
            ),
            (
                "a,b,c,Import Failure Reason\n1,2,3,no\n",
                "the file has the column \"c\", not among the columns that were sent",
            ),
            ("b,a,Import Failure Reason\n2,1,no\n", "the file has the columns that were sent in another order"),
            (
                "a,b,Import Failure Reason\n1,2,no\n1,2,no, it is not\n",
                "the row on line 3 has 4 fields where the header has 3",
            ),
            ("a,b,Import Failure Reason\n1,2,\"no\n", "the quote opened on line 2 has no end"),
        ] {
            assert_eq!(strip(&["a", "b"], text, 5).unwrap_err().to_string(), message, "{text:?}");
        }
    }
}
