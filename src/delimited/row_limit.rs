//! Row limit: finds the end of the last row within a maximum file size.

use crate::delimited::lexer::Lexer;
use crate::domain::Format;

/// Reads the bytes of a file as they arrive and returns where to cut it once it exceeds the limit.
#[derive(Debug)]
pub struct RowLimit {
    lexer: Lexer,
    max_bytes: u64,
    seen: u64,
    /// Where the last row that has ended ends; the header counts as one.
    last_end: u64,
}

impl RowLimit {
    /// Returns a limit of `max_bytes` for a file of `format`.
    pub fn new(format: Format, max_bytes: u64) -> RowLimit {
        RowLimit { lexer: Lexer::new(format, 1), max_bytes, seen: 0, last_end: 0 }
    }

    /// Reads the next bytes. Returns how many bytes of the file to keep as soon as it has more than the limit: up to
    /// the end of a row, and none at all where not even the header ends within the limit.
    pub fn push(&mut self, bytes: &[u8]) -> Option<u64> {
        let room = usize::try_from(self.max_bytes - self.seen).unwrap_or(usize::MAX);
        let within = &bytes[..bytes.len().min(room)];
        let mut at = 0;
        while let Some((taken, _)) = self.lexer.next_record(&within[at..]) {
            at += taken;
            self.last_end = self.seen + at as u64;
        }
        self.seen += within.len() as u64;
        (within.len() < bytes.len()).then_some(self.last_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_cut_after_the_last_row_within_the_limit() {
        let file = "a,b\n1,\"x\ny\"\r\n2,z\n3";
        for (max_bytes, kept) in [(0, 0), (3, 0), (4, 4), (8, 4), (12, 4), (13, 13), (16, 13), (17, 17)] {
            for size in 1..=file.len() {
                let mut limit = RowLimit::new(Format::Csv, max_bytes);
                let cut = file.as_bytes().chunks(size).find_map(|piece| limit.push(piece));
                assert_eq!(cut, Some(kept), "{max_bytes} bytes, in pieces of {size}");
            }
        }
        let mut limit = RowLimit::new(Format::Csv, file.len() as u64);
        assert_eq!((limit.push(file.as_bytes()), limit.push(b"")), (None, None));
        assert_eq!(limit.push(b"x"), Some(17));
    }

    #[test]
    fn quote_that_never_ends_is_cut_off_with_its_row() {
        let mut limit = RowLimit::new(Format::Tsv, 1_000);
        assert_eq!(limit.push(b"a\tb\n1\t\"x\n"), None);
        assert_eq!(limit.push(&b"x\n".repeat(1_000)), Some(4));
    }
}
