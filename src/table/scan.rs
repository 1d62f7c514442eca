//! Is a file fit to be imported, and where are its header, its rows and its parts? One pass answers all.

use std::ops::Range;

use serde::Serialize;

use super::cut::{Cutter, Milestone, Part};
use super::fault::{Fault, RaggedRow};
use super::header::{self, HeaderReader, MAX_HEADER_BYTES, Required};
use super::lexer::{Lexer, Record};
use super::text::{NotText, Utf8};
use crate::job::Format;

/// The bytes that go through all checks before the next are touched: they stay in the processor's cache between them.
const BLOCK: usize = 32 * 1024;

/// A file is refused at the latest when this many of its rows have another number of fields than the header. They show
/// what is wrong, and where all rows are, reading on would find nothing else.
const RAGGED_ROWS: usize = 5;

/// What is asked of a file.
#[derive(Clone, Debug)]
pub struct Rules {
    pub format: Format,
    /// The most bytes that header and rows of one part may have together: an upload's size without its framing.
    pub max_part_bytes: u64,
    /// Without it the file is sent as it is, byte-order mark included. A file without rows, and a record that no upload
    /// takes, are refused all the same.
    pub check: bool,
    pub required: Vec<Required>,
}

/// What is where in a file. Upload n is the bytes of `header`, then those of `parts[n]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// Of the whole file.
    pub bytes: u64,
    /// The file begins with a byte-order mark.
    pub bom: bool,
    /// The range of the header, line end included; the byte-order mark too, but only in a file that was not checked.
    pub header: Range<u64>,
    pub columns: Vec<String>,
    pub rows: u64,
    /// In order and without gaps. Blank lines at the end of the file belong to none.
    pub parts: Vec<Part>,
}

/// Reads a file as it streams in.
#[derive(Debug)]
pub struct Scanner {
    rules: Rules,
    utf8: Utf8,
    lexer: Lexer,
    header: HeaderReader,
    /// Once the header has ended.
    table: Option<Table>,
    /// Bytes that the lexer has seen.
    at: u64,
    ragged: Vec<RaggedRow>,
}

#[derive(Debug)]
struct Table {
    header: Range<u64>,
    columns: Vec<String>,
    cutter: Cutter,
    /// Blank lines that may turn out to be the last of the file: the line of the first, and where the rows ended.
    blank: Option<(u64, Milestone)>,
}

impl Scanner {
    pub fn new(rules: Rules) -> Self {
        Scanner {
            utf8: Utf8::default(),
            lexer: Lexer::new(rules.format, 1),
            header: HeaderReader::default(),
            table: None,
            at: 0,
            ragged: Vec::new(),
            rules,
        }
    }

    /// Takes the next bytes of the file, however it is split.
    ///
    /// # Errors
    /// The first [`Fault`] in the file's order. The scanner is of no more use then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        bytes.chunks(BLOCK).try_for_each(|block| self.block(block)).map_err(|fault| self.first_of(fault))
    }

    /// The end of the file.
    ///
    /// # Errors
    /// As for [`Scanner::push`].
    pub fn finish(mut self) -> Result<Layout, Fault> {
        self.end().map_err(|fault| self.first_of(fault))?;
        if !self.ragged.is_empty() {
            return Err(self.ragged_rows(false));
        }
        let bom = self.header.has_mark();
        let lone_cr = self.header.has_lone_cr();
        let Some(Table { header, columns, mut cutter, blank }) = self.table else {
            return Err(Fault::HeaderOnly { lone_cr });
        };
        if let Some((_, milestone)) = blank {
            cutter.put_back(milestone);
        }
        let parts = cutter.into_parts();
        if parts.is_empty() {
            return Err(Fault::HeaderOnly { lone_cr });
        }
        let rows = parts.iter().map(|part| part.rows).sum();
        Ok(Layout { bytes: self.at, bom, header, columns, rows, parts })
    }

    fn block(&mut self, block: &[u8]) -> Result<(), Fault> {
        if !self.rules.check {
            return self.lex(block);
        }
        let Err(fault) = self.utf8.push(block) else { return self.lex(block) };
        // What lies before the fault comes first, and tells the line.
        let good = fault.offset().saturating_sub(self.at) as usize;
        self.lex(&block[..good])?;
        Err(self.not_text(fault))
    }

    /// Looks no further into a record than one byte beyond what fits, so that the same fault is found however the bytes
    /// arrive, and a quote without end costs no reading of the whole file.
    fn lex(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        if self.table.is_none() {
            let limit = MAX_HEADER_BYTES.min(self.rules.max_part_bytes);
            let window = window(bytes, limit + 1 - self.header.bytes().len() as u64);
            let end = self.header.push(&mut self.lexer, window);
            let taken = end.unwrap_or(window.len());
            self.at += taken as u64;
            bytes = &bytes[taken..];
            if self.header.bytes().len() as u64 > limit {
                let (lone_cr, open_quote) = (self.header.has_lone_cr(), self.lexer.open_quote());
                return Err(Fault::HeaderTooLarge { limit, lone_cr, open_quote });
            }
            if end.is_some() {
                self.table = Some(self.begin_table()?);
            }
        }
        let Some(table) = &mut self.table else { return Ok(()) };
        let limit = table.cutter.room();
        while !bytes.is_empty() {
            let window = window(bytes, limit + 1 - self.lexer.unended_bytes());
            let Some((n, record)) = self.lexer.next_record(window) else {
                self.at += window.len() as u64;
                bytes = &bytes[window.len()..];
                if self.lexer.unended_bytes() > limit {
                    let (line, open_quote) = (self.lexer.record_line(), self.lexer.open_quote());
                    return Err(Fault::RecordTooLarge { line, limit, open_quote });
                }
                continue;
            };
            self.at += n as u64;
            bytes = &bytes[n..];
            table.row(&record, self.at, self.rules.check, &mut self.ragged)?;
            if self.ragged.len() == RAGGED_ROWS {
                return Err(self.ragged_rows(true));
            }
        }
        Ok(())
    }

    fn begin_table(&self) -> Result<Table, Fault> {
        let bytes = self.header.bytes();
        let columns = header::columns(bytes, self.rules.format);
        if self.rules.check {
            header::check(bytes, self.rules.format, &columns, &self.rules.required)?;
        }
        let mark = if self.rules.check { header::mark(bytes).len() as u64 } else { 0 };
        let room = self.rules.max_part_bytes - (bytes.len() as u64 - mark);
        Ok(Table { header: mark..self.at, columns, cutter: Cutter::new(room, 1), blank: None })
    }

    fn end(&mut self) -> Result<(), Fault> {
        if self.rules.check {
            self.utf8.finish().map_err(|fault| self.not_text(fault))?;
        }
        if self.header.is_empty() {
            return Err(Fault::Empty);
        }
        if let (true, Some(line)) = (self.rules.check, self.lexer.open_quote()) {
            return Err(Fault::UnclosedQuote { line });
        }
        match (&mut self.table, self.lexer.unended()) {
            (Some(table), Some(record)) => table.row(&record, self.at, self.rules.check, &mut self.ragged),
            _ => Ok(()),
        }
    }

    fn not_text(&self, fault: NotText) -> Fault {
        let line = self.lexer.line();
        match fault {
            NotText::Utf8(offset) => Fault::NotUtf8 { offset, line, utf16: self.utf8.begins_as_utf16() },
            NotText::Nul(offset) => Fault::Nul { offset, line },
        }
    }

    /// Rows with a wrong number of fields lie before anything that was found later.
    fn first_of(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Ragged { .. } => fault,
            _ if self.ragged.is_empty() => fault,
            _ => self.ragged_rows(false),
        }
    }

    fn ragged_rows(&self, stopped: bool) -> Fault {
        let columns = self.table.as_ref().map_or(0, |table| table.columns.len());
        Fault::Ragged { columns: columns as u64, rows: self.ragged.clone(), stopped }
    }
}

/// The beginning of `bytes`, of at most `most` bytes.
fn window(bytes: &[u8], most: u64) -> &[u8] {
    &bytes[..bytes.len().min(usize::try_from(most).unwrap_or(usize::MAX))]
}

impl Table {
    /// Adds the record that ends at offset `to`.
    fn row(&mut self, record: &Record, to: u64, check: bool, ragged: &mut Vec<RaggedRow>) -> Result<(), Fault> {
        let columns = self.columns.len() as u64;
        if record.blank {
            let milestone = self.cutter.milestone();
            self.blank.get_or_insert((record.line, milestone));
        } else {
            // In a table of one column a blank line is a row with an empty field.
            if let (Some((line, _)), true) = (self.blank.take(), check && columns > 1) {
                return Err(Fault::BlankLine { line });
            }
            if check && record.fields != columns {
                let &Record { line, last_line, fields, .. } = record;
                ragged.push(RaggedRow { line, last_line, fields });
            }
        }
        if record.bytes > self.cutter.room() {
            return Err(Fault::RecordTooLarge { line: record.line, limit: self.cutter.room(), open_quote: None });
        }
        self.cutter.add(to - record.bytes, to, record.line);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(format: Format, check: bool) -> Rules {
        Rules { format, max_part_bytes: 40, check, required: Vec::new() }
    }

    fn scan(rules: &Rules, bytes: &[u8], size: usize) -> Result<Layout, Fault> {
        let mut scanner = Scanner::new(rules.clone());
        bytes.chunks(size).try_for_each(|chunk| scanner.push(chunk))?;
        scanner.finish()
    }

    /// The message, which is the same however the bytes arrive.
    fn refusal(rules: &Rules, bytes: &[u8]) -> String {
        let whole = scan(rules, bytes, bytes.len().max(1)).expect_err(&String::from_utf8_lossy(bytes));
        for size in [1, 2, 7] {
            assert_eq!(scan(rules, bytes, size).unwrap_err(), whole, "by {size}");
        }
        whole.to_string()
    }

    fn check(bytes: impl AsRef<[u8]>) -> String {
        refusal(&rules(Format::Csv, true), bytes.as_ref())
    }

    #[test]
    fn a_bad_file_is_refused_with_one_clear_sentence() {
        for (bytes, message) in [
            (&b""[..], "the file is empty"),
            (b"\xef\xbb\xbf", "the file is empty"),
            (b"a,b", "the file has a header and no rows"),
            (b"a,b\r\n\r\n\n", "the file has a header and no rows"),
            (
                b"a,b\r1,2\r3,4\r",
                "the file has a header and no rows: its lines end with CR alone, so save it with LF or CRLF",
            ),
            (b"a,b\n1,2\n3,caf\xe9\n", "byte offset 13 on line 3 is not UTF-8: save the file as UTF-8"),
            (b"a,b\n1,\"\n\xe2\x82", "byte offset 8 on line 3 is not UTF-8: save the file as UTF-8"),
            (
                b"\xff\xfea\0\n\0",
                "byte offset 0 on line 1 is not UTF-8: the file begins as UTF-16 does, so save it as UTF-8",
            ),
            (
                b"a\0\n\0",
                "byte offset 1 on line 1 is NUL, which no text holds: if the file is UTF-16, save it as UTF-8",
            ),
            (b"\na,b\n1,2\n", "line 1 is blank, but the header with the field names has to stand there"),
            (b"a,b\n1,2\n\n\n3,4\n", "line 3 is blank: Marketo would count it as a row that failed, so take it out"),
            (b"a,,c\n1,2,3\n", "column 2 of the header has no name"),
            (b"a, ,c\n1,2,3\n", "column 2 of the header has no name"),
            (
                b"a,b,\n1,2,3\n",
                "column 3 of the header has no name: is there a delimiter too many at the end of line 1?",
            ),
            (b"a, b\n1,2\n", "column 2 of the header is \" b\", with space around the name: take the space away"),
            (b"a,b,c,b\n1,2,3,4\n", "columns 2 and 4 of the header are both \"b\": take one out"),
            (b"a;b\n1;2\n", "the header has one column as csv, and several as ssv: say that the format is ssv"),
            (b"a\tb\n1\t2\n", "the header has one column as csv, and several as tsv: say that the format is tsv"),
            (b"a,b\n1,2\n3\n", "the header has 2 fields, but line 3 has 1"),
            (b"a,b\n1\n2,2\n3,3,3\n4", "the header has 2 fields, but line 2 has 1, line 4 has 3 and line 5 has 1"),
            (
                b"a,b\n1\n2\n3\n4\n5\n6\n",
                "the header has 2 fields, but line 2 has 1, line 3 has 1, line 4 has 1, line 5 has 1 and line 6 has 1, \
                 and the check stopped there",
            ),
            (
                b"a,b\n\"1,2\n3,4\n5,\"6\"\n",
                "the header has 2 fields, but the row from line 2 to 4 has 1: does a quote lack its end?",
            ),
            (b"a,b\n1\n2,\xff\n", "the header has 2 fields, but line 2 has 1"),
            (b"a,b\n1,2\n3,\"4\n5,6\n", "the quote opened on line 3 has no end"),
            (b"\"a,b\n1,2\n", "the quote opened on line 1 has no end"),
            (
                b"a,b\n1,2\n3,4444444444444444444444444444444444\n",
                "the record on line 3 is over the 36 bytes that one upload has for rows",
            ),
            (
                b"a,b\n1,\"\n4444444444444444444444444444444444\n5,6",
                "the record on line 2 is over the 36 bytes that one upload has for rows: \
                 does the quote opened on line 2 lack its end?",
            ),
            (
                b"a,\"b\n1,4444444444444444444444444444444444\n",
                "the header does not end within 40 bytes: does the quote opened on line 1 lack its end?",
            ),
            (
                b"a,b\r1,4444444444444444444444444444444444\r",
                "the header does not end within 40 bytes: its lines end with CR alone, so save it with LF or CRLF",
            ),
        ] {
            assert_eq!(check(bytes), message, "{}", String::from_utf8_lossy(bytes));
        }
        let comma = refusal(&rules(Format::Tsv, true), b"a,b\n1,2\n");
        assert_eq!(comma, "the header has one column as tsv, and several as csv: say that the format is csv");
    }

    #[test]
    fn a_required_column_that_is_missing_is_named_with_the_one_that_may_be_meant() {
        let required = vec![Required { column: "email".into(), need: "which program members need" }];
        let rules = Rules { required, ..rules(Format::Csv, true) };
        for (bytes, message) in [
            (&b"a,b\n1,2\n"[..], "the header has no column \"email\", which program members need"),
            (
                b"a,Email\n1,2\n",
                "the header has no column \"email\", which program members need: is column 2, \"Email\", meant?",
            ),
            (
                b"E-mail,b\n1,2\n",
                "the header has no column \"email\", which program members need: is column 1, \"E-mail\", meant?",
            ),
        ] {
            assert_eq!(refusal(&rules, bytes), message);
        }
        assert!(scan(&rules, b"a,email\n1,2\n", 3).is_ok());
    }

    #[test]
    fn a_fault_far_into_a_file_has_its_byte_and_its_line() {
        let rules = Rules { max_part_bytes: 1000, ..rules(Format::Csv, true) };
        let mut bytes = b"a,b\n".to_vec();
        bytes.extend(b"1,\"\n\"\n".repeat(50_000));
        let offset = bytes.len() as u64;
        bytes.extend(b"\xe9,2\n3\n");
        for size in [1000, 40_000, bytes.len()] {
            let expected = Fault::NotUtf8 { offset, line: 100_002, utf16: false };
            assert_eq!(scan(&rules, &bytes, size), Err(expected), "by {size}");
        }
    }

    #[test]
    fn without_checks_only_what_can_not_be_sent_is_refused() {
        let rules = rules(Format::Csv, false);
        for (bytes, code) in [
            (&b""[..], "empty"),
            (b"a,b\n\n", "header-only"),
            (b"a,\"b\n1,2", "header-only"),
            (b"a\n4444444444444444444444444444444444444444", "record-too-large"),
            (b"a4444444444444444444444444444444444444444\n1", "header-too-large"),
        ] {
            assert_eq!(scan(&rules, bytes, 3).unwrap_err().code(), code);
        }
        let layout = scan(&rules, b"\xef\xbb\xbf\"a\n\", \xff\n1\n\n2,\"\n3\n\n", 3).unwrap();
        assert_eq!((layout.header, layout.bom), (0..11, true), "the mark is sent too");
        assert_eq!(layout.columns, ["a\n", " \u{fffd}"]);
        assert_eq!(layout.parts, [Part { from: 11, to: 21, rows: 3, first_row: 1, first_line: 3 }]);
    }

    #[test]
    fn a_file_that_fits_is_one_part_without_mark_and_last_blank_lines() {
        let layout = scan(&rules(Format::Ssv, true), b"\xef\xbb\xbfa;b\r\n1;2\r\n3;\"\n\"\r\n\r\n\n", 4).unwrap();
        assert_eq!(
            layout,
            Layout {
                bytes: 23,
                bom: true,
                header: 3..8,
                columns: vec!["a".into(), "b".into()],
                rows: 2,
                parts: vec![Part { from: 8, to: 20, rows: 2, first_row: 1, first_line: 2 }],
            }
        );
    }

    #[test]
    fn parts_are_filled_to_the_last_byte_and_end_between_records() {
        let rules = Rules { max_part_bytes: 10, ..rules(Format::Csv, true) };
        let layout = scan(&rules, b"a\n11\n\"\n\"\nlonger\n2\n3", 5).unwrap();
        let parts: Vec<_> = layout.parts.iter().map(|part| (part.from, part.to, part.rows, part.first_line)).collect();
        assert_eq!(parts, [(2, 9, 2, 2), (9, 16, 1, 5), (16, 19, 2, 6)]);
    }

    #[test]
    fn a_blank_line_is_a_row_where_there_is_one_column() {
        let layout = scan(&rules(Format::Csv, true), b"a\n1\n\n2\n\n", 5).unwrap();
        assert_eq!((layout.rows, layout.parts[0].to), (3, 7));
    }
}
