//! Scanner: validates a file and finds its header, rows and parts in one pass.

use memchr::{memchr, memmem};

use crate::delimited::encoding::{AfterEvidence, EVIDENCE_BYTES, Encoding};
use crate::delimited::error::ValidationError;
use crate::delimited::file_kind::{FileKind, OPENING_BYTES};
use crate::delimited::header;
use crate::delimited::header::{HeaderReader, MAX_HEADER_BYTES};
use crate::delimited::hints::ScanExtent;
use crate::delimited::layout::{FileLayout, ScanRules};
use crate::delimited::lexer::{CrSearch, Lexer};
use crate::delimited::row_checks::RowChecks;
use crate::delimited::split::Splitter;
use crate::delimited::table::Table;
use crate::delimited::utf8::{Utf8Error, Utf8Validator};

/// The bytes that pass through all checks before the next are read. A block of this size stays in the processor's
/// cache.
const BLOCK: usize = 32 * 1024;

/// The most bytes that are kept of a record that spans several blocks, for the checks of its row.
const HELD_BYTES: usize = MAX_HEADER_BYTES as usize;

/// Reads a file as it streams in.
#[derive(Debug)]
pub struct Scanner {
    rules: ScanRules,
    /// The first bytes of a file that is checked, until there are enough to know what kind of file it is.
    opening: Option<Vec<u8>>,
    utf8: Utf8Validator,
    /// The first bytes that are not UTF-8, until there are enough to guess what they are.
    evidence: Option<(u64, Vec<u8>)>,
    lexer: Lexer,
    header: HeaderReader,
    /// Once the header has ended.
    table: Option<Table>,
    /// Bytes that the lexer has seen.
    at: u64,
    last_byte: u8,
    /// The beginning of the record under way, where an earlier block has it.
    held: Vec<u8>,
}

impl Scanner {
    /// Returns a scanner at the start of a file.
    pub fn new(rules: ScanRules) -> Self {
        Scanner {
            opening: rules.check.then(Vec::new),
            utf8: Utf8Validator::default(),
            evidence: None,
            lexer: Lexer::new(rules.format, 1),
            header: HeaderReader::default(),
            table: None,
            at: 0,
            last_byte: 0,
            held: Vec::new(),
            rules,
        }
    }

    /// Takes the next bytes of the file, however it is split.
    ///
    /// # Errors
    /// The first [`ValidationError`] in the file's order. The scanner must not be used afterwards.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), ValidationError> {
        self.last_byte = bytes.last().copied().unwrap_or(self.last_byte);
        if let Some(opening) = &mut self.opening {
            let (first, rest) = bytes.split_at(bytes.len().min(OPENING_BYTES - opening.len()));
            opening.extend_from_slice(first);
            if opening.len() < OPENING_BYTES {
                return Ok(());
            }
            self.open()?;
            bytes = rest;
        }
        self.blocks(bytes)
    }

    /// The end of the file.
    ///
    /// # Errors
    /// As for [`Scanner::push`].
    pub fn finish(mut self) -> Result<FileLayout, ValidationError> {
        self.open()?;
        self.end().map_err(|fault| self.first_of(fault))?;
        let bom = self.header.has_mark();
        let lone_cr = self.header.has_lone_cr();
        let Some(Table { header, columns, mut splitter, blank, checks }) = self.table else {
            return Err(ValidationError::HeaderOnly { lone_cr });
        };
        if let Some(fault) = checks.as_ref().and_then(|checks| checks.counted(ScanExtent::WholeFile)) {
            return Err(fault);
        }
        if let Some((_, offset)) = blank {
            splitter.roll_back(offset);
        }
        let parts = splitter.into_parts();
        if parts.is_empty() {
            return Err(ValidationError::HeaderOnly { lone_cr });
        }
        let rows = parts.iter().map(|part| part.rows).sum();
        let warnings = checks.map(|checks| checks.warnings()).unwrap_or_default();
        let header_bytes = self.header.into_bytes_from(header.start);
        let (bytes, last_byte) = (self.at, self.last_byte);
        Ok(FileLayout { bytes, bom, header, header_bytes, last_byte, columns, rows, parts, warnings })
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Detects the kind of the file from its first bytes, once.
    fn open(&mut self) -> Result<(), ValidationError> {
        let Some(opening) = self.opening.take() else { return Ok(()) };
        match FileKind::of(&opening) {
            Some(kind) => Err(ValidationError::OtherKind(kind)),
            None => self.blocks(&opening),
        }
    }

    fn blocks(&mut self, bytes: &[u8]) -> Result<(), ValidationError> {
        bytes.chunks(BLOCK).try_for_each(|block| self.block(block)).map_err(|fault| self.first_of(fault))
    }

    fn block(&mut self, block: &[u8]) -> Result<(), ValidationError> {
        if !self.rules.check {
            return self.lex(block);
        }
        if let Some((offset, evidence)) = &mut self.evidence {
            evidence.extend_from_slice(window(block, (EVIDENCE_BYTES - evidence.len()) as u64));
            let offset = *offset;
            return if evidence.len() < EVIDENCE_BYTES {
                Ok(())
            } else {
                Err(self.not_utf8(offset, AfterEvidence::MoreBytes))
            };
        }
        let carried = self.utf8.carried().to_vec();
        let Err(fault) = self.utf8.push(block) else { return self.lex(block) };
        // A fault before this one is reported first; and the lexer has to know the line.
        let (begin, offset) = (self.at, fault.offset());
        let good = offset.saturating_sub(begin) as usize;
        self.lex(&block[..good])?;
        match fault {
            Utf8Error::Nul(offset) => Err(ValidationError::Nul { offset, line: self.lexer.line() }),
            Utf8Error::Utf8(_) => {
                let carried = if offset < begin { carried } else { Vec::new() };
                self.evidence = Some((offset, carried));
                self.block(&block[good..])
            }
        }
    }

    /// Reads a record only to one byte beyond its limit. So the same fault is found however the bytes arrive, and an
    /// unclosed quote does not cause the whole file to be read.
    fn lex(&mut self, mut bytes: &[u8]) -> Result<(), ValidationError> {
        if self.table.is_none() {
            let limit = MAX_HEADER_BYTES.min(self.rules.max_part_bytes);
            let window = window(bytes, limit + 1 - self.header.bytes().len() as u64);
            let end = self.header.push(&mut self.lexer, window);
            let taken = end.unwrap_or(window.len());
            self.at += taken as u64;
            bytes = &bytes[taken..];
            if self.header.bytes().len() as u64 > limit {
                let (lone_cr, open_quote) = (self.header.has_lone_cr(), self.lexer.open_quote());
                return Err(ValidationError::HeaderTooLarge { limit, lone_cr, open_quote });
            }
            if end.is_some() {
                self.table = Some(self.begin_table()?);
            }
        }
        let Some(table) = &mut self.table else { return Ok(()) };
        let needed = table.checks.is_some() && has_stray_cr(bytes);
        self.lexer.set_cr_search(if needed { CrSearch::On } else { CrSearch::Off });
        let limit = table.splitter.max_part_bytes();
        while !bytes.is_empty() {
            let window = window(bytes, limit + 1 - self.lexer.unended_bytes());
            let Some((n, record)) = self.lexer.next_record(window) else {
                self.at += window.len() as u64;
                bytes = &bytes[window.len()..];
                if self.lexer.unended_bytes() > limit {
                    let (line, open_quote) = (self.lexer.record_line(), self.lexer.open_quote());
                    return Err(ValidationError::RecordTooLarge { line, limit, open_quote });
                }
                if table.checks.is_some() {
                    hold(&mut self.held, window);
                }
                continue;
            };
            self.at += n as u64;
            bytes = &bytes[n..];
            if self.held.is_empty() {
                table.row(&record, &window[..n], self.at)?;
            } else {
                hold(&mut self.held, &window[..n]);
                table.row(&record, &self.held, self.at)?;
                self.held.clear();
            }
        }
        Ok(())
    }

    fn begin_table(&self) -> Result<Table, ValidationError> {
        let bytes = self.header.bytes();
        let columns = header::columns(bytes, self.rules.format);
        if self.rules.check {
            header::check(bytes, self.rules.format, &columns, &self.rules.required)?;
        }
        let mark = if self.rules.check { header::byte_order_mark(bytes).len() as u64 } else { 0 };
        let room = self.rules.max_part_bytes - (bytes.len() as u64 - mark);
        let checks =
            self.rules.check.then(|| RowChecks::new(bytes, self.rules.format, &columns, self.rules.lookup.as_deref()));
        Ok(Table {
            header: mark..self.at,
            columns,
            splitter: Splitter::new(room, self.rules.first_part_rows),
            blank: None,
            checks,
        })
    }

    fn end(&mut self) -> Result<(), ValidationError> {
        if let Some((offset, _)) = self.evidence {
            return Err(self.not_utf8(offset, AfterEvidence::FileEnd));
        }
        if self.rules.check
            && let Err(fault) = self.utf8.finish()
        {
            self.evidence = Some((fault.offset(), self.utf8.carried().to_vec()));
            return Err(self.not_utf8(fault.offset(), AfterEvidence::FileEnd));
        }
        if self.header.is_empty() {
            return Err(ValidationError::Empty);
        }
        if let (true, Some(line)) = (self.rules.check, self.lexer.open_quote()) {
            let backslash = memmem::find(&self.held, b"\\\"").is_some();
            return Err(ValidationError::UnclosedQuote { line, backslash });
        }
        let (Some(table), Some(mut record)) = (&mut self.table, self.lexer.unended()) else { return Ok(()) };
        // Half of a CRLF at the end of a file whose lines end so was cut off, and is no part of the field.
        record.stray_cr |= self.lexer.is_behind_cr() && !self.header.bytes().ends_with(b"\r\n");
        table.row(&record, &self.held, self.at)
    }

    fn not_utf8(&self, offset: u64, after: AfterEvidence) -> ValidationError {
        let evidence = self.evidence.as_ref().map(|(_, evidence)| evidence.as_slice()).unwrap_or_default();
        ValidationError::NotUtf8 { offset, line: self.lexer.line(), encoding: Encoding::guess(evidence, after) }
    }

    /// What was counted in the rows lies before anything that was found later.
    fn first_of(&self, fault: ValidationError) -> ValidationError {
        match fault {
            ValidationError::Ragged { ref rows, .. } => {
                let counted = self.table.as_ref().and_then(|table| table.checks.as_ref()?.counted(ScanExtent::Stopped));
                // Of rows without values, the count ends where the reading did.
                let line = rows.first().map_or(0, |row| row.line);
                counted
                    .filter(
                        |counted| matches!(counted, ValidationError::EmptyRows { line: first, .. } if *first < line),
                    )
                    .unwrap_or(fault)
            }
            _ => self
                .table
                .as_ref()
                .and_then(|table| table.checks.as_ref()?.counted(ScanExtent::Stopped))
                .unwrap_or(fault),
        }
    }
}

/// Adds bytes of a record to those that are held of it.
fn hold(held: &mut Vec<u8>, bytes: &[u8]) {
    held.extend_from_slice(window(bytes, HELD_BYTES.saturating_sub(held.len()) as u64));
}

/// The bytes hold a CR that is not the first of a CRLF, or that ends them.
fn has_stray_cr(bytes: &[u8]) -> bool {
    // Most files have none at all. Where every line has one, a pass without branches is faster than leaps.
    memchr(b'\r', bytes).is_some()
        && (bytes.last() == Some(&b'\r')
            || bytes.iter().zip(&bytes[1..]).fold(0, |stray, (&a, &b)| stray | u8::from((a == b'\r') & (b != b'\n')))
                > 0)
}

/// The beginning of `bytes`, of at most `most` bytes.
fn window(bytes: &[u8], most: u64) -> &[u8] {
    &bytes[..bytes.len().min(usize::try_from(most).unwrap_or(usize::MAX))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delimited::header::RequiredColumn;
    use crate::delimited::split::FilePart;
    use crate::domain::Format;

    fn rules(format: Format, check: bool) -> ScanRules {
        ScanRules { format, max_part_bytes: 40, first_part_rows: None, check, required: Vec::new(), lookup: None }
    }

    fn scan(rules: &ScanRules, bytes: &[u8], size: usize) -> Result<FileLayout, ValidationError> {
        let mut scanner = Scanner::new(rules.clone());
        bytes.chunks(size).try_for_each(|chunk| scanner.push(chunk))?;
        scanner.finish()
    }

    /// The message, which is the same however the bytes arrive.
    fn refusal(rules: &ScanRules, bytes: &[u8]) -> String {
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
    fn an_invalid_file_is_refused_with_one_sentence() {
        for (bytes, message) in [
            (&b""[..], "the file is empty"),
            (b"\xef\xbb\xbf", "the file is empty"),
            (b"a,b", "the file has a header and no rows"),
            (b"a,b\r\n\r\n\n", "the file has a header and no rows"),
            (
                b"a,b\r1,2\r3,4\r",
                "the file has a header and no rows: its lines end with CR alone, so save it with LF or CRLF",
            ),
            (
                b"a,b\n1,2\n3,caf\xe9\n",
                "byte offset 13 on line 3 is not UTF-8: the file is probably in Windows-1252 or Latin-1 (ISO 8859-1), so save \
                 it as UTF-8 (Excel: \"CSV UTF-8\")",
            ),
            (
                b"a,b\n1,\"\n\xe2\x82",
                "byte offset 8 on line 3 is not UTF-8: the file ends within a character, so it may have been cut off",
            ),
            (b"\xff\xfea\0\n\0", "the file is UTF-16 (little-endian) by its byte-order mark: save it as UTF-8"),
            (b"a\0\n\0", "the file looks like UTF-16 (little-endian) without a byte-order mark: save it as UTF-8"),
            (b"a,b\n1,\0\n", "byte offset 6 on line 2 is NUL, which no text holds: take it out"),
            (b"\na,b\n1,2\n", "line 1 is blank, but the header with the field names has to stand there"),
            (b"a,b\n1,2\n\n\n3,4\n", "line 3 is blank: Marketo would count it as a row that failed, so take it out"),
            (b"a,,c\n1,2,3\n", "column 2 of the header has no name"),
            (b"a, ,c\n1,2,3\n", "column 2 of the header has no name"),
            (
                b"a,b,\n1,2,3\n",
                "column 3 of the header has no name: is there a delimiter too many at the end of line 1?",
            ),
            (b"a, b\n1,2\n", "column 2 of the header has space around its name: take the space away"),
            (b"email, b\n1,2\n", "column 2 of the header, \" b\", has space around its name: take the space away"),
            (b"a,b,c,b\n1,2,3,4\n", "column 4 of the header, \"b\", has the name of column 2 too: take one out"),
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
    fn a_missing_column_is_named_with_a_likely_one() {
        let required = vec![RequiredColumn { column: "email".into(), need: "which program members need" }];
        let rules = ScanRules { required, ..rules(Format::Csv, true) };
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
    fn a_late_fault_is_reported_with_its_offset_and_line() {
        let rules = ScanRules { max_part_bytes: 1000, ..rules(Format::Csv, true) };
        let mut bytes = b"a,b\n".to_vec();
        bytes.extend(b"1,\"\n\"\n".repeat(50_000));
        let offset = bytes.len() as u64;
        bytes.extend(b"\xe9,2\n3\n");
        for size in [1000, 40_000, bytes.len()] {
            let expected = ValidationError::NotUtf8 { offset, line: 100_002, encoding: Encoding::Windows1252OrLatin1 };
            assert_eq!(scan(&rules, &bytes, size), Err(expected), "by {size}");
        }
    }

    #[test]
    fn without_checks_only_unsendable_files_are_refused() {
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
        assert_eq!(layout.header_bytes, b"\xef\xbb\xbf\"a\n\", \xff\n");
        assert_eq!(layout.columns, ["a\n", " \u{fffd}"]);
        assert_eq!(layout.parts, [FilePart { from: 11, to: 21, rows: 3, first_row: 1, first_line: 3 }]);
    }

    #[test]
    fn a_fitting_file_is_one_part_without_mark_or_blank_lines() {
        let layout = scan(&rules(Format::Ssv, true), b"\xef\xbb\xbfa;b\r\n1;2\r\n3;\"\n\"\r\n\r\n\n", 4).unwrap();
        assert_eq!(
            layout,
            FileLayout {
                bytes: 23,
                bom: true,
                header: 3..8,
                header_bytes: b"a;b\r\n".to_vec(),
                last_byte: b'\n',
                columns: vec!["a".into(), "b".into()],
                rows: 2,
                parts: vec![FilePart { from: 8, to: 20, rows: 2, first_row: 1, first_line: 2 }],
                warnings: Vec::new(),
            }
        );
    }

    #[test]
    fn parts_are_filled_to_the_last_byte_and_end_between_records() {
        let rules = ScanRules { max_part_bytes: 10, ..rules(Format::Csv, true) };
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
