//! Report reader: the rows of one failure or warning file of Marketo, and the columns of its header.
//!
//! Adobe does not document the delimiter of the report of an import that was not `csv`. So it is found from the header: it
//! is the one with which the last column is Marketo's reason.

use crate::delimited::field_reader::{FieldReader, Fields};
use crate::delimited::header;
use crate::delimited::header::{HeaderReader, MAX_HEADER_BYTES};
use crate::delimited::lexer::Lexer;
use crate::domain::Format;

/// The most bytes of values of one row that are held: more than an upload has.
const MAX_ROW_BYTES: usize = 16 << 20;

/// The columns of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportHeader {
    /// How the report separates its fields.
    pub format: Format,
    /// The names of its columns without the reason column.
    pub columns: Vec<String>,
    /// Whether the last column is Marketo's reason. Otherwise the file is not a report, and nothing is known of its rows.
    pub has_reasons: bool,
}

impl ReportHeader {
    /// Reads a header. `sent_format` is that of the import.
    pub(super) fn read(header: &[u8], sent_format: Format) -> ReportHeader {
        let first = std::iter::once(sent_format);
        for format in first.chain(Format::ALL) {
            let mut columns = header::columns(header, format);
            if columns.pop().is_some_and(|name| header::is_reason(&name)) {
                return ReportHeader { format, columns, has_reasons: true };
            }
        }
        let columns = header::columns(header, sent_format);
        ReportHeader { format: sent_format, columns, has_reasons: false }
    }
}

/// One row of a report.
#[derive(Clone, Copy, Debug)]
pub struct ReportRow<'a> {
    header: &'a ReportHeader,
    fields: Fields<'a>,
}

impl ReportRow<'_> {
    /// Returns the first line of the row in the report, the header being line 1.
    pub fn line(&self) -> u64 {
        self.fields.line
    }

    /// Returns whether the row has a value for each column and a reason. Of another row it is unknown which field
    /// belongs to which column.
    pub fn is_well_formed(&self) -> bool {
        self.header.has_reasons && self.fields.len() == self.header.columns.len() + 1 && !self.fields.is_cut
    }

    /// Returns Marketo's reason; none in a malformed row.
    pub fn reason(&self) -> Option<&[u8]> {
        if self.is_well_formed() { self.fields.get(self.header.columns.len()) } else { None }
    }

    /// Returns the columns of the report without the reason.
    pub fn columns(&self) -> &[String] {
        &self.header.columns
    }

    /// Returns the value of a field, counted from 0; none behind the last.
    pub fn value(&self, field: usize) -> Option<&[u8]> {
        self.fields.get(field)
    }

    /// Returns all fields in order, also those of a malformed row.
    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.fields.iter()
    }
}

/// Reads one report. Blank lines are no rows.
#[derive(Debug)]
pub struct ReportReader {
    sent_format: Format,
    reading: Reading,
}

#[derive(Debug)]
enum Reading {
    Header(HeaderReader, Lexer),
    Rows(ReportHeader, FieldReader),
    /// The header has no end within [`MAX_HEADER_BYTES`].
    Unreadable,
}

impl ReportReader {
    /// Returns a reader of a report about an import of `sent_format`.
    pub fn new(sent_format: Format) -> Self {
        // Names hold neither quotes nor line ends, so any delimiter finds the header's end.
        let reading = Reading::Header(HeaderReader::default(), Lexer::new(Format::Csv, 1));
        ReportReader { sent_format, reading }
    }

    /// Returns the columns, once the header has been read.
    pub fn header(&self) -> Option<&ReportHeader> {
        match &self.reading {
            Reading::Rows(header, _) => Some(header),
            Reading::Header(..) | Reading::Unreadable => None,
        }
    }

    /// Reads bytes and passes each row that ends in them to `row`.
    pub fn push(&mut self, mut bytes: &[u8], mut row: impl FnMut(ReportRow<'_>)) {
        if let Reading::Header(reader, lexer) = &mut self.reading {
            let end = reader.push(lexer, bytes);
            if reader.bytes().len() as u64 > MAX_HEADER_BYTES {
                self.reading = Reading::Unreadable;
                return;
            }
            let Some(n) = end else { return };
            bytes = &bytes[n..];
            let header = ReportHeader::read(reader.bytes(), self.sent_format);
            let fields = FieldReader::new(header.format, lexer.line(), MAX_ROW_BYTES);
            self.reading = Reading::Rows(header, fields);
        }
        if let Reading::Rows(header, reader) = &mut self.reading {
            reader.push(bytes, |&fields| {
                if !fields.is_blank {
                    row(ReportRow { header, fields });
                }
            });
        }
    }

    /// Ends the report, and passes a last row without a line end to `row`.
    pub fn finish(self, mut row: impl FnMut(ReportRow<'_>)) {
        if let Reading::Rows(header, reader) = self.reading {
            reader.finish(|&fields| {
                if !fields.is_blank {
                    row(ReportRow { header: &header, fields });
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows as `line: values | reason`.
    fn read(text: &str, size: usize) -> Vec<String> {
        let mut found = Vec::new();
        let mut reader = ReportReader::new(Format::Tsv);
        let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut keep = |row: ReportRow<'_>| {
            let values: Vec<_> = row.values().map(text_of).collect();
            found.push(format!("{}: {} | {:?}", row.line(), values.join("/"), row.reason().map(text_of)));
        };
        text.as_bytes().chunks(size).for_each(|chunk| reader.push(chunk, &mut keep));
        reader.finish(&mut keep);
        found
    }

    #[test]
    fn rows_are_read_with_the_delimiter_of_the_header() {
        for (text, rows) in [
            (
                "\u{feff}a,Import Failure Reason\r\n\"1\r\n\",\"no, no\"\r\n\r\n2,x,y\n3",
                &["2: 1\r\n/no, no | Some(\"no, no\")", "5: 2/x/y | None", "6: 3 | None"][..],
            ),
            ("a\tb\tImport Warning Reason\n1\t2,\tno", &["2: 1/2,/no | Some(\"no\")"]),
            ("Import Failure Reason\nno, no\n", &["2: no, no | Some(\"no, no\")"]),
            ("<html>\n<p>,</p>\n", &["2: <p>,</p> | None"]),
            ("", &[]),
            ("a,Import Failure Reason", &[]),
        ] {
            for size in [1, 2, 3, 1000] {
                assert_eq!(read(text, size), rows, "{text:?} by {size}");
            }
        }
    }

    #[test]
    fn an_endless_header_is_not_held() {
        let mut reader = ReportReader::new(Format::Csv);
        for _ in 0..300 {
            reader.push(&[b'a'; 4096], |_| panic!("it has no rows"));
        }
        reader.push(b"\n1,no\n", |_| panic!("it has no rows"));
        assert_eq!(reader.header(), None);
    }
}
