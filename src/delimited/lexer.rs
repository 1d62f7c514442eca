//! Lexer: finds the end of each record and counts its fields.
//!
//! One state machine has two drivers: [`Lexer::next_record`] searches for the next quote or line end and is fast enough
//! for whole files; [`Lexer::step`] goes byte by byte for callers that need each field. A property test compares both.

use memchr::{memchr_iter, memchr2};

use crate::domain::Format;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    FieldStart,
    /// In a field without quotes, or behind a closing quote. A quote is data here.
    Bare,
    Quoted,
    /// Behind a quote in a quoted field: it was the closing one, unless another follows.
    QuoteSeen,
}

/// One record, line end included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub bytes: u64,
    pub fields: u64,
    /// The first and the last line of the record, counted from 1.
    pub line: u64,
    pub last_line: u64,
    /// Nothing but a line end.
    pub blank: bool,
    /// A field without quotes ends with a CR that is not part of the line end. Only found with [`CrSearch::On`].
    pub stray_cr: bool,
    /// Data follows a closing quote within its field.
    pub data_behind_quote: bool,
}

/// What one byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LexEvent {
    Data,
    /// A quote that belongs to the writing and not to the value.
    Quote,
    Delimiter,
    /// The LF that ends a record.
    End(Record),
}

/// Whether CRs at the ends of fields are searched for. The search takes another pass over the bytes, which is not
/// needed where every CR belongs to a CRLF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CrSearch {
    On,
    Off,
}

#[derive(Clone, Debug)]
pub(super) struct Lexer {
    delimiter: u8,
    state: State,
    /// The line of the next byte.
    line: u64,
    quote_line: u64,
    bytes: u64,
    delimiters: u64,
    record_line: u64,
    first: u8,
    cr_search: CrSearch,
    /// CRs directly before the next byte, outside of quotes: 0, 1 or 2 for more.
    crs: u8,
    stray_cr: bool,
    data_behind_quote: bool,
}

impl Lexer {
    /// A lexer at the start of a record on `line`.
    pub fn new(format: Format, line: u64) -> Self {
        Lexer {
            delimiter: format.delimiter(),
            state: State::FieldStart,
            line,
            quote_line: line,
            bytes: 0,
            delimiters: 0,
            record_line: line,
            first: 0,
            cr_search: CrSearch::Off,
            crs: 0,
            stray_cr: false,
            data_behind_quote: false,
        }
    }

    /// Sets whether [`Lexer::next_record`] searches the next bytes for CRs at the ends of fields.
    pub fn set_cr_search(&mut self, search: CrSearch) {
        self.cr_search = search;
    }

    /// Returns whether the last byte was a CR outside of quotes. Only known with [`CrSearch::On`].
    pub fn is_behind_cr(&self) -> bool {
        self.crs > 0
    }

    /// The line of the next byte, counted from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The line on which the quote that is open now was opened.
    pub fn open_quote(&self) -> Option<u64> {
        (self.state == State::Quoted).then_some(self.quote_line)
    }

    /// Bytes of the record under way.
    pub fn unended_bytes(&self) -> u64 {
        self.bytes
    }

    /// The first line of the record under way.
    pub fn record_line(&self) -> u64 {
        self.record_line
    }

    /// Returns the unfinished record, if it has at least one byte.
    pub fn unended(&self) -> Option<Record> {
        (self.bytes > 0).then(|| self.record())
    }

    /// Reads to the next end of a record. Returns the number of bytes read and the record, or `None` if `bytes` end
    /// before.
    #[inline]
    pub fn next_record(&mut self, bytes: &[u8]) -> Option<(usize, Record)> {
        self.first = match bytes.first() {
            Some(&first) if self.bytes == 0 => first,
            _ => self.first,
        };
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.state {
                State::FieldStart if rest[0] == b'"' => {
                    at += 1;
                    self.state = State::Quoted;
                    self.quote_line = self.line;
                }
                State::FieldStart | State::Bare => {
                    let found = memchr2(b'\n', b'"', rest);
                    let run = &rest[..found.unwrap_or(rest.len())];
                    if let Some(&last) = run.last() {
                        self.delimiters += memchr_iter(self.delimiter, run).count() as u64;
                        if self.cr_search == CrSearch::On || self.crs > 0 {
                            self.find_stray_cr(run);
                        }
                        self.state = if last == self.delimiter { State::FieldStart } else { State::Bare };
                    }
                    let Some(found) = found else { break };
                    at += found;
                    if rest[found] == b'\n' {
                        at += 1;
                        self.bytes += at as u64;
                        return Some((at, self.end()));
                    }
                    // A quote after a delimiter is handled by the first arm.
                    if self.state == State::Bare {
                        at += 1;
                        self.crs = 0;
                    }
                }
                State::Quoted => {
                    let Some(found) = memchr2(b'"', b'\n', rest) else { break };
                    at += found + 1;
                    match rest[found] {
                        b'"' => self.state = State::QuoteSeen,
                        _ => self.line += 1,
                    }
                }
                State::QuoteSeen if rest[0] == b'"' => {
                    at += 1;
                    self.state = State::Quoted;
                }
                // The next arm would give the same result, but fully quoted files would take three times as long.
                State::QuoteSeen if rest[0] == self.delimiter => {
                    at += 1;
                    self.delimiters += 1;
                    self.state = State::FieldStart;
                }
                State::QuoteSeen => {
                    self.data_behind_quote |= !matches!(rest[0], b'\r' | b'\n');
                    self.state = State::Bare;
                }
            }
        }
        self.bytes += bytes.len() as u64;
        None
    }

    /// Looks through bytes outside of quotes, none of which is a line end or a quote.
    fn find_stray_cr(&mut self, run: &[u8]) {
        self.stray_cr |= self.crs > 0 && run.first() == Some(&self.delimiter)
            || memchr_iter(b'\r', run).any(|at| run.get(at + 1) == Some(&self.delimiter));
        let trailing = run.iter().rev().take(2).take_while(|&&byte| byte == b'\r').count();
        let before = if trailing == run.len() { self.crs } else { 0 };
        self.crs = (before + u8::try_from(trailing).unwrap_or(2)).min(2);
    }

    /// Takes one byte.
    pub fn step(&mut self, byte: u8) -> LexEvent {
        if self.bytes == 0 {
            self.first = byte;
        }
        self.bytes += 1;
        match (self.state, byte) {
            (State::Quoted, b'"') => {
                self.state = State::QuoteSeen;
                LexEvent::Quote
            }
            (State::Quoted, _) => {
                self.line += u64::from(byte == b'\n');
                LexEvent::Data
            }
            (State::QuoteSeen, b'"') => {
                self.state = State::Quoted;
                LexEvent::Data
            }
            (State::FieldStart, b'"') => {
                self.state = State::Quoted;
                self.quote_line = self.line;
                LexEvent::Quote
            }
            (_, b'\n') => LexEvent::End(self.end()),
            (_, byte) if byte == self.delimiter => {
                self.delimiters += 1;
                self.stray_cr |= self.crs > 0;
                self.crs = 0;
                self.state = State::FieldStart;
                LexEvent::Delimiter
            }
            (_, b'\r') => {
                self.crs = (self.crs + 1).min(2);
                self.state = State::Bare;
                LexEvent::Data
            }
            (state, _) => {
                self.data_behind_quote |= state == State::QuoteSeen;
                self.crs = 0;
                self.state = State::Bare;
                LexEvent::Data
            }
        }
    }

    fn record(&self) -> Record {
        Record {
            bytes: self.bytes,
            fields: self.delimiters + 1,
            line: self.record_line,
            last_line: self.line,
            blank: false,
            // Of two CRs before the line end, or at the end of the file, at least one belongs to the field.
            stray_cr: self.stray_cr || self.crs > 1,
            data_behind_quote: self.data_behind_quote,
        }
    }

    fn end(&mut self) -> Record {
        let blank = self.bytes == 1 || self.bytes == 2 && self.first == b'\r';
        let record = Record { blank, ..self.record() };
        self.line += 1;
        self.record_line = self.line;
        self.bytes = 0;
        self.delimiters = 0;
        self.crs = 0;
        self.stray_cr = false;
        self.data_behind_quote = false;
        self.state = State::FieldStart;
        record
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records(format: Format, chunks: &[&[u8]]) -> (Vec<Record>, Lexer) {
        let mut lexer = Lexer::new(format, 1);
        lexer.set_cr_search(CrSearch::On);
        let mut found = Vec::new();
        for chunk in chunks {
            let mut rest = *chunk;
            while let Some((n, record)) = lexer.next_record(rest) {
                found.push(record);
                rest = &rest[n..];
            }
        }
        found.extend(lexer.unended());
        (found, lexer)
    }

    fn shapes(text: &str) -> Vec<(u64, u64)> {
        records(Format::Csv, &[text.as_bytes()]).0.iter().map(|record| (record.bytes, record.fields)).collect()
    }

    #[test]
    fn records_end_at_line_ends_outside_quotes() {
        assert_eq!(shapes("a,b\r\n1,2"), [(5, 2), (3, 2)]);
        assert_eq!(shapes("\"a\n,\",b\n1\n"), [(8, 2), (2, 1)]);
        assert_eq!(shapes("\"a\"\"\n\",b\n"), [(9, 2)]);
        assert_eq!(shapes("a\rb,c\n"), [(6, 2)]);
    }

    #[test]
    fn a_quote_opens_only_at_the_start_of_a_field() {
        assert_eq!(shapes("5\",a\n6\"\n"), [(5, 2), (3, 1)]);
        assert_eq!(shapes("\"a\"b\"\n,\n"), [(6, 1), (2, 2)]);
        assert_eq!(shapes(" \"a\nb\"\n"), [(4, 1), (3, 1)]);
    }

    #[test]
    fn quoted_lines_count_and_an_open_quote_has_its_line() {
        let (found, lexer) = records(Format::Csv, &[b"h\n\"a\nb\",\"c\nd\"\ne,\"f\n\ng"]);
        assert_eq!(
            found.iter().map(|record| (record.line, record.last_line)).collect::<Vec<_>>(),
            [(1, 1), (2, 4), (5, 7)]
        );
        assert_eq!(lexer.open_quote(), Some(5));
    }

    #[test]
    fn only_a_line_end_alone_is_blank() {
        for (text, blank) in [
            ("\n", true),
            ("\r\n", true),
            ("\r", false),
            ("\ra", false),
            ("a\n", false),
            ("\"\"", false),
            (",\n", false),
        ] {
            assert_eq!(records(Format::Csv, &[text.as_bytes()]).0[0].blank, blank, "{text:?}");
        }
    }

    #[test]
    fn a_cr_counts_at_the_end_of_a_field_without_quotes() {
        for (text, stray_cr) in [
            ("a\r,b\n", true),
            ("\r,b\n", true),
            ("a,b\r\r\n", true),
            ("\"a\"\r,b\n", true),
            ("a,b\r\r", true),
            ("a,b\r\n", false),
            ("a,\"b\"\r\n", false),
            ("a,b\r", false),
            ("a\rb,c\n", false),
            ("\ra,b\n", false),
            ("\"a\r\",b\n", false),
            ("\"a\r,b\r\r\n\"\n", false),
            ("\r\n", false),
        ] {
            for size in 1..=text.len() {
                let (found, _) = records(Format::Csv, &text.as_bytes().chunks(size).collect::<Vec<_>>());
                assert_eq!(found[0].stray_cr, stray_cr, "{text:?} by {size}");
            }
        }
    }

    #[test]
    fn data_behind_a_closing_quote_is_noticed() {
        for (text, noticed) in
            [("\"a\"b,c\n", true), ("\"a\" ,c\n", true), ("\"a\"\"b\"\r\n", false), ("5\"b\n", false)]
        {
            assert_eq!(records(Format::Csv, &[text.as_bytes()]).0[0].data_behind_quote, noticed, "{text:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn fast_and_slow_paths_find_the_same_records_in_any_chunks(
            bytes in prop::collection::vec(prop::sample::select(b"a,;\t\"\"\n\r".as_slice()), 0..60),
            format in prop::sample::select(Format::ALL.as_slice()),
            size in 1..20_usize,
        ) {
            let (leaps, leaper) = records(format, &bytes.chunks(size).collect::<Vec<_>>());
            let mut stepper = Lexer::new(format, 1);
            let mut steps: Vec<Record> = bytes
                .iter()
                .filter_map(|&byte| if let LexEvent::End(record) = stepper.step(byte) { Some(record) } else { None })
                .collect();
            steps.extend(stepper.unended());
            prop_assert_eq!(leaps, steps);
            prop_assert_eq!(leaper.open_quote(), stepper.open_quote());
        }
    }
}
