//! Row selector: passes on some rows of delimited text, byte for byte.

use crate::delimited::lexer::Lexer;
use crate::domain::Format;

/// Passes on the rows of some numbers. Every record is a row, blank lines too.
#[derive(Debug)]
pub struct RowSelector {
    lexer: Lexer,
    /// The numbers of the rows that are still to come, the next one last.
    rows: Vec<u32>,
    /// The number of the record under way.
    row: u32,
}

impl RowSelector {
    /// Returns a selector at the start of row 0. `rows` are in rising order.
    pub fn new(format: Format, mut rows: Vec<u32>) -> Self {
        rows.dedup();
        rows.reverse();
        RowSelector { lexer: Lexer::new(format, 1), rows, row: 0 }
    }

    /// Returns whether a selected row is still to come, or to end.
    pub fn is_waiting(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Reads bytes and appends those of selected rows to `out`.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some((n, _)) = self.lexer.next_record(bytes) {
            let (record, rest) = bytes.split_at(n);
            bytes = rest;
            if self.rows.pop_if(|row| *row == self.row).is_some() {
                out.extend_from_slice(record);
            }
            self.row += 1;
        }
        if self.rows.last() == Some(&self.row) {
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selected_rows_are_passed_on_byte_for_byte() {
        let text = "a,1\r\n\"b\n\",2\n\nd,4\ne,5";
        for (rows, kept) in [
            (vec![0, 2, 3], "a,1\r\n\nd,4\n"),
            (vec![1], "\"b\n\",2\n"),
            (vec![4], "e,5"),
            (vec![0, 0, 1, 9], "a,1\r\n\"b\n\",2\n"),
            (vec![], ""),
        ] {
            for size in [1, 2, 3, 100] {
                let (mut selector, mut out) = (RowSelector::new(Format::Csv, rows.clone()), Vec::new());
                text.as_bytes().chunks(size).for_each(|chunk| selector.push(chunk, &mut out));
                assert_eq!(String::from_utf8(out).unwrap(), kept, "{rows:?} by {size}");
            }
        }
    }

    #[test]
    fn selector_waits_until_its_last_row_has_ended() {
        let mut selector = RowSelector::new(Format::Csv, vec![1]);
        let mut out = Vec::new();
        selector.push(b"a\nb", &mut out);
        assert!(selector.is_waiting());
        selector.push(b"\nc", &mut out);
        assert_eq!((selector.is_waiting(), &out[..]), (false, &b"b\n"[..]));
    }
}
