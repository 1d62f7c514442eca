//! What did Marketo say? Its JSON answers read, and put into words where they are refusals.

use reqwest::Response;

use crate::marketo::outbound::read_body;
use crate::marketo::types::{Envelope, Import};
use crate::untrusted_text::{MAX_ID_BYTES, clip, mask_addresses, remark};

/// More than any of Marketo's JSON answers has; the rest of a longer one is not read.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;

/// A byte-order mark.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Nothing that anybody sends begins with more white space.
const MAX_BLANK_BYTES: usize = 4096;

/// An answer with its body read.
pub(super) struct ApiResponse {
    pub http: u16,
    pub envelope: Option<Envelope<Import>>,
    /// What to say of it where there is no envelope.
    pub excerpt: String,
}

pub(super) async fn read(answer: Response) -> ApiResponse {
    read_rest(answer, Vec::new()).await
}

/// Reads the rest of a body of which some has come.
pub(super) async fn read_rest(mut answer: Response, begins: Vec<u8>) -> ApiResponse {
    let http = answer.status().as_u16();
    let body = read_body(&mut answer, begins, MAX_RESPONSE_BYTES).await;
    let excerpt = match &body {
        Err(broken) => format!("HTTP {http}, and the answer broke off: {broken}"),
        Ok(body) if body.is_empty() => format!("HTTP {http} with an empty body"),
        Ok(_) => format!("HTTP {http} with a body that is none of Marketo's"),
    };
    ApiResponse { http, envelope: body.ok().and_then(|body| read_envelope(&body)), excerpt }
}

/// Reads a body that is one of Marketo's answers: an object that says whether it was a success.
///
/// Public to the fuzzers: whatever the bytes, it returns.
pub fn read_envelope(body: &[u8]) -> Option<Envelope<Import>> {
    let value: serde_json::Value = serde_json::from_slice(body.strip_prefix(BOM).unwrap_or(body)).ok()?;
    value.get("success")?.as_bool()?;
    let mut envelope: Envelope<Import> = serde_json::from_value(value).ok()?;
    clip_messages(&mut envelope);
    Some(envelope)
}

/// Clips what is kept of an answer. The errors are clipped where they are put into words, for what they ask is read first.
fn clip_messages(envelope: &mut Envelope<Import>) {
    let clipped = |text: &str| clip(&mask_addresses(text), MAX_ID_BYTES).into_owned();
    envelope.request_id = envelope.request_id.as_deref().map(clipped);
    for import in &mut envelope.result {
        import.status = clipped(&import.status);
        import.message = import.message.as_deref().map(remark);
    }
}

/// Whether an answer that was asked for as a file is one, by its Content-Type and by how it begins; none while more of it
/// has to come.
///
/// No file has the type of an envelope, or of a page of someone who stands between, and neither of them always has its
/// own: a header never begins with a brace, a bracket or a `<`.
///
/// Public to the fuzzers: no envelope may pass, however it comes.
pub fn is_file(content_type: Option<&str>, begins: &[u8]) -> Option<bool> {
    let kind = content_type.unwrap_or_default().to_ascii_lowercase();
    if kind.contains("json") || kind.contains("html") {
        return Some(false);
    }
    let text = begins.strip_prefix(BOM).unwrap_or(begins).trim_ascii_start();
    match text.first() {
        Some(_) if text.len() < BOM.len() && BOM.starts_with(text) => None,
        Some(first) => Some(!b"{[<".contains(first)),
        None if begins.len() > MAX_BLANK_BYTES => Some(false),
        None => None,
    }
}

/// Marketo's own words, with their codes; clipped, and without e-mail addresses.
pub(super) fn error_text(http: u16, envelope: &Envelope<Import>) -> String {
    let said: Vec<String> = envelope
        .errors
        .iter()
        .map(|error| match &error.code {
            Some(code) => format!("{code}: {}", error.message),
            None => error.message.clone(),
        })
        .collect();
    if said.is_empty() { format!("HTTP {http}: Marketo refused and did not say why") } else { remark(&said.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_a_file_is_taken_for_one() {
        assert_eq!(is_file(Some("text/csv;charset=UTF-8"), b"email,Import Failure Reason\n"), Some(true));
        assert_eq!(is_file(Some("text/csv"), b"\xef\xbb\xbfemail\n"), Some(true));
        assert_eq!(is_file(None, b""), None);
        assert_eq!(is_file(None, "\u{ef}tat,\u{f6}\n".as_bytes()), Some(true));
        assert_eq!(is_file(None, &[b' '; 5000]), Some(false));
        for begins in [
            &b"{\"success\":false}"[..],
            b" \r\n\t{\"success\":false}",
            b"\xef\xbb\xbf{\"success\":false}",
            b"<!DOCTYPE html>",
            b"\n<html>",
            b"[]",
        ] {
            assert_eq!(is_file(Some("text/csv"), begins), Some(false), "{}", String::from_utf8_lossy(begins));
            // However little of it comes first.
            let shorter = (0..begins.len()).map(|length| is_file(Some("text/csv"), &begins[..length]));
            assert!(shorter.clone().all(|said| said != Some(true)), "{}", String::from_utf8_lossy(begins));
        }
        assert_eq!(is_file(Some("Application/JSON"), b"email\n"), Some(false));
        assert_eq!(is_file(Some("text/html"), b""), Some(false));
    }

    #[test]
    fn what_is_kept_of_an_answer_is_bounded_and_names_nobody() {
        let long = "x".repeat(500_000);
        let body = serde_json::json!({
            "success": false, "requestId": long,
            "result": [{"batchId": 1, "status": long, "message": format!("a@example.com {long}")}],
            "errors": [{"code": "1006", "message": "Field 'b@example.com' not found"}, {"code": long, "message": long}],
        });
        let envelope = read_envelope(body.to_string().as_bytes()).unwrap();
        let request_id = envelope.request_id.clone().unwrap();
        assert!(request_id.len() < 250 && request_id.ends_with("(clipped: it had 500000 bytes)"), "{request_id}");
        assert!(envelope.result[0].status.len() < 250);
        let message = envelope.result[0].message.as_deref().unwrap();
        assert!(message.starts_with("***@*** xx") && message.len() < 2_100 && message.contains("clipped"), "{message}");
        let words = error_text(200, &envelope);
        assert!(words.starts_with("1006: Field '***@***' not found; xx") && words.len() < 2_100, "{words}");
        // What an error asks for is read in all of it.
        assert_eq!(envelope.errors[1].message.len(), 500_000);
    }

    #[test]
    fn only_an_object_that_says_whether_it_succeeded_is_an_answer() {
        assert!(read_envelope(br#"{"requestId":"1","success":true,"result":[]}"#).is_some());
        assert!(read_envelope(b"\xef\xbb\xbf{\"success\":false}").is_some());
        for body in [&b""[..], b"null", b"[]", b"{}", br#"{"success":"yes"}"#, br#"{"success":true"#, b"<html>"] {
            assert!(read_envelope(body).is_none(), "{}", String::from_utf8_lossy(body));
        }
    }
}
