//! A form is read the same however its bytes are split, and is never buffered whole.
//!
//! `cargo +nightly fuzz run multipart_parse fuzz/corpus/multipart_parse fuzz/seeds/multipart_parse -- -max_total_time=60`
//!
//! The first byte of an input is the size of the pushes, the next line the Content-Type. The rest is the body.
#![no_main]

use axum::http::Uri;
use libfuzzer_sys::fuzz_target;
use marqueue::api::marketo_compat::take_from_query;
use marqueue::form::{FormEvent, FormError, FormReader, PartHead};

fuzz_target!(|input: &[u8]| {
    let [size, rest @ ..] = input else { return };
    let Some(end) = rest.iter().position(|&byte| byte == b'\n') else { return };
    let Ok(kind) = std::str::from_utf8(&rest[..end]) else { return };
    let body = &rest[end + 1..];
    let pieces = read(kind, body, usize::from(*size).max(1));
    let whole = read(kind, body, body.len().max(1));
    // Where one is at fault so is the other. Which limit it meets first may depend on how much comes at once.
    assert_eq!(pieces.is_ok(), whole.is_ok());
    if let (Ok(pieces), Ok(whole)) = (pieces, whole) {
        assert_eq!(pieces, whole, "chunking changes nothing");
        let content: usize = whole.iter().map(|(_, content)| content.len()).sum();
        assert!(content <= body.len());
        // The closing dashes of the last boundary may be missing, and nothing else of it.
        if !whole.is_empty()
            && let Some(unclosed) = body.strip_suffix(b"--")
            && let Ok(parts) = read(kind, unclosed, usize::from(*size).max(1))
        {
            assert_eq!(parts, whole, "closing dashes change nothing");
        }
    }
    // Whatever the query, its tokens are taken out and nothing else is.
    if let Ok(uri) = format!("/bulk/v1/leads.json?{kind}").parse::<Uri>() {
        let pairs = |uri: &Uri| {
            let query = uri.query().unwrap_or_default().as_bytes().to_vec();
            url::form_urlencoded::parse(&query).into_owned().collect::<Vec<_>>()
        };
        let mut expected = pairs(&uri);
        expected.retain(|(name, _)| name != "access_token");
        let rest = take_from_query(uri).uri;
        assert_eq!((rest.path(), pairs(&rest)), ("/bulk/v1/leads.json", expected));
    }
});

fn read(kind: &str, body: &[u8], size: usize) -> Result<Vec<(PartHead, Vec<u8>)>, FormError> {
    let mut reader = FormReader::new(kind)?;
    let mut parts = Vec::new();
    let mut pieces = body.chunks(size);
    loop {
        match reader.next_event()? {
            Some(FormEvent::Head(head)) => parts.push((head, Vec::new())),
            Some(FormEvent::Content(bytes)) => {
                parts.last_mut().expect("content comes behind a head").1.extend_from_slice(&bytes);
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
