//! Line inserter: adds a first column with the line of each row in the submitted file to a report.

use crate::delimited::failed_rows::LINE_COLUMN;
use crate::delimited::header;
use crate::delimited::header::{HeaderReader, MAX_HEADER_BYTES};
use crate::delimited::lexer::{LexEvent, Lexer};
use crate::delimited::report_reader::ReportHeader;
use crate::domain::Format;

/// Adds the column `Line` to one report. Every other byte stays, also in a file that is no report. Blank lines are no rows.
///
/// The caller gives the lines: for the number of a row in the report, counted from 0, its line, or none where it can't be told.
#[derive(Debug)]
pub struct LineInserter {
    sent_format: Format,
    reading: Reading,
}

#[derive(Debug)]
enum Reading {
    Header(HeaderReader, Lexer),
    Rows(RowPrefixer),
}

impl LineInserter {
    /// Returns an inserter for a report about an import of `sent_format`.
    pub fn new(sent_format: Format) -> Self {
        // Names hold neither quotes nor line ends, so any delimiter finds the header's end.
        LineInserter { sent_format, reading: Reading::Header(HeaderReader::default(), Lexer::new(Format::Csv, 1)) }
    }

    /// Reads bytes of the report and appends the resulting bytes to `out`.
    pub fn push(&mut self, mut bytes: &[u8], line: impl Fn(usize) -> Option<u64>, out: &mut Vec<u8>) {
        if let Reading::Header(reader, lexer) = &mut self.reading {
            let end = reader.push(lexer, bytes);
            // A header that is too large is passed on as it is; joining the reports refuses it.
            if end.is_none() && reader.bytes().len() as u64 <= MAX_HEADER_BYTES {
                return;
            }
            bytes = &bytes[end.unwrap_or(bytes.len())..];
            let rows = RowPrefixer::after_header(reader.bytes(), self.sent_format, out);
            self.reading = Reading::Rows(rows);
        }
        if let Reading::Rows(rows) = &mut self.reading {
            rows.push(bytes, line, out);
        }
    }

    /// Ends the report.
    pub fn finish(self, line: impl Fn(usize) -> Option<u64>, out: &mut Vec<u8>) {
        match self.reading {
            Reading::Header(reader, _) if reader.is_empty() => out.extend_from_slice(reader.bytes()),
            Reading::Header(reader, _) => {
                RowPrefixer::after_header(reader.bytes(), self.sent_format, out);
            }
            Reading::Rows(mut rows) => rows.end_start(line, out),
        }
    }
}

/// Writes a line before each row.
#[derive(Debug)]
struct RowPrefixer {
    lexer: Lexer,
    delimiter: u8,
    /// The number of the next row.
    row: usize,
    start: RecordStart,
}

/// What is known of the record under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RecordStart {
    /// No byte of it was read.
    Empty,
    /// A CR was read: with an LF behind it, it is a blank line.
    Cr,
    /// Its line was written.
    Begun,
}

impl RowPrefixer {
    fn after_header(bytes: &[u8], sent_format: Format, out: &mut Vec<u8>) -> RowPrefixer {
        let format = ReportHeader::read(bytes, sent_format).format;
        let mark = header::byte_order_mark(bytes);
        out.extend_from_slice(mark);
        out.extend_from_slice(LINE_COLUMN.as_bytes());
        out.push(format.delimiter());
        out.extend_from_slice(&bytes[mark.len()..]);
        let (lexer, delimiter) = (Lexer::new(format, 1), format.delimiter());
        RowPrefixer { lexer, delimiter, row: 0, start: RecordStart::Empty }
    }

    fn push(&mut self, bytes: &[u8], line: impl Fn(usize) -> Option<u64>, out: &mut Vec<u8>) {
        for &byte in bytes {
            let event = self.lexer.step(byte);
            if let LexEvent::End(record) = event {
                if record.blank {
                    out.extend_from_slice(if self.start == RecordStart::Cr { b"\r\n" } else { b"\n" });
                } else {
                    self.end_start(&line, out);
                    out.push(byte);
                }
                self.start = RecordStart::Empty;
                continue;
            }
            match self.start {
                RecordStart::Begun => out.push(byte),
                RecordStart::Empty if byte == b'\r' => self.start = RecordStart::Cr,
                RecordStart::Empty => {
                    self.begin(&line, out);
                    out.push(byte);
                }
                RecordStart::Cr => {
                    self.end_start(&line, out);
                    out.push(byte);
                }
            }
        }
    }

    /// Writes what waits to be known as a row.
    fn end_start(&mut self, line: impl Fn(usize) -> Option<u64>, out: &mut Vec<u8>) {
        if self.start == RecordStart::Cr {
            self.begin(line, out);
            out.push(b'\r');
        }
    }

    fn begin(&mut self, line: impl Fn(usize) -> Option<u64>, out: &mut Vec<u8>) {
        if let Some(line) = line(self.row) {
            out.extend_from_slice(line.to_string().as_bytes());
        }
        out.push(self.delimiter);
        self.row += 1;
        self.start = RecordStart::Begun;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_gets_its_line_and_every_other_byte_stays() {
        // The second row has no line.
        let line = |row: usize| (row != 1).then_some(10 + row as u64);
        for (text, expected) in [
            ("a,Import Failure Reason\n1,no\n2,no\n3,no", "Line,a,Import Failure Reason\n10,1,no\n,2,no\n12,3,no"),
            (
                "\u{feff}a\tImport Failure Reason\r\n\r\n\"\r\n\"\tno\r\n\n2\n",
                "\u{feff}Line\ta\tImport Failure Reason\r\n\r\n10\t\"\r\n\"\tno\r\n\n\t2\n",
            ),
            ("Import Failure Reason\n\r\rx\n\r", "Line;Import Failure Reason\n10;\r\rx\n;\r"),
            ("<html>\n<p>\n", "Line;<html>\n10;<p>\n"),
            ("a;Import Failure Reason", "Line;a;Import Failure Reason"),
            ("", ""),
        ] {
            for size in [1, 2, 3, 100] {
                let (mut inserter, mut out) = (LineInserter::new(Format::Ssv), Vec::new());
                text.as_bytes().chunks(size).for_each(|chunk| inserter.push(chunk, line, &mut out));
                inserter.finish(line, &mut out);
                assert_eq!(String::from_utf8(out).unwrap(), expected, "{text:?} by {size}");
            }
        }
    }

    #[test]
    fn a_header_that_is_too_large_is_passed_on() {
        let (mut inserter, mut out) = (LineInserter::new(Format::Csv), Vec::new());
        let text = "h".repeat(MAX_HEADER_BYTES as usize + 10);
        text.as_bytes().chunks(4096).for_each(|chunk| inserter.push(chunk, |_| None, &mut out));
        assert_eq!(out.iter().filter(|&&byte| byte == b'h').count(), text.len());
    }
}
