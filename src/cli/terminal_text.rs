//! File content for a terminal: keeps line ends, and escapes every other control character.

use std::fmt::Write;

use crate::untrusted_text::escape_lines;

/// Converts a file's bytes, in chunks of any size, to text that is safe for a terminal.
#[derive(Default)]
pub struct TerminalText {
    /// The start of an incomplete character or line end.
    unended: Vec<u8>,
}

impl TerminalText {
    /// Converts the next bytes.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.unended.extend_from_slice(bytes);
        let (text, unended) = escaped(&self.unended, Rest::Follows);
        self.unended.drain(..self.unended.len() - unended);
        text
    }

    /// Converts the rest at the end of the file.
    pub fn finish(self) -> String {
        escaped(&self.unended, Rest::None).0
    }
}

/// Whether more bytes follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Follows,
    None,
}

/// Returns the text of `bytes`, and how many bytes at their end have to wait for more.
fn escaped(bytes: &[u8], rest: Rest) -> (String, usize) {
    let mut text = String::new();
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        let is_last = chunks.peek().is_none();
        let mut valid = chunk.valid();
        let waits = is_last && rest == Rest::Follows;
        if waits && chunk.invalid().is_empty() && valid.ends_with('\r') {
            valid = &valid[..valid.len() - 1];
            text += &lines(valid);
            return (text, 1);
        }
        text += &lines(valid);
        if waits && std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none()) {
            return (text, chunk.invalid().len());
        }
        for byte in chunk.invalid() {
            // Writing to text does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    (text, 0)
}

fn lines(text: &str) -> String {
    text.split("\r\n").map(escape_lines).collect::<Vec<_>>().join("\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_does_not_depend_on_the_chunks() {
        let file = b"email,n\xc3\xb6te\r\na,\x1b[2J\r\rb\n\xff\xe2\x80\xae,\xc2\x9b\tc\r\n\r\xe2\x80";
        let expected = "email,nöte\r\na,\\u{1b}[2J\\r\\rb\n\\xff\\u{202e},\\u{9b}\tc\r\n\\r\\xe2\\x80";
        for size in 1..=file.len() {
            let mut content = TerminalText::default();
            let mut text: String = file.chunks(size).map(|piece| content.push(piece)).collect();
            text += &content.finish();
            assert_eq!(text, expected, "in pieces of {size}");
        }
    }
}
