//! Request line repair: replaces blanks in a request's query before the HTTP library parses it.
//!
//! Java's `HttpURLConnection` sends an address unencoded, so Talend and programs after Adobe's samples send
//! `?programMemberStatus=On List`. The library answers such a line with 400, without a body and before any handler
//! runs.

use bytes::{Buf, BytesMut};
use memchr::{memchr, memrchr};

/// A longer line is passed on unchanged.
const MAX_LINE_BYTES: usize = 8 * 1024;

/// Buffers the first line of a request until it is complete, and writes `+` for each blank in its query.
///
/// Only bytes of a complete request line are changed, and none is added or removed: a request's boundaries stay as the
/// client and every proxy in between understood them.
#[derive(Debug, Default)]
pub(super) struct RequestLine {
    held: BytesMut,
    /// The line of the request under way is passed on, or ready in `held`.
    is_read: bool,
}

impl RequestLine {
    /// Prepares for the next request. Where some of it has arrived already, it is passed on unchanged.
    pub(super) fn reset(&mut self) {
        self.is_read = !self.held.is_empty();
    }

    /// Returns whether incoming bytes have to pass through [`RequestLine::push`].
    pub(super) fn is_wanted(&self) -> bool {
        !self.is_read
    }

    /// Adds bytes from the client.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        match memchr(b'\n', &self.held) {
            Some(end) => replace_blanks(&mut self.held[..end]),
            None if self.held.len() < MAX_LINE_BYTES => return,
            None => {}
        }
        self.is_read = true;
    }

    /// Records that no more bytes will arrive: the buffered ones are passed on.
    pub(super) fn finish(&mut self) {
        self.is_read = true;
    }

    /// Moves up to `max_bytes` ready bytes into `to`; returns false if there are none.
    pub(super) fn take(&mut self, max_bytes: usize, to: impl FnOnce(&[u8])) -> bool {
        let length = if self.is_read { self.held.len().min(max_bytes) } else { 0 };
        if length == 0 {
            return false;
        }
        to(&self.held[..length]);
        self.held.advance(length);
        if self.held.is_empty() {
            // The buffer is freed, because the connection may be idle for hours.
            self.held = BytesMut::new();
        }
        true
    }
}

/// Replaces each blank in the query of `line`, if it is a request line without its end.
fn replace_blanks(line: &mut [u8]) {
    let text = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(method_end) = memchr(b' ', text).filter(|&end| matches!(&text[..end], b"GET" | b"POST")) else { return };
    let Some(target_end) = memrchr(b' ', text).filter(|&end| end > method_end) else { return };
    if !matches!(&text[target_end..], b" HTTP/1.1" | b" HTTP/1.0") {
        return;
    }
    let target = &text[method_end + 1..target_end];
    let Some(query) =
        memchr(b'?', target).filter(|&query| target.starts_with(b"/") && !target[..query].contains(&b' '))
    else {
        return;
    };
    for byte in &mut line[method_end + 1 + query..target_end] {
        if *byte == b' ' {
            *byte = b'+';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(chunks: &[&str]) -> String {
        let (mut line, mut out) = (RequestLine::default(), Vec::new());
        for chunk in chunks {
            if line.is_wanted() {
                line.push(chunk.as_bytes());
            } else {
                while line.take(3, |bytes| out.extend_from_slice(bytes)) {}
                out.extend_from_slice(chunk.as_bytes());
            }
        }
        line.finish();
        while line.take(3, |bytes| out.extend_from_slice(bytes)) {}
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn blanks_in_the_query_become_pluses() {
        let rest = "Host: a b\r\n\r\nGET /?a b HTTP/1.1\r\n";
        for (line, expected) in [
            ("POST /m.json?s=On List HTTP/1.1\r\n", "POST /m.json?s=On+List HTTP/1.1\r\n"),
            ("GET /a?d=2017-01-01 00:00:00 &b= HTTP/1.0\n", "GET /a?d=2017-01-01+00:00:00+&b= HTTP/1.0\n"),
        ] {
            assert_eq!(passed(&[line, rest]), format!("{expected}{rest}"));
            assert_eq!(passed(&[&format!("{line}{rest}")]), format!("{expected}{rest}"));
            let bytes: Vec<String> = line.chars().map(String::from).collect();
            let bytes: Vec<&str> = bytes.iter().map(String::as_str).chain([rest]).collect();
            assert_eq!(passed(&bytes), format!("{expected}{rest}"));
        }
    }

    #[test]
    fn other_lines_are_not_changed() {
        for line in [
            "GET /a?b=c HTTP/1.1\r\n",
            "GET /a b?c=d HTTP/1.1\r\n",
            "GET a?b c HTTP/1.1\r\n",
            "GET  /a?b c HTTP/1.1\r\n",
            "GET /a?b c HTTP/2.0\r\n",
            "GET /a?b c\r\n",
            "X: GET /a?b c HTTP/1.1\r\n",
            "PUT /a?b c HTTP/1.1\r\n",
            "\r\n",
            "GET /a?b c HTTP/1.1",
        ] {
            assert_eq!(passed(&[line]), line);
        }
        let long = format!("GET /a?{} HTTP/1.1\r\n", "b ".repeat(MAX_LINE_BYTES));
        let pieces: Vec<&str> = long.as_bytes().chunks(1000).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
        assert_eq!(passed(&pieces), long);
    }
}
