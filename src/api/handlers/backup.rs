//! `GET /v1/backup`: how does a copy of the database get to a client? Made here, where it is read, and streamed to who asks,
//! who may be another user in another place.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use tokio_util::io::ReaderStream;

use crate::api::SharedState;
use crate::api::auth::identity::RequestConnection;
use crate::api::dto::Problem;

/// Bytes read at once.
const PIECE: usize = 256 * 1024;

pub(crate) async fn backup(
    State(daemon): State<SharedState>,
    connection: RequestConnection,
) -> Result<Response, Problem> {
    connection.check_may_wait()?;
    let copy = daemon.store.backup().await?;
    tracing::info!(bytes = copy.bytes, "a copy of the database goes to a client");
    let body = ReaderStream::with_capacity(tokio::fs::File::from_std(copy.file), PIECE);
    let headers = [
        (CONTENT_TYPE, "application/vnd.sqlite3".to_owned()),
        (CONTENT_LENGTH, copy.bytes.to_string()),
        (CONTENT_DISPOSITION, "attachment; filename=\"marqueue-backup.db\"".to_owned()),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}
