//! Request bodies of the simulator: read as a whole, and parsed as a form.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use crate::form::{FormError, FormEvent, FormReader, PartHead};
use crate::simulator::create_request::FormPart;

/// A body as it was sent: whole, or only its length where it is longer than the limit.
pub(super) struct ReceivedBody {
    /// Empty where the body is too long.
    pub kept: Bytes,
    /// Length of the body in bytes.
    pub length: u64,
}

impl ReceivedBody {
    /// Reads a body to its end.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn read(body: Body, limit: u64) -> Result<ReceivedBody, axum::Error> {
        let (mut kept, mut length) = (Vec::new(), 0);
        let mut stream = body.into_data_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            length += chunk.len() as u64;
            if length <= limit {
                kept.extend_from_slice(&chunk);
            } else {
                kept = Vec::new();
            }
        }
        Ok(ReceivedBody { kept: kept.into(), length })
    }
}

/// Parses the pairs of a query or of an URL-encoded form.
pub(super) fn parse_pairs(text: &[u8]) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(text).into_owned().collect()
}

/// Parses the parts of a multipart form that has arrived as a whole.
///
/// # Errors
/// The body is not such a form.
pub(super) fn parse_form(headers: &HeaderMap, body: &[u8]) -> Result<Vec<FormPart>, FormError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let mut reader = FormReader::new(kind)?;
    reader.push(body);
    reader.finish();
    let (mut parts, mut content) = (Vec::new(), BytesMut::new());
    while let Some(event) = reader.next_event()? {
        match event {
            FormEvent::Head(PartHead { name, filename, content_type }) => {
                parts.push(FormPart { name, filename, content_type, bytes: Bytes::new() });
            }
            FormEvent::Content(bytes) => content.extend_from_slice(&bytes),
            FormEvent::PartEnd => {
                if let Some(part) = parts.last_mut() {
                    part.bytes = content.split().freeze();
                }
            }
            FormEvent::End => break,
        }
    }
    Ok(parts)
}
