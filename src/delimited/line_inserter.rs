//! Line inserter: adds a first column with the line of each row in the submitted file to a report.

use crate::delimited::failed_rows::LINE_COLUMN;
use crate::delimited::header;
use crate::delimited::lexer::{LexEvent, Lexer};
use crate::delimited::report_header::{HeaderProgress, LineEnd, ReportHeader, ReportHeaderReader};
use crate::domain::Format;

/// Adds the column `Line` to one report. Every other byte stays, also in a file that is no report. Blank lines are no
/// rows.
///
/// The caller gives the lines: for the number of a row in the report, counted from 0, its line, or none where it can't
/// be told.
#[derive(Debug)]
pub struct LineInserter {
    reading: Reading,
}

#[derive(Debug)]
enum Reading {
    Header(ReportHeaderReader),
    Rows(RowPrefixer),
    /// The header is too large. It is passed on as it is; joining the reports refuses it.
    PassedOn,
}

impl LineInserter {
    /// Returns an inserter for a report about an import of `sent_format`.
    pub fn new(sent_format: Format) -> Self {
        LineInserter { reading: Reading::Header(ReportHeaderReader::new(sent_format)) }
    }

    /// Reads bytes of the report and appends the resulting bytes to `out`.
    pub fn push(&mut self, mut bytes: &[u8], line: impl Fn(usize) -> Option<u64>, out: &mut Vec<u8>) {
        let mut gathered = Vec::new();
        if let Reading::Header(reader) = &mut self.reading {
            match reader.push(bytes) {
                HeaderProgress::Pending => return,
                HeaderProgress::TooLarge => {
                    out.extend_from_slice(reader.bytes());
                    self.reading = Reading::PassedOn;
                    return;
                }
                HeaderProgress::Ended { header, rows_from, taken } => {
                    bytes = &bytes[taken..];
                    let (head, rows) = reader.bytes().split_at(rows_from);
                    gathered.extend_from_slice(rows);
                    let rows = RowPrefixer::after_header(head, &header, out);
                    self.reading = Reading::Rows(rows);
                }
            }
        }
        match &mut self.reading {
            Reading::Rows(rows) => {
                for bytes in [&gathered, bytes] {
                    rows.push(bytes, &line, out);
                }
            }
            Reading::PassedOn => out.extend_from_slice(bytes),
            Reading::Header(_) => {}
        }
    }

    /// Ends the report.
    pub fn finish(self, line: impl Fn(usize) -> Option<u64>, out: &mut Vec<u8>) {
        match self.reading {
            Reading::Header(reader) => match reader.finish() {
                Some(header) => drop(RowPrefixer::after_header(reader.bytes(), &header, out)),
                None => out.extend_from_slice(reader.bytes()),
            },
            Reading::Rows(mut rows) => rows.end_start(line, out),
            Reading::PassedOn => {}
        }
    }
}

/// Writes a line before each row.
#[derive(Debug)]
struct RowPrefixer {
    lexer: Lexer,
    delimiter: u8,
    line_end: LineEnd,
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
    fn after_header(bytes: &[u8], header: &ReportHeader, out: &mut Vec<u8>) -> RowPrefixer {
        let (format, line_end) = (header.format, header.line_end);
        let mark = header::byte_order_mark(bytes);
        out.extend_from_slice(mark);
        out.extend_from_slice(LINE_COLUMN.as_bytes());
        out.push(format.delimiter());
        out.extend_from_slice(&bytes[mark.len()..]);
        let (lexer, delimiter) = (Lexer::new(format, 1), format.delimiter());
        RowPrefixer { lexer, delimiter, line_end, row: 0, start: RecordStart::Empty }
    }

    fn push(&mut self, bytes: &[u8], line: impl Fn(usize) -> Option<u64>, out: &mut Vec<u8>) {
        for &byte in bytes {
            let event = self.lexer.step(self.line_end.lexed(byte, &self.lexer));
            if let LexEvent::End(record) = event {
                if record.blank {
                    out.extend_from_slice(if self.start == RecordStart::Cr { b"\r" } else { b"" });
                    out.push(byte);
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
    use crate::delimited::header::MAX_HEADER_BYTES;

    #[test]
    fn each_row_gets_its_line_and_other_bytes_are_unchanged() {
        // The second row has no line.
        let line = |row: usize| (row != 1).then_some(10 + row as u64);
        for (text, expected) in [
            ("a,Import Failure Reason\n1,no\n2,no\n3,no", "Line,a,Import Failure Reason\n10,1,no\n,2,no\n12,3,no"),
            (
                "\u{feff}a\tImport Failure Reason\r\n\r\n\"\r\n\"\tno\r\n\n2\n",
                "\u{feff}Line\ta\tImport Failure Reason\r\n\r\n10\t\"\r\n\"\tno\r\n\n\t2\n",
            ),
            ("Import Failure Reason\n\r\rx\n\r", "Line;Import Failure Reason\n10;\r\rx\n;\r"),
            ("a,Import Failure Reason\r1,no\r\r\"2\r\",\r", "Line,a,Import Failure Reason\r10,1,no\r\r,\"2\r\",\r"),
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
