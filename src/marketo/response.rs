//! Responses: reads Marketo's JSON bodies, and turns refusals into messages.

use reqwest::Response;

use crate::byte_order_mark::{BYTE_ORDER_MARK, without_mark};
use crate::domain::{ErrorCode, FailureReason};
use crate::marketo::outbound::read_body;
use crate::marketo::types::{Envelope, Import};
use crate::untrusted_text::{MAX_ID_BYTES, clip, mask_addresses, remark};

/// The maximum length of a JSON body in bytes; more than any of Marketo's has. A longer one is not read to its end.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;

/// The maximum length of leading white space in bytes; more than any response has.
const MAX_BLANK_BYTES: usize = 4096;

/// A response whose body was read.
pub(super) struct ApiResponse {
    pub http: u16,
    pub envelope: Option<Envelope<Import>>,
    /// The message for a response without an envelope.
    pub excerpt: FailureReason,
}

/// Reads the body of a response.
pub(super) async fn read(response: Response) -> ApiResponse {
    read_rest(response, Vec::new()).await
}

/// Reads the rest of a body; `begins` is the part that has arrived.
pub(super) async fn read_rest(mut response: Response, begins: Vec<u8>) -> ApiResponse {
    let http = response.status().as_u16();
    let body = read_body(&mut response, begins, MAX_RESPONSE_BYTES).await;
    let text = match &body {
        Err(error) => format!("HTTP {http}, and reading the body failed: {error}"),
        Ok(body) if body.is_empty() => format!("HTTP {http} with an empty body"),
        Ok(_) => format!("HTTP {http} with a body that is not Marketo's"),
    };
    let excerpt = FailureReason { code: Some(ErrorCode::Http(http)), text };
    ApiResponse { http, envelope: body.ok().and_then(|body| read_envelope(&body)), excerpt }
}

/// Parses a body, and returns none where it is not one of Marketo's: an object with a boolean `success`.
///
/// Public for the fuzzers, which check that it returns for any bytes.
pub fn read_envelope(body: &[u8]) -> Option<Envelope<Import>> {
    let value: serde_json::Value = serde_json::from_slice(without_mark(body)).ok()?;
    value.get("success")?.as_bool()?;
    let mut envelope: Envelope<Import> = serde_json::from_value(value).ok()?;
    clip_messages(&mut envelope);
    Some(envelope)
}

/// Clips the texts of a response that are kept. The errors are clipped in [`refusal_reason`], after they were
/// classified.
fn clip_messages(envelope: &mut Envelope<Import>) {
    let clipped = |text: &str| clip(&mask_addresses(text), MAX_ID_BYTES).into_owned();
    envelope.request_id = envelope.request_id.as_deref().map(clipped);
    for import in &mut envelope.result {
        import.status = clipped(&import.status);
        import.message = import.message.as_deref().map(remark);
    }
}

/// Returns whether the response to a request for a file is a file, by its Content-Type and its first bytes; none where
/// more bytes are needed.
///
/// An envelope or a proxy's page may have any Content-Type, so the first bytes are checked too: a header line never
/// begins with a brace, a bracket or a `<`.
///
/// Public for the fuzzers, which check that no envelope is taken for a file.
pub fn is_file(content_type: Option<&str>, begins: &[u8]) -> Option<bool> {
    let kind = content_type.unwrap_or_default().to_ascii_lowercase();
    if kind.contains("json") || kind.contains("html") {
        return Some(false);
    }
    let text = without_mark(begins).trim_ascii_start();
    match text.first() {
        Some(_) if text.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(text) => None,
        Some(first) => Some(!b"{[<".contains(first)),
        None if begins.len() > MAX_BLANK_BYTES => Some(false),
        None => None,
    }
}

/// Returns Marketo's error messages with their codes, clipped and without e-mail addresses, and the code of the first.
pub(super) fn refusal_reason(http: u16, envelope: &Envelope<Import>) -> FailureReason {
    let Some(first) = envelope.errors.first() else {
        let text = format!("HTTP {http}: Marketo gave no reason");
        return FailureReason { code: Some(ErrorCode::Http(http)), text };
    };
    let messages: Vec<String> = envelope
        .errors
        .iter()
        .map(|error| match &error.code {
            Some(code) => format!("{code}: {}", error.message),
            None => error.message.clone(),
        })
        .collect();
    FailureReason { code: first.code.as_deref().and_then(ErrorCode::from_marketo), text: remark(&messages.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_possible_file_is_classified_as_a_file() {
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
            assert!(shorter.clone().all(|success| success != Some(true)), "{}", String::from_utf8_lossy(begins));
        }
        assert_eq!(is_file(Some("Application/JSON"), b"email\n"), Some(false));
        assert_eq!(is_file(Some("text/html"), b""), Some(false));
    }

    #[test]
    fn stored_response_texts_are_clipped_and_masked() {
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
        let FailureReason { code, text } = refusal_reason(200, &envelope);
        assert_eq!(code, Some(ErrorCode::Marketo(1006)));
        assert!(text.starts_with("1006: Field '***@***' not found; xx") && text.len() < 2_100, "{text}");
        // Errors are classified by their whole text.
        assert_eq!(envelope.errors[1].message.len(), 500_000);
    }

    #[test]
    fn only_an_object_with_success_is_an_envelope() {
        assert!(read_envelope(br#"{"requestId":"1","success":true,"result":[]}"#).is_some());
        assert!(read_envelope(b"\xef\xbb\xbf{\"success\":false}").is_some());
        for body in [&b""[..], b"null", b"[]", b"{}", br#"{"success":"yes"}"#, br#"{"success":true"#, b"<html>"] {
            assert!(read_envelope(body).is_none(), "{}", String::from_utf8_lossy(body));
        }
    }
}
