//! Field reader: the records of delimited text with the values of their fields, quotes removed.

use crate::delimited::lexer::{LexEvent, Lexer};
use crate::delimited::report_header::LineEnd;
use crate::domain::Format;

/// Reads records. It holds one record, whose values may be of at most `max_bytes` bytes; those beyond are not kept.
#[derive(Debug)]
pub(super) struct FieldReader {
    lexer: Lexer,
    max_bytes: usize,
    values: Vec<u8>,
    /// Where each ended field ends in `values`.
    ends: Vec<usize>,
    /// A CR waits for the next byte: before an LF it belongs to the line end.
    held_cr: bool,
    is_cut: bool,
    line_end: LineEnd,
    /// Where the next record begins.
    at: u64,
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    values: &'a [u8],
    ends: &'a [usize],
    /// The first line of the record, counted from that of the reader's beginning.
    pub line: u64,
    /// Where the record begins, counted in bytes from that of the reader's beginning.
    pub from: u64,
    /// The size of the record in bytes, its line end included.
    pub bytes: u64,
    /// Nothing but a line end.
    pub is_blank: bool,
    /// A value is incomplete: it is too large, or its quote has no end.
    pub is_cut: bool,
}

impl Fields<'_> {
    /// Returns the number of fields, at least 1.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the value of a field, counted from 0; none behind the last.
    pub fn get(&self, field: usize) -> Option<&[u8]> {
        let end = *self.ends.get(field)?;
        let from = field.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.values[from..end])
    }

    /// Returns the values in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|field| self.get(field))
    }
}

impl FieldReader {
    /// Returns a reader at the start of a record on `line`.
    pub fn new(format: Format, line: u64, max_bytes: usize) -> Self {
        let lexer = Lexer::new(format, line);
        FieldReader {
            lexer,
            max_bytes,
            values: Vec::new(),
            ends: Vec::new(),
            held_cr: false,
            is_cut: false,
            line_end: LineEnd::Lf,
            at: 0,
        }
    }

    /// Sets what ends a line, which is LF or CRLF otherwise.
    pub fn with_line_end(self, line_end: LineEnd) -> Self {
        FieldReader { line_end, ..self }
    }

    /// Sets the offset of the first record in bytes, which is 0 otherwise.
    pub fn with_offset(self, at: u64) -> Self {
        FieldReader { at, ..self }
    }

    /// Returns the line on which the next record begins; none within a record.
    pub fn next_line(&self) -> Option<u64> {
        self.lexer.unended().is_none().then(|| self.lexer.line())
    }

    /// Reads bytes and passes each record that ends in them to `record`.
    pub fn push(&mut self, bytes: &[u8], mut record: impl FnMut(&Fields<'_>)) {
        for &byte in bytes {
            match self.lexer.step(self.line_end.lexed(byte, &self.lexer)) {
                LexEvent::Data if byte == b'\r' => {
                    self.keep_held_cr();
                    self.held_cr = true;
                }
                LexEvent::Data => {
                    self.keep_held_cr();
                    self.keep(byte);
                }
                LexEvent::Quote => self.keep_held_cr(),
                LexEvent::Delimiter => {
                    self.keep_held_cr();
                    self.ends.push(self.values.len());
                }
                LexEvent::End(ended) => {
                    self.held_cr = false;
                    self.ends.push(self.values.len());
                    record(&Fields {
                        values: &self.values,
                        ends: &self.ends,
                        line: ended.line,
                        from: self.at,
                        bytes: ended.bytes,
                        is_blank: ended.blank,
                        is_cut: self.is_cut,
                    });
                    self.at += ended.bytes;
                    self.values.clear();
                    self.ends.clear();
                    self.is_cut = false;
                }
            }
        }
    }

    /// Ends the text, and passes a last record without a line end to `record`.
    pub fn finish(mut self, mut record: impl FnMut(&Fields<'_>)) {
        let Some(last) = self.lexer.unended() else { return };
        self.keep_held_cr();
        self.ends.push(self.values.len());
        let is_cut = self.is_cut || self.lexer.open_quote().is_some();
        let (values, ends) = (&self.values, &self.ends);
        let (line, is_blank) = (last.line, last.blank);
        record(&Fields { values, ends, line, from: self.at, bytes: last.bytes, is_blank, is_cut });
    }

    fn keep_held_cr(&mut self) {
        if std::mem::take(&mut self.held_cr) {
            self.keep(b'\r');
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.values.len() < self.max_bytes {
            self.values.push(byte);
        } else {
            self.is_cut = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, size: usize) -> Vec<(Vec<String>, u64, bool)> {
        let mut found = Vec::new();
        let mut reader = FieldReader::new(Format::Csv, 1, 8);
        let mut keep = |fields: &Fields<'_>| {
            let values = fields.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
            found.push((values, fields.line, fields.is_cut));
        };
        text.as_bytes().chunks(size).for_each(|chunk| reader.push(chunk, &mut keep));
        reader.finish(&mut keep);
        found
    }

    #[test]
    fn values_have_no_quotes_and_no_line_end() {
        let row = |values: &[&str], line, is_cut| (values.iter().map(|&v| v.to_owned()).collect(), line, is_cut);
        for size in [1, 2, 3, 100] {
            assert_eq!(
                read("a,\"b\"\"\r\n\"\r\n\r\n\rx\r,\r\nlast\r", size),
                [
                    row(&["a", "b\"\r\n"], 1, false),
                    row(&[""], 3, false),
                    row(&["\rx\r", ""], 4, false),
                    row(&["last\r"], 5, false)
                ]
            );
            assert_eq!(
                read("123456789,0\n1,\"2\n", size),
                [row(&["12345678", ""], 1, true), row(&["1", "2\n"], 2, true)]
            );
        }
    }
}
