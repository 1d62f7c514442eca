//! Column appender: adds columns at the end of the records of delimited text.

use crate::delimited::lexer::Lexer;
use crate::domain::Format;

/// Adds values at the end of each record. Every other byte stays; a record with fewer fields than the header is filled
/// up with empty ones, so that the values stand below their names.
#[derive(Debug)]
pub struct ColumnAppender {
    lexer: Lexer,
    format: Format,
    columns: u64,
    /// A CR waits for the next byte: before an LF it belongs to the line end.
    held_cr: bool,
}

impl ColumnAppender {
    /// Returns an appender at the start of a record of a file with this many columns.
    pub fn new(format: Format, columns: usize) -> Self {
        ColumnAppender { lexer: Lexer::new(format, 1), format, columns: columns as u64, held_cr: false }
    }

    /// Reads bytes and appends the resulting bytes to `out`. `values` writes the values of the next record with
    /// [`AddedValues::push`].
    pub fn push(&mut self, mut bytes: &[u8], mut values: impl FnMut(&mut AddedValues<'_>), out: &mut Vec<u8>) {
        while let Some((n, record)) = self.lexer.next_record(bytes) {
            let (raw, rest) = bytes.split_at(n);
            bytes = rest;
            let text = raw.strip_suffix(b"\n").unwrap_or(raw);
            let is_crlf = text.ends_with(b"\r") || text.is_empty() && self.held_cr;
            if !text.is_empty() {
                self.write_held_cr(out);
            }
            self.held_cr = false;
            out.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
            self.end(record.fields, &mut values, out);
            out.extend_from_slice(if is_crlf { b"\r\n" } else { b"\n" });
        }
        if !bytes.is_empty() {
            self.write_held_cr(out);
            let text = bytes.strip_suffix(b"\r");
            self.held_cr = text.is_some();
            out.extend_from_slice(text.unwrap_or(bytes));
        }
    }

    /// Ends the text. A last record may lack its line end.
    pub fn finish(mut self, mut values: impl FnMut(&mut AddedValues<'_>), out: &mut Vec<u8>) {
        let Some(record) = self.lexer.unended() else { return };
        self.write_held_cr(out);
        if self.lexer.open_quote().is_some() {
            out.push(b'"');
        }
        self.end(record.fields, &mut values, out);
    }

    fn end(&self, fields: u64, values: &mut impl FnMut(&mut AddedValues<'_>), out: &mut Vec<u8>) {
        for _ in fields..self.columns {
            out.push(self.format.delimiter());
        }
        values(&mut AddedValues { format: self.format, out });
    }

    fn write_held_cr(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.held_cr) {
            out.push(b'\r');
        }
    }
}

/// The values that are added to one record.
#[derive(Debug)]
pub struct AddedValues<'a> {
    format: Format,
    out: &'a mut Vec<u8>,
}

impl AddedValues<'_> {
    /// Adds one value, in quotes where it needs them.
    pub fn push(&mut self, value: &[u8]) {
        let delimiter = self.format.delimiter();
        self.out.push(delimiter);
        if !value.iter().any(|&byte| byte == delimiter || matches!(byte, b'"' | b'\r' | b'\n')) {
            self.out.extend_from_slice(value);
            return;
        }
        self.out.push(b'"');
        for &byte in value {
            self.out.push(byte);
            if byte == b'"' {
                self.out.push(b'"');
            }
        }
        self.out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_gets_its_values_and_nothing_else_changes() {
        for (text, expected) in [
            ("1,2\n3,4\n", "1,2,r1,\"a, \"\"b\"\"\"\n3,4,r2,\"a, \"\"b\"\"\"\n"),
            ("\"1\r\n\",2\r\n3,4", "\"1\r\n\",2,r1,\"a, \"\"b\"\"\"\r\n3,4,r2,\"a, \"\"b\"\"\""),
            // Too short, blank, too long, with a CR of its own, without its closing quote.
            ("1\n\r\n", "1,,r1,\"a, \"\"b\"\"\"\n,,r2,\"a, \"\"b\"\"\"\r\n"),
            ("1,2,3\n\r\r\n", "1,2,3,r1,\"a, \"\"b\"\"\"\n\r,,r2,\"a, \"\"b\"\"\"\r\n"),
            ("1,\"2", "1,\"2\",r1,\"a, \"\"b\"\"\""),
            ("1,2\r", "1,2\r,r1,\"a, \"\"b\"\"\""),
        ] {
            for size in [1, 2, 3, 100] {
                let (mut appender, mut out, mut row) = (ColumnAppender::new(Format::Csv, 2), Vec::new(), 0);
                let mut values = |added: &mut AddedValues<'_>| {
                    row += 1;
                    added.push(format!("r{row}").as_bytes());
                    added.push(b"a, \"b\"");
                };
                text.as_bytes().chunks(size).for_each(|chunk| appender.push(chunk, &mut values, &mut out));
                appender.finish(&mut values, &mut out);
                assert_eq!(String::from_utf8(out).unwrap(), expected, "{text:?} by {size}");
            }
        }
    }
}
