//! What did Marketo say? Its JSON answers read, and put into words where they are refusals.

use bytes::Bytes;
use reqwest::Response;

use super::cause::reason;
use super::wire::{Envelope, Import};

/// More than any of Marketo's JSON answers has; the rest of a longer one is not read.
const ANSWER_BYTES: usize = 1024 * 1024;

/// An answer with its body read.
pub(super) struct Answer {
    pub http: u16,
    pub envelope: Option<Envelope<Import>>,
    /// What to say of it where there is no envelope.
    pub excerpt: String,
}

pub(super) async fn read(answer: Response) -> Answer {
    read_on(answer, None).await
}

/// Reads the rest of a body of which `first` has come.
pub(super) async fn read_on(mut answer: Response, first: Option<Bytes>) -> Answer {
    let http = answer.status().as_u16();
    let mut body = first.map(Vec::from).unwrap_or_default();
    let broken = loop {
        match answer.chunk().await {
            Ok(Some(piece)) if body.len() + piece.len() <= ANSWER_BYTES => body.extend_from_slice(&piece),
            Ok(Some(_)) => break Some("its body is too long".to_owned()),
            Ok(None) => break None,
            Err(error) => break Some(reason(&error)),
        }
    };
    let envelope = match broken {
        None => read_envelope(&body),
        Some(_) => None,
    };
    let excerpt = match broken {
        Some(broken) => format!("HTTP {http}, and the answer broke off: {broken}"),
        None if body.is_empty() => format!("HTTP {http} with an empty body"),
        None => format!("HTTP {http} with a body that is none of Marketo's"),
    };
    Answer { http, envelope, excerpt }
}

/// Reads a body that is one of Marketo's answers: an object that says whether it was a success.
///
/// Public to the fuzzers: whatever the bytes, it returns.
pub fn read_envelope(body: &[u8]) -> Option<Envelope<Import>> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    value.get("success")?.as_bool()?;
    serde_json::from_value(value).ok()
}

/// Marketo's own words, with their codes.
pub(super) fn words(http: u16, envelope: &Envelope<Import>) -> String {
    let said: Vec<String> = envelope
        .errors
        .iter()
        .map(|error| match &error.code {
            Some(code) => format!("{code}: {}", error.message),
            None => error.message.clone(),
        })
        .collect();
    if said.is_empty() { format!("HTTP {http}: Marketo refused and did not say why") } else { said.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_object_that_says_whether_it_succeeded_is_an_answer() {
        assert!(read_envelope(br#"{"requestId":"1","success":true,"result":[]}"#).is_some());
        for body in [&b""[..], b"null", b"[]", b"{}", br#"{"success":"yes"}"#, br#"{"success":true"#, b"<html>"] {
            assert!(read_envelope(body).is_none(), "{}", String::from_utf8_lossy(body));
        }
    }
}
