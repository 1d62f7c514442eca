//! Splitting: distributes rows over parts that fit into one upload, and halves a part that Marketo refused as too
//! large.

use serde::Serialize;

use crate::delimited::lexer::Lexer;
use crate::domain::Format;

/// The rows of one upload: a range of the file's bytes, before which the upload sends the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FilePart {
    /// Offset of the first byte, from the start of the file as it came.
    pub from: u64,
    /// Offset behind the last byte.
    pub to: u64,
    /// The number of rows.
    pub rows: u64,
    /// Number of the first row, counted from 1 over the whole file without its header.
    pub first_row: u64,
    /// Line of the first row, counted from 1 over the whole file.
    pub first_line: u64,
}

/// Fills parts with rows, each up to the limit.
#[derive(Clone, Debug)]
pub(super) struct Splitter {
    /// The most bytes of rows in a part.
    max_part_bytes: u64,
    /// The most rows in the first part.
    first_part_rows: u64,
    parts: Vec<FilePart>,
    next_row: u64,
}

/// A state of a [`Splitter`] to which it can be rolled back.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordOffset {
    parts: usize,
    last: Option<FilePart>,
    next_row: u64,
}

impl Splitter {
    pub fn new(room: u64, first_part_rows: Option<u64>) -> Self {
        let first_part_rows = first_part_rows.unwrap_or(u64::MAX);
        Splitter { max_part_bytes: room, first_part_rows, parts: Vec::new(), next_row: 1 }
    }

    pub fn max_part_bytes(&self) -> u64 {
        self.max_part_bytes
    }

    /// Adds the row from `from` to `to`, which follows the one before without a gap. A row above the limit has a part
    /// of its own.
    pub fn add(&mut self, from: u64, to: u64, line: u64) {
        let first_row = self.next_row;
        self.next_row += 1;
        let max_rows = if self.parts.len() == 1 { self.first_part_rows } else { u64::MAX };
        match self.parts.last_mut() {
            Some(part) if to - part.from <= self.max_part_bytes && part.rows < max_rows => {
                part.to = to;
                part.rows += 1;
            }
            _ => self.parts.push(FilePart { from, to, rows: 1, first_row, first_line: line }),
        }
    }

    pub fn record_offset(&self) -> RecordOffset {
        RecordOffset { parts: self.parts.len(), last: self.parts.last().copied(), next_row: self.next_row }
    }

    /// Returns the number of rows added since `offset`.
    pub fn rows_since(&self, offset: &RecordOffset) -> u64 {
        self.next_row - offset.next_row
    }

    /// Removes the rows added since `offset`.
    pub fn roll_back(&mut self, offset: RecordOffset) {
        self.parts.truncate(offset.parts);
        if let (Some(part), Some(last)) = (self.parts.last_mut(), offset.last) {
            *part = last;
        }
        self.next_row = offset.next_row;
    }

    pub fn into_parts(self) -> Vec<FilePart> {
        self.parts
    }
}

/// Cuts one part in two, for an upload that Marketo found too large (413).
///
/// Push the bytes of the part, without the header, then finish. It is cut at the record end that is nearest to its
/// middle, so that every byte of the part comes to lie in one of the two.
#[derive(Debug)]
pub struct Bisector {
    lexer: Lexer,
    part: FilePart,
    at: u64,
    /// Records that have ended, and where the last of them did.
    rows: u64,
    ended: u64,
    /// The best split point so far, as the second half up to the bytes read.
    cut: Option<FilePart>,
}

/// A part that cannot be split, because it has one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row} on line {line} is too large for Marketo by itself")]
pub struct SingleRowError {
    /// The number of the row, counted from 1 over the whole file without its header.
    pub row: u64,
    /// The line of the row, counted from 1 over the whole file.
    pub line: u64,
}

impl Bisector {
    /// Returns a bisector for `part` of a file of `format`.
    pub fn new(format: Format, part: FilePart) -> Self {
        let lexer = Lexer::new(format, part.first_line);
        Bisector { lexer, part, at: part.from, rows: 0, ended: part.from, cut: None }
    }

    /// Reads the next bytes of the part.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while let Some((n, record)) = self.lexer.next_record(bytes) {
            self.at += n as u64;
            bytes = &bytes[n..];
            self.begin(record.line);
            self.end();
        }
        self.at += bytes.len() as u64;
    }

    /// # Errors
    /// [`SingleRowError`] if the part has fewer than two rows.
    pub fn finish(mut self) -> Result<[FilePart; 2], SingleRowError> {
        if let Some(record) = self.lexer.unended() {
            self.begin(record.line);
            self.end();
        }
        let FilePart { from, first_row, first_line, .. } = self.part;
        let second = self.cut.ok_or(SingleRowError { row: first_row, line: first_line })?;
        let rows = second.first_row - first_row;
        let first = FilePart { from, to: second.from, rows, first_row, first_line };
        Ok([first, FilePart { to: self.ended, rows: self.rows - rows, ..second }])
    }

    /// A record that begins on `line`: between it and the one before, the part could be cut.
    fn begin(&mut self, line: u64) {
        let middle = u64::midpoint(self.part.from, self.part.to);
        let nearer = self.cut.is_none_or(|cut| self.ended.abs_diff(middle) < cut.from.abs_diff(middle));
        if self.rows > 0 && nearer {
            let first_row = self.part.first_row + self.rows;
            self.cut = Some(FilePart { from: self.ended, to: self.part.to, rows: 0, first_row, first_line: line });
        }
    }

    fn end(&mut self) {
        self.rows += 1;
        self.ended = self.at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halved(rows: &[u8]) -> Result<[[u64; 5]; 2], SingleRowError> {
        let part = FilePart { from: 100, to: 100 + rows.len() as u64, rows: 4, first_row: 11, first_line: 21 };
        let mut halver = Bisector::new(Format::Csv, part);
        rows.chunks(2).for_each(|chunk| halver.push(chunk));
        Ok(halver.finish()?.map(|part| [part.from, part.to, part.rows, part.first_row, part.first_line]))
    }

    #[test]
    fn a_part_is_split_between_records_in_file_order() {
        assert_eq!(halved(b"1\n2\n\"\n\"\n4").unwrap(), [[100, 104, 2, 11, 21], [104, 109, 2, 13, 23]]);
    }

    #[test]
    fn a_large_row_is_split_off_on_its_wider_side() {
        assert_eq!(halved(b"a\nb\nlarge row\n").unwrap(), [[100, 104, 2, 11, 21], [104, 114, 1, 13, 23]]);
        assert_eq!(halved(b"large row\nb\nc\n").unwrap(), [[100, 110, 1, 11, 21], [110, 114, 2, 12, 22]]);
    }

    #[test]
    fn one_row_cannot_be_split() {
        let error = halved(b"\"one\n row\"\n").unwrap_err();
        assert_eq!(error, SingleRowError { row: 11, line: 21 });
        assert_eq!(error.to_string(), "row 11 on line 21 is too large for Marketo by itself");
    }
}
