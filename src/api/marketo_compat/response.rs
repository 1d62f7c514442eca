//! Responses in Marketo's shapes: the envelope with HTTP 200 for nearly everything, files, the few bare HTTP statuses,
//! and the request id of every response.

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

/// The longest id of a client that is used. It is logged, so a longer one is ignored.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Response to a call.
pub(super) enum CompatResponse {
    /// One import in an envelope.
    Import(Import),
    /// A failure or warning file.
    File(Body),
    /// An error.
    Refusal(CompatError),
}

/// Why a call was refused. It has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CompatError {
    http: StatusCode,
    code: u16,
    message: String,
}

impl CompatError {
    /// Makes an error with one of Marketo's codes, which has HTTP status 200.
    pub(super) fn new(code: u16, message: impl Into<String>) -> CompatError {
        CompatError { http: StatusCode::OK, code, message: message.into() }
    }

    /// Makes an error that is a bare HTTP status at Marketo: a file that is too large (413) or missing (404). The
    /// latter has no body, because programs would read it as the file.
    pub(super) fn bare(http: StatusCode) -> CompatError {
        let message = http.canonical_reason().unwrap_or("Error").to_owned();
        CompatError { http, code: http.as_u16(), message }
    }

    /// Makes the error of a path that does not exist.
    pub(super) fn not_found() -> CompatError {
        CompatError::new(610, "Requested resource not found")
    }

    /// Returns Marketo's code.
    pub(super) fn code(&self) -> u16 {
        self.code
    }

    /// Makes the error of a failed database. Programs retry after 608, which is right for a full disk and for a daemon
    /// that is stopping. The latter may have accepted the file already. It is then imported twice, which updates the
    /// same records.
    pub(super) fn of_store(error: StoreError, not_found: impl FnOnce() -> CompatError) -> CompatError {
        match error {
            StoreError::NoJob(_) => not_found(),
            error => {
                tracing::error!(%error, "call failed: the database returned an error");
                CompatError::new(608, "API Temporarily Unavailable")
            }
        }
    }
}

/// Id of a request: the one in Marketo's form, and the client's own.
pub(super) struct RequestId {
    own: String,
    of_client: Option<HeaderValue>,
}

impl RequestId {
    /// Makes an id of two hexadecimal numbers, as Marketo's are.
    pub(super) fn new() -> RequestId {
        let (short, long) = (rand::random::<u16>(), rand::random::<u64>() >> 20);
        RequestId { own: format!("{short:x}#{long:x}"), of_client: None }
    }

    /// Makes an id for a request with these headers.
    pub(super) fn of(headers: &HeaderMap) -> RequestId {
        let of_client = headers.get(X_REQUEST_ID).filter(|id| id.len() <= MAX_REQUEST_ID_BYTES && id.to_str().is_ok());
        RequestId { of_client: of_client.cloned(), ..RequestId::new() }
    }

    /// Makes a span that adds the ids to each log line in it.
    pub(super) fn span(&self) -> tracing::Span {
        let of_client = self.of_client.as_ref().and_then(|id| id.to_str().ok());
        // Of the highest level, so that the log filter never removes it.
        tracing::error_span!("call", request_id = %self.own, x_request_id = of_client)
    }

    /// Makes the HTTP response with this id.
    pub(super) fn on(self, response: CompatResponse) -> Response {
        let own = Some(self.own.clone());
        let (status, kind, body) = match response {
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
                return self.add_to(StatusCode::NOT_FOUND.into_response());
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
        self.add_to((status, [(CONTENT_TYPE, kind)], body).into_response())
    }

    /// Puts the client's id, or else the own one, into the header `X-Request-Id`: files and failed logins have no
    /// envelope.
    pub(super) fn add_to(self, mut response: Response) -> Response {
        if let Some(id) = self.of_client.or_else(|| HeaderValue::try_from(self.own).ok()) {
            response.headers_mut().insert(X_REQUEST_ID, id);
        }
        response
    }
}
