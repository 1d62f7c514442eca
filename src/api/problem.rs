//! Error responses as problem documents (RFC 9457), and the extractors that answer with them.

use axum::Json;
use axum::extract::{FromRequestParts, Request};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use crate::api::dto::Problem;
use crate::delimited::{FailedRowError, JoinError};
use crate::domain::{JobId, ParseEnumError, SubmissionChannel};
use crate::error_chain::innermost;
use crate::intake::IntakeError;
use crate::store::StoreError;

const KIND_PREFIX: &str = "urn:marqueue:problem:";

const TOO_MANY_WAITING: &str = "too-many-waiting";

/// Value of `Retry-After`, in seconds.
const RETRY_AFTER_SECONDS: u16 = 2;

impl Problem {
    /// Makes a problem whose status says enough.
    pub(super) fn plain(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("Error").into(),
            status: status.as_u16(),
            detail: detail.into(),
        }
    }

    /// Makes a problem with a type of its own, which programs can distinguish from others of the same status.
    pub(super) fn of_kind(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Problem {
        Problem {
            kind: format!("{KIND_PREFIX}{code}"),
            title: title.into(),
            status: status.as_u16(),
            detail: detail.into(),
        }
    }

    /// Makes the 503 of a request whose response would wait while too many others do.
    pub(super) fn too_many_waiting() -> Problem {
        let detail = "half of api.max_connections wait for events or jobs already: the rest is kept for short requests";
        Problem::of_kind(StatusCode::SERVICE_UNAVAILABLE, TOO_MANY_WAITING, "Too many responses wait", detail)
    }

    /// Returns whether the request was refused because too many responses wait; it may succeed later.
    pub fn is_too_many_waiting(&self) -> bool {
        self.kind.strip_prefix(KIND_PREFIX) == Some(TOO_MANY_WAITING)
    }

    /// Makes a 400.
    pub(super) fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::plain(StatusCode::BAD_REQUEST, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.is_too_many_waiting();
        let mut response = (status, [(CONTENT_TYPE, "application/problem+json")], Json(self)).into_response();
        if retry_after {
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let detail = error.to_string();
        match error {
            StoreError::NoJob(_) | StoreError::NoBatch(_) => Problem::plain(StatusCode::NOT_FOUND, detail),
            StoreError::Refused(_) | StoreError::Illegal(_) => Problem::plain(StatusCode::CONFLICT, detail),
            StoreError::Erased { .. } => Problem::of_kind(StatusCode::GONE, "erased", "It was erased", detail),
            StoreError::KeyReused(_) => Problem::of_kind(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The idempotency key was used for another request",
                detail,
            ),
            StoreError::Full => Problem::plain(StatusCode::INSUFFICIENT_STORAGE, detail),
            // Neither the client's mistake (4xx) nor a defect of the program (500): it works again once the disk is
            // repaired.
            StoreError::Disk(_) | StoreError::Damaged(_) | StoreError::Moved { .. } => {
                Problem::plain(StatusCode::SERVICE_UNAVAILABLE, detail)
            }
            StoreError::Closed => Problem::plain(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping"),
            StoreError::Open { .. } | StoreError::InUse { .. } | StoreError::Newer { .. } | StoreError::Sql(_) => {
                tracing::error!(%error, "a request failed at the database");
                Problem::plain(StatusCode::INTERNAL_SERVER_ERROR, "the daemon's database failed: see its log")
            }
        }
    }
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        Problem::of_intake(error, SubmissionChannel::HttpApi)
    }
}

impl Problem {
    /// Makes the problem of a refused file. Its text names options as `channel` has them.
    pub(in crate::api) fn of_intake(error: IntakeError, channel: SubmissionChannel) -> Problem {
        let detail = error.message(channel);
        match error {
            IntakeError::Store(error) => error.into(),
            IntakeError::File(fault) => {
                Problem::of_kind(StatusCode::UNPROCESSABLE_ENTITY, fault.code(), "The file can't be imported", detail)
            }
            IntakeError::TooLarge(_) => Problem::plain(StatusCode::PAYLOAD_TOO_LARGE, detail),
            IntakeError::UnknownInstance { .. } | IntakeError::Wrong(_) | IntakeError::CutOff(_) => {
                Problem::bad_request(detail)
            }
        }
    }
}

impl From<ParseEnumError> for Problem {
    fn from(error: ParseEnumError) -> Self {
        Problem::bad_request(error.to_string())
    }
}

impl From<JoinError> for Problem {
    fn from(fault: JoinError) -> Self {
        let detail = format!("{fault}; download each batch's file with ?part=");
        Problem::of_kind(StatusCode::CONFLICT, "parts-differ", "The batches' files can't be joined", detail)
    }
}

impl From<FailedRowError> for Problem {
    fn from(fault: FailedRowError) -> Self {
        let detail = format!("the rows that failed can't be sent again: {fault}; the failure file has them");
        Problem::of_kind(StatusCode::CONFLICT, "rows-not-recoverable", "The failed rows can't be sent again", detail)
    }
}

/// Extractor of the query's parameters. Answers with a problem document where they can't be parsed.
pub(crate) struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(query)) => Ok(Query(query)),
            // The outer errors only say that a query could not be deserialized.
            Err(rejection) => Err(Problem::bad_request(format!("wrong parameter: {}", innermost(&rejection)))),
        }
    }
}

/// Middleware of routes without parameters: refuses a request that has any.
pub(super) async fn no_parameters(request: Request, next: Next) -> Result<Response, Problem> {
    let query = request.uri().query().unwrap_or_default();
    match url::form_urlencoded::parse(query.as_bytes()).next() {
        Some((name, _)) => {
            Err(Problem::bad_request(format!("{} takes no parameters: remove {name}", request.uri().path())))
        }
        None => Ok(next.run(request).await),
    }
}

/// Extractor of the path's only variable segment.
pub(crate) struct PathSegment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathSegment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(segment)) => Ok(PathSegment(segment)),
            Err(rejection) => Err(Problem::bad_request(rejection.body_text())),
        }
    }
}

/// Parses a job's id of a path or a parameter.
pub(super) fn job_id(text: &str) -> Result<JobId, Problem> {
    match text.parse::<JobId>() {
        Ok(id) if id.0 > 0 => Ok(id),
        _ => Err(Problem::bad_request(format!("\"{text}\" is not a job id: ids are whole numbers from 1"))),
    }
}

/// Handler of unknown paths.
pub(super) async fn no_such_path(uri: Uri) -> Problem {
    Problem::plain(StatusCode::NOT_FOUND, format!("there is no route {}", uri.path()))
}

/// Handler of known paths with a method that they do not have.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::plain(StatusCode::METHOD_NOT_ALLOWED, format!("method {method} is not allowed for {}", uri.path()))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::domain::JobState;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its parsing is tested")]
    struct Parameters {
        limit: Option<u32>,
        state: Option<JobState>,
    }

    #[tokio::test]
    async fn refusal_names_the_parameter_and_the_fault() {
        for (query, detail) in [
            ("limit=many", "wrong parameter: limit: invalid digit found in string"),
            ("stat=x", "wrong parameter: stat: unknown field `stat`, expected `limit` or `state`"),
            ("limit=1&limit=2", "wrong parameter: duplicate field `limit`"),
        ] {
            let (mut parts, ()) = axum::http::Request::get(format!("/v1/jobs?{query}")).body(()).unwrap().into_parts();
            let refused = Query::<Parameters>::from_request_parts(&mut parts, &()).await.err().unwrap();
            assert_eq!(refused.detail, detail);
        }
    }
}
