//! Report reader: the rows of one failure or warning file of Marketo.

use std::ops::Range;

use memchr::memchr_iter;

use crate::delimited::field_reader::{FieldReader, Fields};
use crate::delimited::report_header::{HeaderProgress, ReportHeader, ReportHeaderReader};
use crate::domain::Format;

/// The most bytes of values of one row that are held: more than an upload has.
const MAX_ROW_BYTES: usize = 16 << 20;

/// One row of a report.
#[derive(Clone, Copy, Debug)]
pub struct ReportRow<'a> {
    header: &'a ReportHeader,
    header_bytes: u64,
    fields: Fields<'a>,
}

impl ReportRow<'_> {
    /// Returns the first line of the row in the report, the header being line 1.
    pub fn line(&self) -> u64 {
        self.fields.line
    }

    /// Returns the size of the report's header in bytes, byte-order mark and line end included.
    pub fn header_bytes(&self) -> u64 {
        self.header_bytes
    }

    /// Returns where the row stands in the report, in bytes. Its line end is included, which a last row may lack.
    pub fn byte_range(&self) -> Range<u64> {
        self.fields.from..self.fields.from + self.fields.bytes
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
    reading: Reading,
}

#[derive(Debug)]
enum Reading {
    Header(ReportHeaderReader),
    Rows(RowReading),
    /// The header is too large.
    Unreadable,
}

#[derive(Debug)]
struct RowReading {
    header: ReportHeader,
    header_bytes: u64,
    fields: FieldReader,
}

impl ReportReader {
    /// Returns a reader of a report about an import of `sent_format`.
    pub fn new(sent_format: Format) -> Self {
        ReportReader { reading: Reading::Header(ReportHeaderReader::new(sent_format)) }
    }

    /// Returns the columns, once the header has been read.
    pub fn header(&self) -> Option<&ReportHeader> {
        match &self.reading {
            Reading::Rows(rows) => Some(&rows.header),
            Reading::Header(_) | Reading::Unreadable => None,
        }
    }

    /// Reads bytes and passes each row that ends in them to `row`.
    pub fn push(&mut self, mut bytes: &[u8], mut row: impl FnMut(ReportRow<'_>)) {
        let mut gathered = Vec::new();
        if let Reading::Header(reader) = &mut self.reading {
            match reader.push(bytes) {
                HeaderProgress::Pending => return,
                HeaderProgress::TooLarge => {
                    self.reading = Reading::Unreadable;
                    return;
                }
                HeaderProgress::Ended { header, rows_from, taken } => {
                    bytes = &bytes[taken..];
                    gathered.extend_from_slice(&reader.bytes()[rows_from..]);
                    // A line end in a quoted name counts too.
                    let lines = memchr_iter(b'\n', &reader.bytes()[..rows_from]).count().max(1);
                    let fields = FieldReader::new(header.format, lines as u64 + 1, MAX_ROW_BYTES);
                    let header_bytes = rows_from as u64;
                    let fields = fields.with_line_end(header.line_end).with_offset(header_bytes);
                    self.reading = Reading::Rows(RowReading { header, header_bytes, fields });
                }
            }
        }
        if let Reading::Rows(RowReading { header, header_bytes, fields }) = &mut self.reading {
            for bytes in [&gathered, bytes] {
                fields.push(bytes, |&fields| {
                    if !fields.is_blank {
                        row(ReportRow { header, header_bytes: *header_bytes, fields });
                    }
                });
            }
        }
    }

    /// Ends the report, and passes a last row without a line end to `row`.
    pub fn finish(self, mut row: impl FnMut(ReportRow<'_>)) {
        if let Reading::Rows(RowReading { header, header_bytes, fields }) = self.reading {
            fields.finish(|&fields| {
                if !fields.is_blank {
                    row(ReportRow { header: &header, header_bytes, fields });
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
            ("a,Import Failure Reason\r\"1\r\n\",no\r\r2,\n", &["2: 1\r\n/no | Some(\"no\")", "5: 2/ | Some(\"\")"]),
            ("a,Import Failure Reason\r1\n,no", &["2: 1 | None", "3: /no | Some(\"no\")"]),
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
    fn a_rows_bytes_are_those_between_its_line_ends() {
        for (text, header, rows) in [
            (
                "\u{feff}a,Import Failure Reason\r\n\"1\r\n\",no\r\n\r\n2\n3",
                "\u{feff}a,Import Failure Reason\r\n",
                &["\"1\r\n\",no\r\n", "2\n", "3"][..],
            ),
            ("a,Import Failure Reason\r1,no\r\r2,x", "a,Import Failure Reason\r", &["1,no\r", "2,x"]),
            ("a,Import Failure Reason\n\n1,\"no", "a,Import Failure Reason\n", &["1,\"no"]),
        ] {
            for size in [1, 2, 3, 1000] {
                let mut found = Vec::new();
                let mut reader = ReportReader::new(Format::Csv);
                let mut keep = |row: ReportRow<'_>| {
                    let range = row.byte_range();
                    assert_eq!(&text[..row.header_bytes() as usize], header);
                    found.push(&text[range.start as usize..range.end as usize]);
                };
                text.as_bytes().chunks(size).for_each(|chunk| reader.push(chunk, &mut keep));
                reader.finish(&mut keep);
                assert_eq!(found, rows, "{text:?} by {size}");
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
