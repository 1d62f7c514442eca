//! What does an answer of Marketo's look like? Its envelope with HTTP 200 for nearly everything, its files, its few bare
//! statuses; and the id that every answer has.

use axum::Json;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::marketo::types::{ApiError, Envelope, Import};
use crate::store::StoreError;

const JSON: HeaderValue = HeaderValue::from_static("application/json;charset=UTF-8");
const CSV: HeaderValue = HeaderValue::from_static("text/csv;charset=UTF-8");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A longer id of a client's is left out: it goes into the log.
const MAX_REQUEST_ID_BYTES: usize = 128;

pub(super) enum CompatResponse {
    Import(Import),
    File(Body),
    Refusal(CompatError),
}

/// Why a call was not carried out. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CompatError {
    http: StatusCode,
    code: u16,
    message: String,
}

impl CompatError {
    /// One of Marketo's codes, with HTTP 200 as it has it.
    pub(super) fn new(code: u16, message: impl Into<String>) -> CompatError {
        CompatError { http: StatusCode::OK, code, message: message.into() }
    }

    /// One that is a bare HTTP status on Marketo: a file that is too large, or that there is not. Of the latter there is no
    /// body either, as programs read the one that there is.
    pub(super) fn bare(http: StatusCode) -> CompatError {
        let message = http.canonical_reason().unwrap_or("Error").to_owned();
        CompatError { http, code: http.as_u16(), message }
    }

    pub(super) fn code(&self) -> u16 {
        self.code
    }

    /// A program that is told 608 comes again, which is right for a full disk and for a daemon that is stopping. Of the
    /// latter it is not known whether it took the file; then it is imported twice, which updates what is there.
    pub(super) fn of_store(error: StoreError, not_found: impl FnOnce() -> CompatError) -> CompatError {
        match error {
            StoreError::NoJob(_) => not_found(),
            error => {
                tracing::error!(%error, "a call failed at the database");
                CompatError::new(608, "API Temporarily Unavailable")
            }
        }
    }
}

/// Marketo's name of one answer, and the client's own for its call.
pub(super) struct RequestId {
    own: String,
    given: Option<HeaderValue>,
}

impl RequestId {
    /// Two hexadecimal numbers, as Marketo's are.
    pub(super) fn new() -> RequestId {
        let (short, long) = (rand::random::<u16>(), rand::random::<u64>() >> 20);
        RequestId { own: format!("{short:x}#{long:x}"), given: None }
    }

    pub(super) fn of(headers: &HeaderMap) -> RequestId {
        let given = headers.get(X_REQUEST_ID).filter(|id| id.len() <= MAX_REQUEST_ID_BYTES && id.to_str().is_ok());
        RequestId { given: given.cloned(), ..RequestId::new() }
    }

    /// Each log line below it has the ids.
    pub(super) fn span(&self) -> tracing::Span {
        let given = self.given.as_ref().and_then(|id| id.to_str().ok());
        // Of the gravest level, so that it is there for whatever line is written.
        tracing::error_span!("call", request_id = %self.own, x_request_id = given)
    }

    pub(super) fn on(self, answer: CompatResponse) -> Response {
        let own = Some(self.own.clone());
        let (status, kind, body) = match answer {
            CompatResponse::File(body) => (StatusCode::OK, CSV, body),
            CompatResponse::Import(import) => {
                let success = Envelope {
                    request_id: own,
                    success: true,
                    result: vec![import],
                    errors: Vec::new(),
                    warnings: Vec::new(),
                };
                (StatusCode::OK, JSON, Json(success).into_response().into_body())
            }
            CompatResponse::Refusal(refusal) if refusal.http == StatusCode::NOT_FOUND => {
                return self.stamp(StatusCode::NOT_FOUND.into_response());
            }
            CompatResponse::Refusal(refusal) => {
                let error = ApiError { code: Some(refusal.code.to_string()), message: refusal.message };
                let failure: Envelope<Import> = Envelope {
                    request_id: own,
                    success: false,
                    result: Vec::new(),
                    errors: vec![error],
                    warnings: Vec::new(),
                };
                (refusal.http, JSON, Json(failure).into_response().into_body())
            }
        };
        self.stamp((status, [(CONTENT_TYPE, kind)], body).into_response())
    }

    /// Puts the client's id, or else ours, into the answer's head: files and refused logins have no other place for it.
    pub(super) fn stamp(self, mut response: Response) -> Response {
        if let Some(id) = self.given.or_else(|| HeaderValue::try_from(self.own).ok()) {
            response.headers_mut().insert(X_REQUEST_ID, id);
        }
        response
    }
}
