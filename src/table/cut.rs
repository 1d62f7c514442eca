//! Where are rows cut into parts that one upload takes, and how is a part cut again that was too large after all?

use serde::Serialize;

use super::lexer::Lexer;
use crate::job::Format;

/// The rows of one upload: a range of the file's bytes, before which the upload sends the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Offset of the first byte, from the start of the file as it came.
    pub from: u64,
    /// Offset behind the last byte.
    pub to: u64,
    pub rows: u64,
    /// Number of the first row, counted from 1 over the whole file without its header.
    pub first_row: u64,
    /// Line of the first row, counted from 1 over the whole file.
    pub first_line: u64,
}

/// Fills parts with rows, each as full as it goes.
#[derive(Clone, Debug)]
pub(super) struct Cutter {
    /// The most bytes of rows in a part.
    room: u64,
    parts: Vec<Part>,
    next_row: u64,
}

/// A state of a [`Cutter`] to which it can be put back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Milestone {
    parts: usize,
    last: Option<Part>,
    next_row: u64,
}

impl Cutter {
    pub fn new(room: u64, first_row: u64) -> Self {
        Cutter { room, parts: Vec::new(), next_row: first_row }
    }

    pub fn room(&self) -> u64 {
        self.room
    }

    /// Adds the row from `from` to `to`, which follows the one before without a gap. One that is larger than the room
    /// stands alone in its part.
    pub fn add(&mut self, from: u64, to: u64, line: u64) {
        let first_row = self.next_row;
        self.next_row += 1;
        match self.parts.last_mut() {
            Some(part) if to - part.from <= self.room => {
                part.to = to;
                part.rows += 1;
            }
            _ => self.parts.push(Part { from, to, rows: 1, first_row, first_line: line }),
        }
    }

    pub fn milestone(&self) -> Milestone {
        Milestone { parts: self.parts.len(), last: self.parts.last().copied(), next_row: self.next_row }
    }

    /// Forgets the rows since `milestone`.
    pub fn put_back(&mut self, milestone: Milestone) {
        self.parts.truncate(milestone.parts);
        if let (Some(part), Some(last)) = (self.parts.last_mut(), milestone.last) {
            *part = last;
        }
        self.next_row = milestone.next_row;
    }

    pub fn into_parts(self) -> Vec<Part> {
        self.parts
    }
}

/// Cuts one part again, for an upload that Marketo found too large (413).
///
/// Push the bytes of the part, without the header, then finish. Every byte of the part comes to lie in one of the new
/// parts. A row that is over the limit stands alone, so that the others can go.
#[derive(Debug)]
pub struct Recut {
    lexer: Lexer,
    cutter: Cutter,
    part: Part,
    at: u64,
}

/// A part that can't be cut, for it has one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row} on line {line} is too large for Marketo by itself")]
pub struct SingleRow {
    pub row: u64,
    pub line: u64,
}

impl Recut {
    /// The limit that makes about two parts of one, in bytes of header and rows: for [`Recut::new`].
    pub fn half(header_bytes: u64, part: &Part) -> u64 {
        header_bytes + (part.to - part.from).div_ceil(2)
    }

    /// `max_part_bytes` is for header and rows together.
    pub fn new(format: Format, header_bytes: u64, part: Part, max_part_bytes: u64) -> Self {
        Recut {
            lexer: Lexer::new(format, part.first_line),
            cutter: Cutter::new(max_part_bytes.saturating_sub(header_bytes), part.first_row),
            at: part.from,
            part,
        }
    }

    pub fn push(&mut self, mut bytes: &[u8]) {
        while let Some((n, record)) = self.lexer.next_record(bytes) {
            self.at += n as u64;
            bytes = &bytes[n..];
            self.cutter.add(self.at - record.bytes, self.at, record.line);
        }
        self.at += bytes.len() as u64;
    }

    /// # Errors
    /// [`SingleRow`] when there is nothing to cut between.
    pub fn finish(mut self) -> Result<Vec<Part>, SingleRow> {
        if let Some(record) = self.lexer.unended() {
            self.cutter.add(self.at - record.bytes, self.at, record.line);
        }
        let parts = self.cutter.into_parts();
        match parts.as_slice() {
            [] | [Part { rows: 1, .. }] => Err(SingleRow { row: self.part.first_row, line: self.part.first_line }),
            _ => Ok(parts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Part = Part { from: 100, to: 112, rows: 4, first_row: 11, first_line: 21 };

    fn recut(rows: &[u8], limit: u64) -> Result<Vec<[u64; 5]>, SingleRow> {
        let mut recut = Recut::new(Format::Csv, 10, PART, limit);
        rows.chunks(2).for_each(|chunk| recut.push(chunk));
        let parts = recut.finish()?;
        Ok(parts.iter().map(|part| [part.from, part.to, part.rows, part.first_row, part.first_line]).collect())
    }

    #[test]
    fn a_part_is_halved_between_records_and_keeps_its_place_in_the_file() {
        assert_eq!(Recut::half(10, &PART), 16);
        assert_eq!(recut(b"1\n2\n\"\n\"\n4", 16).unwrap(), [[100, 104, 2, 11, 21], [104, 109, 2, 13, 23]]);
    }

    #[test]
    fn a_row_over_the_limit_stands_alone_and_lets_the_others_go() {
        assert_eq!(
            recut(b"a\nlarge row\nb\nc\n", 14).unwrap(),
            [[100, 102, 1, 11, 21], [102, 112, 1, 12, 22], [112, 116, 2, 13, 23]]
        );
        assert_eq!(recut(b"a\nb\n", 3).unwrap().len(), 2);
    }

    #[test]
    fn one_row_can_not_be_cut_and_says_so() {
        let error = recut(b"\"one\n row\"\n", 12).unwrap_err();
        assert_eq!(error, SingleRow { row: 11, line: 21 });
        assert_eq!(error.to_string(), "row 11 on line 21 is too large for Marketo by itself");
    }
}
