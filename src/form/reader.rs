//! Form reader: takes the bytes of a form as they arrive, and returns the events of its parts.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem::Finder;

use crate::form::error::{FormError, MAX_HEAD_BYTES, MAX_PREAMBLE_BYTES};
use crate::form::part_head::{PartHead, parameter, parse_head};

/// The longest boundary. RFC 2046 allows 70 bytes; some programs send longer ones.
const MAX_BOUNDARY_BYTES: usize = 200;

/// An event of a form. Each part has its head, its content in any number of chunks, and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormEvent {
    /// A part begins.
    Head(PartHead),
    /// Content of the part, never empty.
    Content(Bytes),
    /// The part ends.
    PartEnd,
    /// The last boundary. What follows it is ignored.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Preamble,
    /// After a boundary's text, before its line end.
    Boundary,
    Head,
    Content,
    End,
}

/// Parser of one form.
#[derive(Debug)]
pub struct FormReader {
    /// Finds `\r\n--boundary`.
    boundary: Finder<'static>,
    buffer: BytesMut,
    state: State,
    /// Bytes of the preamble so far.
    preamble: usize,
    /// A part has ended.
    has_parts: bool,
    is_finished: bool,
}

impl FormReader {
    /// Makes a parser for a body with this `Content-Type`.
    ///
    /// # Errors
    /// [`FormError::NotAForm`] and [`FormError::NoBoundary`].
    pub fn new(content_type: &str) -> Result<FormReader, FormError> {
        let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return Err(FormError::NotAForm);
        }
        let boundary = parameter(parameters, "boundary").ok_or(FormError::NoBoundary)?;
        if !(1..=MAX_BOUNDARY_BYTES).contains(&boundary.len()) || boundary.contains(char::is_control) {
            return Err(FormError::NoBoundary);
        }
        let boundary = Finder::new(format!("\r\n--{boundary}").as_bytes()).into_owned();
        // The first boundary may be the first line. A line end is put before it, so that it is found like the others.
        Ok(FormReader {
            boundary,
            buffer: b"\r\n"[..].into(),
            state: State::Preamble,
            preamble: 0,
            has_parts: false,
            is_finished: false,
        })
    }

    /// Adds the next bytes of the form, once [`FormReader::next_event`] returns none.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns whether the last boundary was parsed.
    pub fn has_ended(&self) -> bool {
        self.state == State::End
    }

    /// Records that no more bytes will arrive.
    pub fn finish(&mut self) {
        self.is_finished = true;
    }

    /// Returns the next event; none where more bytes are needed, and after the end.
    ///
    /// # Errors
    /// [`FormError`]; the parser can't be used after that.
    pub fn next_event(&mut self) -> Result<Option<FormEvent>, FormError> {
        loop {
            let (state, event) = match self.state {
                State::Preamble => match self.boundary.find(&self.buffer) {
                    Some(at) if self.preamble + at > MAX_PREAMBLE_BYTES => return Err(FormError::LongPreamble),
                    Some(at) => {
                        self.buffer.advance(at + self.boundary.needle().len());
                        (State::Boundary, None)
                    }
                    None => {
                        let skipped = self.content_length();
                        self.buffer.advance(skipped);
                        self.preamble += skipped;
                        if self.preamble > MAX_PREAMBLE_BYTES {
                            return Err(FormError::LongPreamble);
                        }
                        return self.need_more();
                    }
                },
                State::Boundary => match boundary_end(&self.buffer)? {
                    Some(BoundaryEnd { length, next }) => {
                        self.buffer.advance(length);
                        (next, (next == State::End).then_some(FormEvent::End))
                    }
                    None if self.ends_without_dashes() => (State::End, Some(FormEvent::End)),
                    None => return self.need_more(),
                },
                State::Head if self.buffer.is_empty() && self.ends_without_dashes() => {
                    (State::End, Some(FormEvent::End))
                }
                State::Head => match head_length(&self.buffer) {
                    Some(length) if length <= MAX_HEAD_BYTES => {
                        let head = self.buffer.split_to(length);
                        (State::Content, Some(FormEvent::Head(parse_head(&head)?)))
                    }
                    None if self.buffer.len() <= MAX_HEAD_BYTES => return self.need_more(),
                    _ => return Err(FormError::LongHead),
                },
                State::Content => match self.boundary.find(&self.buffer) {
                    Some(0) => {
                        self.buffer.advance(self.boundary.needle().len());
                        self.has_parts = true;
                        (State::Boundary, Some(FormEvent::PartEnd))
                    }
                    Some(at) => (State::Content, Some(FormEvent::Content(self.buffer.split_to(at).freeze()))),
                    None => match self.content_length() {
                        0 => return self.need_more(),
                        length => (State::Content, Some(FormEvent::Content(self.buffer.split_to(length).freeze()))),
                    },
                },
                State::End => {
                    self.buffer.clear();
                    return Ok(None);
                }
            };
            self.state = state;
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Returns how many bytes of the buffer can't be the begin of a boundary. The buffer contains no whole one.
    fn content_length(&self) -> usize {
        let needle = self.boundary.needle();
        let from = self.buffer.len().saturating_sub(needle.len() - 1);
        let begins = |at: &usize| needle.starts_with(&self.buffer[*at..]);
        (from..self.buffer.len()).find(begins).unwrap_or(self.buffer.len())
    }

    /// Returns whether the body ends after a boundary without its closing `--`, as that of Talend and of Adobe's Java
    /// sample does. Such a form is complete: a truncated body would be an error of the connection.
    fn ends_without_dashes(&self) -> bool {
        self.is_finished && self.has_parts && self.buffer.iter().all(|byte| matches!(byte, b' ' | b'\t'))
    }

    fn need_more(&self) -> Result<Option<FormEvent>, FormError> {
        if self.is_finished { Err(FormError::CutOff) } else { Ok(None) }
    }
}

/// What follows the text of a boundary.
struct BoundaryEnd {
    /// The length in bytes.
    length: usize,
    /// The state after it: the head of another part, or the end of the form.
    next: State,
}

/// Returns what follows the text of a boundary; none where more bytes are needed.
fn boundary_end(bytes: &[u8]) -> Result<Option<BoundaryEnd>, FormError> {
    if bytes.starts_with(b"--") {
        return Ok(Some(BoundaryEnd { length: 2, next: State::End }));
    }
    let padding = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match &bytes[padding..] {
        _ if padding > MAX_HEAD_BYTES => Err(FormError::LongHead),
        [b'\r', b'\n', ..] => Ok(Some(BoundaryEnd { length: padding + 2, next: State::Head })),
        [] | [b'\r'] => Ok(None),
        [b'-'] if padding == 0 => Ok(None),
        _ => Err(FormError::BadBoundary),
    }
}

/// Returns the length of a part's head, with the empty line at its end.
fn head_length(bytes: &[u8]) -> Option<usize> {
    // A head may be only its end.
    if bytes.starts_with(b"\r\n") {
        return Some(2);
    }
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "multipart/form-data; boundary=XYZ";

    /// The parts of a form that arrives in chunks of `size` bytes: name, filename, content.
    fn parts(content_type: &str, body: &[u8], size: usize) -> Result<Vec<(String, Option<String>, String)>, FormError> {
        let mut reader = FormReader::new(content_type)?;
        let mut parts = Vec::new();
        let mut pieces = body.chunks(size);
        loop {
            match reader.next_event()? {
                Some(FormEvent::Head(head)) => parts.push((head.name, head.filename, String::new())),
                Some(FormEvent::Content(bytes)) => {
                    assert!(!bytes.is_empty());
                    parts.last_mut().unwrap().2.push_str(std::str::from_utf8(&bytes).unwrap());
                }
                Some(FormEvent::PartEnd) => {}
                Some(FormEvent::End) => return Ok(parts),
                None => match pieces.next() {
                    Some(piece) => reader.push(piece),
                    None => reader.finish(),
                },
            }
        }
    }

    /// Parses the body in chunks of several sizes, which must not matter.
    fn read(body: &str) -> Result<Vec<(String, Option<String>, String)>, FormError> {
        let whole = parts(KIND, body.as_bytes(), body.len().max(1));
        for size in [1, 2, 3, 7, 16] {
            assert_eq!(parts(KIND, body.as_bytes(), size), whole, "by {size}");
        }
        whole
    }

    fn part(name: &str, filename: Option<&str>, content: &str) -> (String, Option<String>, String) {
        (name.into(), filename.map(Into::into), content.into())
    }

    #[test]
    fn fields_and_files_are_parsed_as_sent() {
        let body = "--XYZ\r\nContent-Disposition: form-data; name=\"format\"\r\n\r\ncsv\r\n\
                    --XYZ\r\ncontent-disposition:form-data;filename=a.csv; name=file\r\nContent-Type: text/csv\r\n\r\n\
                    email\r\n--XY\r\n-\r\n\r\n--XYZ \t\r\nContent-Disposition: form-data; name=empty\r\n\r\n\r\n--XYZ--\r\n";
        assert_eq!(
            read(body).unwrap(),
            [
                part("format", None, "csv"),
                part("file", Some("a.csv"), "email\r\n--XY\r\n-\r\n"),
                part("empty", None, "")
            ]
        );
    }

    #[test]
    fn preamble_and_epilogue_are_ignored() {
        let field = "--XYZ\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--XYZ--";
        for (before, behind) in [("", ""), ("\r\n", "\r\n"), ("a preamble\r\n", "--XYZ\r\nnonsense"), ("--XY\r\n", "x")]
        {
            assert_eq!(read(&format!("{before}{field}{behind}")).unwrap(), [part("a", None, "1")], "{before}|{behind}");
        }
        assert_eq!(read("--XYZ--").unwrap(), []);
    }

    #[test]
    fn a_truncated_form_is_refused() {
        let whole = "--XYZ\r\nContent-Disposition: form-data; name=a\r\n\r\nvalue\r\n--XYZ--";
        let without_dashes = whole.len() - 2;
        for length in (0..whole.len()).filter(|&length| length != without_dashes) {
            assert_eq!(read(&whole[..length]), Err(FormError::CutOff), "{:?}", &whole[..length]);
        }
    }

    #[test]
    fn a_last_boundary_may_lack_its_closing_dashes() {
        let parts = "--XYZ\r\nContent-Disposition: form-data; name=a\r\n\r\nvalue\r\n\
                     --XYZ\r\nContent-Disposition: form-data; name=file\r\n\r\nrow\r\n\r\n--XYZ";
        for end in ["", " ", "\t ", "\r\n", " \r\n"] {
            let expected = [part("a", None, "value"), part("file", None, "row\r\n")];
            assert_eq!(read(&format!("{parts}{end}")).unwrap(), expected, "{end:?}");
        }
        for end in ["-", "\r", "\r\n\r\n", "\r\nX", " -", "X", "-X", "\n"] {
            read(&format!("{parts}{end}")).expect_err(end);
        }
        // Without a part before it no boundary is the last.
        for body in ["--XYZ", "--XYZ\r\n", "a preamble\r\n--XYZ"] {
            assert_eq!(read(body), Err(FormError::CutOff), "{body:?}");
        }
    }

    #[test]
    fn a_head_may_be_folded() {
        for head in [
            "Content-Disposition: form-data; name=\"file\";\r\n filename=\"a.csv\"",
            "Content-Disposition:\r\n\tform-data;\r\n\t name=file;\r\n  filename=a.csv\r\nMIME-Version: 1.0",
            "Content-Type: text/csv;\r\n charset=\"utf-8\"\r\ncontent-disposition: form-data;\r\n name=file; filename=a.csv",
            "Content-Transfer-Encoding: 7bit\r\nContent-Disposition: form-data; name=file; filename*0=a; filename*1=.csv",
        ] {
            let body = format!("--XYZ\r\n{head}\r\n\r\nrow\r\n--XYZ--");
            assert_eq!(read(&body).unwrap(), [part("file", Some("a.csv"), "row")], "{head}");
        }
        let long = "filename*0*=utf-8''gr%C3%B6;\r\n filename*1*=%C3%9Fe;\r\n filename*2=\".csv\"";
        let body = format!("--XYZ\r\nContent-Disposition: form-data; name=\"file\";\r\n {long}\r\n\r\n\r\n--XYZ--");
        assert_eq!(read(&body).unwrap(), [part("file", Some("größe.csv"), "")]);
    }

    #[test]
    fn invalid_forms_are_refused() {
        for (body, fault) in [
            ("--XYZ\r\n\r\n--XYZ--", FormError::CutOff),
            ("--XYZnext\r\n", FormError::BadBoundary),
            ("--XYZ-\r\n", FormError::BadBoundary),
            ("--XYZ\n", FormError::BadBoundary),
            ("--XYZ\r\nno header\r\n\r\n", FormError::BadHead),
            ("--XYZ\r\nContent-Disposition: form-data\r\n\r\n", FormError::BadHead),
            ("--XYZ\r\nContent-Disposition: form-data; filename=x\r\n\r\n", FormError::BadHead),
            ("--XYZ\r\nContent-Disposition: attachment; name=x\r\n\r\n", FormError::BadHead),
            ("--XYZ\r\nContent-Disposition: form-data;\r\nname=x\r\n\r\n", FormError::BadHead),
            (
                "--XYZ\r\nContent-Disposition: form-data; name=x\r\nContent-Disposition: form-data; name=y\r\n\r\n",
                FormError::BadHead,
            ),
            (
                "--XYZ\r\nContent-Transfer-Encoding: Base64\r\nContent-Disposition: form-data; name=x\r\n\r\n",
                FormError::Encoded,
            ),
            ("--XYZ\r\nContent-Disposition: form-data; name=\"x\r\n\r\n", FormError::BadHead),
        ] {
            assert_eq!(read(body), Err(fault), "{body:?}");
        }
        for (kind, fault) in [
            ("text/csv", FormError::NotAForm),
            ("multipart/mixed; boundary=x", FormError::NotAForm),
            ("", FormError::NotAForm),
            ("multipart/form-data", FormError::NoBoundary),
            ("multipart/form-data; boundary=", FormError::NoBoundary),
            ("multipart/form-data; boundary=\"\"", FormError::NoBoundary),
            ("multipart/form-data; charset=x", FormError::NoBoundary),
        ] {
            assert_eq!(FormReader::new(kind).err(), Some(fault), "{kind}");
        }
        assert_eq!(FormReader::new(&format!("{KIND}{}", "x".repeat(200))).err(), Some(FormError::NoBoundary));
    }

    #[test]
    fn a_boundary_may_be_quoted_beside_other_parameters() {
        for kind in [
            "Multipart/Form-Data; charset=utf-8; boundary=\"XYZ\"",
            "multipart/form-data;boundary=XYZ;charset=utf-8",
            "multipart/form-data; Boundary=XYZ",
        ] {
            assert_eq!(parts(kind, b"--XYZ--", 99).unwrap(), [], "{kind}");
        }
    }

    #[test]
    fn file_names_may_have_quotes_backslashes_and_any_alphabet() {
        for (sent, name) in [
            (r#"filename="a \"b\".csv""#, r#"a "b".csv"#),
            (r#"filename="C:\new\x.csv""#, r"C:\new\x.csv"),
            ("filename=\"größe.csv\"", "größe.csv"),
            ("filename*=UTF-8''gr%C3%B6%C3%9Fe.csv", "größe.csv"),
            ("filename=\"a;b=c.csv\"", "a;b=c.csv"),
            ("filename=plain.csv", "plain.csv"),
        ] {
            let body = format!("--XYZ\r\nContent-Disposition: form-data; name=\"file\"; {sent}\r\n\r\n\r\n--XYZ--");
            assert_eq!(read(&body).unwrap(), [part("file", Some(name), "")], "{sent}");
        }
    }

    #[test]
    fn limits_do_not_depend_on_the_chunks() {
        for (longest, fits) in [(MAX_PREAMBLE_BYTES, true), (MAX_PREAMBLE_BYTES + 1, false)] {
            // The line end that is put before the first line counts too.
            let body = format!("{}\r\n--XYZ--", "x".repeat(longest - 2));
            assert_eq!(read(&body).is_ok(), fits, "preamble of {longest}");
        }
        let frame = "Content-Disposition: form-data; name=a; x=\r\n\r\n";
        for (longest, fits) in [(MAX_HEAD_BYTES, true), (MAX_HEAD_BYTES + 1, false)] {
            let head = frame.replace("x=", &format!("x={}", "y".repeat(longest - frame.len())));
            assert_eq!(read(&format!("--XYZ\r\n{head}\r\n--XYZ--")).is_ok(), fits, "head of {longest}");
        }
    }

    #[test]
    fn endless_heads_and_preambles_are_not_buffered() {
        let mut reader = FormReader::new(KIND).unwrap();
        let mut pushed = 0;
        let fault = loop {
            match reader.next_event() {
                Ok(None) => reader.push(&[b'x'; 1000]),
                Ok(Some(event)) => panic!("{event:?}"),
                Err(fault) => break fault,
            }
            pushed += 1000;
            assert!(pushed < 100_000 && reader.buffer.len() < 2000, "{pushed}");
        };
        assert_eq!(fault, FormError::LongPreamble);
        for head in ["--XYZ\r\nX: ", "--XYZ "] {
            let mut reader = FormReader::new(KIND).unwrap();
            reader.push(head.as_bytes());
            let fault = loop {
                match reader.next_event() {
                    Ok(None) => reader.push(&[b' '; 1000]),
                    Ok(Some(event)) => panic!("{event:?}"),
                    Err(fault) => break fault,
                }
                assert!(reader.buffer.len() < 40_000);
            };
            assert_eq!(fault, FormError::LongHead, "{head}");
        }
    }

    #[test]
    fn content_is_passed_on_at_once() {
        let mut reader = FormReader::new(KIND).unwrap();
        reader.push(b"--XYZ\r\nContent-Disposition: form-data; name=file\r\n\r\n");
        assert!(matches!(reader.next_event(), Ok(Some(FormEvent::Head(_)))));
        for _ in 0..1000 {
            reader.push(&[b'\r'; 1000]);
            while reader.next_event().unwrap().is_some() {}
            assert!(reader.buffer.len() < 8, "{}", reader.buffer.len());
        }
    }
}
