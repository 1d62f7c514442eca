//! Joiner: makes one file of the failure or warning files of a job's batches.

use crate::delimited::header;
use crate::delimited::header::{HeaderReader, MAX_HEADER_BYTES};
use crate::delimited::lexer::Lexer;
use crate::domain::Format;

/// Joins files that have one header, which is kept once. The bytes of all rows stay as they are; a line end is put
/// between two files where the first lacks it.
///
/// For each file: [`Joiner::begin`], [`Joiner::push`] as its bytes come, [`Joiner::end`]. No more than two headers are
/// held. The delimiter is found from the header: it is the one with which the last column is Marketo's reason.
#[derive(Debug, Default)]
pub struct Joiner {
    /// The joined file's header, without byte-order mark and line end.
    header: Option<Vec<u8>>,
    format: Option<Format>,
    line_end: &'static [u8],
    part: u32,
    state: JoinState,
    rows: u64,
    /// The output so far lacks its last line end.
    open_line: bool,
    /// The part that ended within quotes: its open quote would extend over the next file.
    open_quote: Option<u32>,
}

#[derive(Debug, Default)]
enum JoinState {
    #[default]
    Nothing,
    Header(HeaderReader, Lexer),
    Rows(Lexer),
}

/// Files that cannot be joined. Each is still complete by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The header differs from that of the files before it.
    #[error("the columns of part {part} are not those of the parts before it, so the parts can't be one file")]
    OtherColumns {
        /// The batch's part, as in [`Joiner::begin`].
        part: u32,
    },
    /// A file ends within a quoted field.
    #[error("part {part} ends inside quotes, so no other can follow it in one file")]
    OpenQuote {
        /// The batch's part, as in [`Joiner::begin`].
        part: u32,
    },
    /// The header is larger than [`MAX_HEADER_BYTES`].
    #[error("the header of part {part} does not end within {MAX_HEADER_BYTES} bytes")]
    HeaderTooLarge {
        /// The batch's part, as in [`Joiner::begin`].
        part: u32,
    },
}

impl Joiner {
    /// Returns a joiner without any file.
    pub fn new() -> Self {
        Joiner::default()
    }

    /// Begins the file of `part`. An empty file adds nothing.
    pub fn begin(&mut self, part: u32) {
        self.part = part;
        // Names hold neither quotes nor line ends, so any delimiter finds the header's end.
        self.state = JoinState::Header(HeaderReader::default(), Lexer::new(Format::Csv, 1));
    }

    /// Reads bytes of the current file and appends the resulting bytes to `out`.
    ///
    /// # Errors
    /// [`JoinError`]; the joiner must not be used afterwards. Differing columns are found before [`Joiner::in_rows`] is
    /// true or [`Joiner::end`] returns, so a caller that cannot revoke its output joins the files' beginnings first.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), JoinError> {
        if let JoinState::Header(reader, lexer) = &mut self.state {
            let end = reader.push(lexer, bytes);
            if reader.bytes().len() as u64 > MAX_HEADER_BYTES {
                return Err(JoinError::HeaderTooLarge { part: self.part });
            }
            let Some(n) = end else { return Ok(()) };
            bytes = &bytes[n..];
            self.header_ended(out)?;
        }
        self.rows_in(bytes, out)
    }

    /// Ends the current file.
    ///
    /// # Errors
    /// As for [`Joiner::push`].
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), JoinError> {
        if let JoinState::Header(reader, _) = &self.state
            && !reader.is_empty()
        {
            self.header_ended(out)?;
        }
        if let JoinState::Rows(lexer) = std::mem::take(&mut self.state) {
            self.rows += u64::from(lexer.unended().is_some());
            self.open_quote = lexer.open_quote().map(|_| self.part).or(self.open_quote);
        }
        Ok(())
    }

    /// Returns whether the current file's header was read and equals that of the files before it.
    pub fn in_rows(&self) -> bool {
        matches!(self.state, JoinState::Rows(_))
    }

    /// Returns the number of rows so far. Blank lines are not counted.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn header_ended(&mut self, out: &mut Vec<u8>) -> Result<(), JoinError> {
        let JoinState::Header(reader, lexer) = &self.state else { return Ok(()) };
        let (bytes, line) = (reader.bytes(), lexer.line());
        let content = header::line_content(bytes);
        match &self.header {
            Some(header) if header != content => return Err(JoinError::OtherColumns { part: self.part }),
            Some(_) => {}
            None => {
                out.extend_from_slice(bytes);
                self.open_line = !bytes.ends_with(b"\n");
                self.line_end = if bytes.ends_with(b"\r\n") { b"\r\n" } else { b"\n" };
                self.header = Some(content.to_owned());
                self.format = Format::ALL
                    .into_iter()
                    .find(|&format| header::columns(bytes, format).last().is_some_and(|name| header::is_reason(name)));
            }
        }
        self.state = JoinState::Rows(Lexer::new(self.format.unwrap_or(Format::Csv), line));
        Ok(())
    }

    fn rows_in(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), JoinError> {
        let JoinState::Rows(lexer) = &mut self.state else { return Ok(()) };
        let Some(last) = bytes.last() else { return Ok(()) };
        if let Some(part) = self.open_quote {
            return Err(JoinError::OpenQuote { part });
        }
        // Only at the start of a file: within a file the rest of the line is still to come.
        if self.open_line && lexer.unended().is_none() {
            out.extend_from_slice(self.line_end);
        }
        out.extend_from_slice(bytes);
        self.open_line = *last != b'\n';
        let mut rest = bytes;
        while let Some((n, record)) = lexer.next_record(rest) {
            rest = &rest[n..];
            self.rows += u64::from(!record.blank);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(parts: &[&str], size: usize) -> Result<(String, u64), JoinError> {
        let mut joiner = Joiner::new();
        let mut out = Vec::new();
        for (part, text) in (1..).zip(parts) {
            joiner.begin(part);
            text.as_bytes().chunks(size).try_for_each(|chunk| joiner.push(chunk, &mut out))?;
            joiner.end(&mut out)?;
        }
        Ok((String::from_utf8(out).unwrap(), joiner.rows()))
    }

    #[test]
    fn the_joined_file_has_one_header_and_all_rows() {
        for (parts, joined, rows) in [
            (vec!["h,R\n1,a\n", "h,R\n2,b\n"], "h,R\n1,a\n2,b\n", 2),
            (vec!["h,R\r\n1,a", "h,R\n2,b"], "h,R\r\n1,a\r\n2,b", 2),
            (vec!["h,R\n1,\"a\nb\"", "", "h,R\n2,b\n"], "h,R\n1,\"a\nb\"\n2,b\n", 2),
            (vec!["h,R", "h,R", "h,R\n2,b\n\n"], "h,R\n2,b\n\n", 1),
            (vec!["\u{feff}h,R\n1,a\n", "h,R\n2,b\n"], "\u{feff}h,R\n1,a\n2,b\n", 2),
            (vec!["", "h,R\n1,a"], "h,R\n1,a", 1),
            (vec!["h\tImport Failure Reason\n1\t\"a\nb\"\n"], "h\tImport Failure Reason\n1\t\"a\nb\"\n", 1),
            (vec![], "", 0),
        ] {
            for size in [1, 2, 3, 100] {
                assert_eq!(join(&parts, size), Ok((joined.to_owned(), rows)), "by {size}");
            }
        }
    }

    #[test]
    fn other_columns_are_reported_before_their_first_row() {
        let error = join(&["h,R\n1,a\n", "R\nb\n"], 100).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the columns of part 2 are not those of the parts before it, so the parts can't be one file"
        );
        assert_eq!(join(&["h,R\n1,a\n", "R"], 1), Err(JoinError::OtherColumns { part: 2 }));
        let (mut joiner, mut out) = (Joiner::new(), Vec::new());
        joiner.begin(1);
        joiner.push(b"h", &mut out).unwrap();
        assert!(!joiner.in_rows());
        joiner.push(b",R\n", &mut out).unwrap();
        assert!(joiner.in_rows());
    }

    #[test]
    fn no_part_follows_one_that_ends_within_quotes() {
        assert_eq!(join(&["h,R\n1,\"a\n"], 4).unwrap().1, 1);
        assert_eq!(join(&["h,R\n1,\"a\n", "h,R\n2,b\n"], 4), Err(JoinError::OpenQuote { part: 1 }));
    }

    #[test]
    fn an_endless_header_is_not_buffered() {
        let text = "h".repeat(MAX_HEADER_BYTES as usize + 1);
        assert_eq!(join(&[&text], 4096), Err(JoinError::HeaderTooLarge { part: 1 }));
    }
}
