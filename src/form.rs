//! Reader of `multipart/form-data` (RFC 7578): takes a form's bytes as they come and gives its parts as events.
//!
//! The reader that comes with the HTTP server takes in whatever is at hand before it looks at it, and gathers a part's
//! head, or what stands before the first part, until that ends. From a fast sender, or one without ends, that is memory
//! without a limit, so the reading is done here: bytes in, events out, no socket. The Marketo-compatible API and the
//! simulator share it.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem::Finder;

/// Of a part's head, and of what stands before the first part.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_PREAMBLE_BYTES: usize = 64 * 1024;

/// RFC 2046 has boundaries of at most 70; some programs' are longer.
const MAX_BOUNDARY_BYTES: usize = 200;

/// Why a form can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    #[error("the Content-Type is not multipart/form-data")]
    NotAForm,
    #[error("the Content-Type names no boundary")]
    NoBoundary,
    #[error("what stands before the first part is too long")]
    LongPreamble,
    #[error("the head of a part is too long")]
    LongHead,
    #[error("the head of a part can't be read")]
    BadHead,
    #[error("a boundary is followed by something that does not belong there")]
    BadBoundary,
    #[error("a part is encoded as base64, which a form's parts must not be")]
    Encoded,
    #[error("the form ends before its last boundary")]
    CutOff,
}

/// What a form consists of, in this order: for each part its head, its content in any number of pieces, its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormEvent {
    Head(PartHead),
    Content(Bytes),
    PartEnd,
    /// The last boundary has come. What follows it is passed over.
    End,
}

/// What a part says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartHead {
    pub name: String,
    pub filename: Option<String>,
    pub content_type: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Preamble,
    /// Behind a boundary's text.
    Boundary,
    Head,
    Content,
    End,
}

/// Reads one form.
#[derive(Debug)]
pub struct FormReader {
    /// Finds `\r\n--boundary`.
    boundary: Finder<'static>,
    buffer: BytesMut,
    state: State,
    /// Bytes passed over before the first part.
    passed: usize,
    /// A part has ended.
    has_parts: bool,
    over: bool,
}

impl FormReader {
    /// # Errors
    /// [`FormFault::NotAForm`] and [`FormFault::NoBoundary`].
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
        // The first boundary may be the first line, without a line end before it: so one is put there.
        Ok(FormReader {
            boundary,
            buffer: b"\r\n"[..].into(),
            state: State::Preamble,
            passed: 0,
            has_parts: false,
            over: false,
        })
    }

    /// The next bytes of the form, once [`FormReader::next_event`] has nothing left.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The last boundary has come.
    pub fn has_ended(&self) -> bool {
        self.state == State::End
    }

    /// No more bytes will come.
    pub fn finish(&mut self) {
        self.over = true;
    }

    /// The next event; none where more bytes are needed, and after the end.
    ///
    /// # Errors
    /// [`FormFault`]; the reader is of no more use then.
    pub fn next_event(&mut self) -> Result<Option<FormEvent>, FormError> {
        loop {
            let (state, event) = match self.state {
                State::Preamble => match self.boundary.find(&self.buffer) {
                    Some(at) if self.passed + at > MAX_PREAMBLE_BYTES => return Err(FormError::LongPreamble),
                    Some(at) => {
                        self.buffer.advance(at + self.boundary.needle().len());
                        (State::Boundary, None)
                    }
                    None => {
                        let passed = self.surely_content();
                        self.buffer.advance(passed);
                        self.passed += passed;
                        if self.passed > MAX_PREAMBLE_BYTES {
                            return Err(FormError::LongPreamble);
                        }
                        return self.more();
                    }
                },
                State::Boundary => match behind_boundary(&self.buffer)? {
                    Some((length, true)) => {
                        self.buffer.advance(length);
                        (State::End, Some(FormEvent::End))
                    }
                    Some((length, false)) => {
                        self.buffer.advance(length);
                        (State::Head, None)
                    }
                    None if self.ends_here() => (State::End, Some(FormEvent::End)),
                    None => return self.more(),
                },
                State::Head if self.buffer.is_empty() && self.ends_here() => (State::End, Some(FormEvent::End)),
                State::Head => match head_length(&self.buffer) {
                    Some(length) if length <= MAX_HEAD_BYTES => {
                        let head = self.buffer.split_to(length);
                        (State::Content, Some(FormEvent::Head(head_of(&head)?)))
                    }
                    None if self.buffer.len() <= MAX_HEAD_BYTES => return self.more(),
                    _ => return Err(FormError::LongHead),
                },
                State::Content => match self.boundary.find(&self.buffer) {
                    Some(0) => {
                        self.buffer.advance(self.boundary.needle().len());
                        self.has_parts = true;
                        (State::Boundary, Some(FormEvent::PartEnd))
                    }
                    Some(at) => (State::Content, Some(FormEvent::Content(self.buffer.split_to(at).freeze()))),
                    None => match self.surely_content() {
                        0 => return self.more(),
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

    /// How much of the buffer can't belong to a boundary that is yet to come, whatever comes. It holds none by now.
    fn surely_content(&self) -> usize {
        let needle = self.boundary.needle();
        let from = self.buffer.len().saturating_sub(needle.len() - 1);
        let begins = |at: &usize| needle.starts_with(&self.buffer[*at..]);
        (from..self.buffer.len()).find(begins).unwrap_or(self.buffer.len())
    }

    /// The body ends behind a boundary that lacks its closing `--`, as that of Talend and of Adobe's Java sample does. It
    /// is complete: a body that was cut off is an error of the connection, and one that ends elsewhere is none.
    fn ends_here(&self) -> bool {
        self.over && self.has_parts && self.buffer.iter().all(|byte| matches!(byte, b' ' | b'\t'))
    }

    fn more(&self) -> Result<Option<FormEvent>, FormError> {
        if self.over { Err(FormError::CutOff) } else { Ok(None) }
    }
}

/// How long what ends a boundary's line is, and whether the boundary is the last.
fn behind_boundary(bytes: &[u8]) -> Result<Option<(usize, bool)>, FormError> {
    if bytes.starts_with(b"--") {
        return Ok(Some((2, true)));
    }
    let padding = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match &bytes[padding..] {
        _ if padding > MAX_HEAD_BYTES => Err(FormError::LongHead),
        [b'\r', b'\n', ..] => Ok(Some((padding + 2, false))),
        [] | [b'\r'] => Ok(None),
        [b'-'] if padding == 0 => Ok(None),
        _ => Err(FormError::BadBoundary),
    }
}

/// The length of a part's head, the blank line at its end included.
fn head_length(bytes: &[u8]) -> Option<usize> {
    // A head may be nothing but its end.
    if bytes.starts_with(b"\r\n") {
        return Some(2);
    }
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

fn head_of(bytes: &[u8]) -> Result<PartHead, FormError> {
    // A name in another encoding is replaced, and then matches none that we know.
    let text = String::from_utf8_lossy(bytes);
    let (mut head, mut content_type) = (None, None);
    for line in unfolded(&text) {
        let (name, value) = line.split_once(':').ok_or(FormError::BadHead)?;
        let name = name.trim();
        if name.eq_ignore_ascii_case("content-disposition") {
            let (kind, parameters) = value.split_once(';').ok_or(FormError::BadHead)?;
            // Of two, another reader may take the other.
            if !kind.trim().eq_ignore_ascii_case("form-data") || head.is_some() {
                return Err(FormError::BadHead);
            }
            head = Some(PartHead {
                name: parameter(parameters, "name").ok_or(FormError::BadHead)?,
                filename: parameter(parameters, "filename")
                    .or_else(|| encoded(parameters))
                    .or_else(|| continued(parameters)),
                content_type: None,
            });
        } else if name.eq_ignore_ascii_case("content-type") {
            content_type = Some(value.trim().to_owned());
        } else if name.eq_ignore_ascii_case("content-transfer-encoding") && value.trim().eq_ignore_ascii_case("base64")
        {
            // Forms have no such encoding (RFC 7578, section 4.7). Taken as it is, the file would be rows of nonsense.
            return Err(FormError::Encoded);
        }
    }
    Ok(PartHead { content_type, ..head.unwrap_or_default() })
}

/// The lines of a head, those that were folded (RFC 5322, section 2.2.3) made one again: Python's `email` folds long ones.
fn unfolded(head: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in head.split("\r\n").filter(|line| !line.is_empty()) {
        match lines.last_mut() {
            Some(before) if line.starts_with([' ', '\t']) => before.push_str(line),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

/// `filename*=UTF-8''na%C3%AFve.csv`, which forms must not have and some have.
fn encoded(parameters: &str) -> Option<String> {
    let value = parameter(parameters, "filename*")?;
    let name = value.split('\'').nth(2)?;
    Some(percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned())
}

/// `filename*0="long"; filename*1*=%20name`: a name in pieces (RFC 2231, section 3), as Python's `email` cuts a long one.
fn continued(parameters: &str) -> Option<String> {
    let mut name = String::new();
    for piece in 0.. {
        if let Some(plain) = parameter(parameters, &format!("filename*{piece}")) {
            name += &plain;
            continue;
        }
        let Some(value) = parameter(parameters, &format!("filename*{piece}*")) else { break };
        // The first says which encoding it is, and in which language.
        let value = if piece == 0 { value.split('\'').nth(2).unwrap_or_default() } else { &value };
        name += &percent_encoding::percent_decode_str(value).decode_utf8_lossy();
    }
    (!name.is_empty()).then_some(name)
}

/// The value of `; name=value` or `; name="value"`. Within quotes `\"` is a quote; any other backslash is one, since the
/// names of files that some systems send have them.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([';', ' ', '\t']);
        let (name, behind) = rest.split_once('=')?;
        let mut value = String::new();
        if let Some(quoted) = behind.trim_start().strip_prefix('"') {
            let mut letters = quoted.chars();
            loop {
                match letters.next()? {
                    '"' => break,
                    '\\' if letters.as_str().starts_with('"') => value.extend(letters.next()),
                    letter => value.push(letter),
                }
            }
            rest = letters.as_str();
        } else {
            let end = behind.find(';').unwrap_or(behind.len());
            value.push_str(behind[..end].trim());
            rest = &behind[end..];
        }
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "multipart/form-data; boundary=XYZ";

    /// The parts of a form that comes in pieces of `size` bytes: name, filename, content.
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

    /// The same however the bytes come.
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
    fn fields_and_files_come_as_they_were_sent() {
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
    fn text_around_the_outer_boundaries_is_ignored() {
        let field = "--XYZ\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--XYZ--";
        for (before, behind) in [("", ""), ("\r\n", "\r\n"), ("a preamble\r\n", "--XYZ\r\nnonsense"), ("--XY\r\n", "x")]
        {
            assert_eq!(read(&format!("{before}{field}{behind}")).unwrap(), [part("a", None, "1")], "{before}|{behind}");
        }
        assert_eq!(read("--XYZ--").unwrap(), []);
    }

    #[test]
    fn a_form_without_its_end_is_cut_off() {
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
    fn what_is_no_form_is_said_to_be_none() {
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
    fn a_boundary_may_stand_in_quotes_beside_other_parameters() {
        for kind in [
            "Multipart/Form-Data; charset=utf-8; boundary=\"XYZ\"",
            "multipart/form-data;boundary=XYZ;charset=utf-8",
            "multipart/form-data; Boundary=XYZ",
        ] {
            assert_eq!(parts(kind, b"--XYZ--", 99).unwrap(), [], "{kind}");
        }
    }

    #[test]
    fn file_names_may_hold_quotes_backslashes_and_unicode() {
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
    fn a_limit_is_the_same_however_the_bytes_come() {
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
    fn nothing_without_an_end_is_gathered() {
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
    fn content_is_passed_on_as_it_comes_and_not_held() {
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
