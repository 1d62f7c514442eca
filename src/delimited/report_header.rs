//! Header of a report: its columns, and how its fields and lines are separated.
//!
//! Adobe does not document the delimiter of the report of an import that was not `csv`. So it is found from the header:
//! it is the one with which the last column is Marketo's reason. In the same way a CR alone is found to end lines.

use memchr::memchr;

use crate::delimited::header;
use crate::delimited::header::{HeaderReader, MAX_HEADER_BYTES};
use crate::delimited::lexer::Lexer;
use crate::domain::Format;

/// The columns of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportHeader {
    /// How the report separates its fields.
    pub format: Format,
    /// The names of its columns without the reason column.
    pub columns: Vec<String>,
    /// Whether the last column is Marketo's reason. Otherwise the file is not a report, and nothing is known of its
    /// rows.
    pub has_reasons: bool,
    /// What ends a line.
    pub(super) line_end: LineEnd,
}

/// What ends a line of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// LF or CRLF.
    Lf,
    /// A CR alone too.
    Cr,
}

impl LineEnd {
    /// Returns the byte as the lexer has to read it: a CR that ends a line as an LF.
    pub fn lexed(self, byte: u8, lexer: &Lexer) -> u8 {
        if self == LineEnd::Cr && byte == b'\r' && lexer.open_quote().is_none() { b'\n' } else { byte }
    }
}

impl ReportHeader {
    fn read(header: &[u8], sent_format: Format, line_end: LineEnd) -> ReportHeader {
        let first = std::iter::once(sent_format);
        for format in first.chain(Format::ALL) {
            let mut columns = header::columns(header, format);
            if columns.pop().is_some_and(|name| header::is_reason(&name)) {
                return ReportHeader { format, columns, has_reasons: true, line_end };
            }
        }
        let columns = header::columns(header, sent_format);
        ReportHeader { format: sent_format, columns, has_reasons: false, line_end }
    }
}

/// Gathers the header of a report.
#[derive(Debug)]
pub(super) struct ReportHeaderReader {
    sent_format: Format,
    reader: HeaderReader,
    lexer: Lexer,
    /// The first CR was looked at, and does not end the header.
    is_cr_checked: bool,
}

/// How far the header has been read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderProgress {
    /// Its end is still to come.
    Pending,
    /// It is larger than [`MAX_HEADER_BYTES`].
    TooLarge,
    /// It has ended. Rows are the gathered bytes from `rows_from` on, then the input from `taken` on.
    Ended { header: ReportHeader, rows_from: usize, taken: usize },
}

impl ReportHeaderReader {
    /// Returns a reader for a report about an import of `sent_format`.
    pub fn new(sent_format: Format) -> Self {
        // Names hold neither quotes nor line ends, so any delimiter finds the header's end.
        let lexer = Lexer::new(Format::Csv, 1);
        ReportHeaderReader { sent_format, reader: HeaderReader::default(), lexer, is_cr_checked: false }
    }

    /// Reads bytes.
    pub fn push(&mut self, input: &[u8]) -> HeaderProgress {
        let end = self.reader.push(&mut self.lexer, input);
        let taken = end.unwrap_or(input.len());
        if let Some((header, rows_from)) = self.ended_by_cr() {
            return HeaderProgress::Ended { header, rows_from, taken };
        }
        let gathered = self.reader.bytes();
        if gathered.len() as u64 > MAX_HEADER_BYTES {
            return HeaderProgress::TooLarge;
        }
        if end.is_none() {
            return HeaderProgress::Pending;
        }
        let header = ReportHeader::read(gathered, self.sent_format, LineEnd::Lf);
        HeaderProgress::Ended { header, rows_from: gathered.len(), taken }
    }

    /// Returns the header of a file that ends within it; none for an empty file.
    pub fn finish(&self) -> Option<ReportHeader> {
        let header = || ReportHeader::read(self.reader.bytes(), self.sent_format, LineEnd::Lf);
        (!self.reader.is_empty()).then(header)
    }

    /// Returns the bytes that were gathered, mark and line end included.
    pub fn bytes(&self) -> &[u8] {
        self.reader.bytes()
    }

    /// Returns the header and where the rows begin, if a CR alone ends it.
    fn ended_by_cr(&mut self) -> Option<(ReportHeader, usize)> {
        if self.is_cr_checked {
            return None;
        }
        let gathered = self.reader.bytes();
        let cr = memchr(b'\r', gathered)?;
        let next = *gathered.get(cr + 1)?;
        self.is_cr_checked = true;
        let header = ReportHeader::read(&gathered[..cr], self.sent_format, LineEnd::Cr);
        (next != b'\n' && header.has_reasons).then_some((header, cr + 1))
    }
}
