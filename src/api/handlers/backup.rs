//! `GET /v1/backup`: makes a copy of the database and streams it to the client.
//!
//! The daemon makes the copy and not the client, because the client may be another user, without access to the
//! database.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use tokio_util::io::ReaderStream;

use crate::api::auth::identity::RequestConnection;
use crate::api::dto::Problem;
use crate::api::state::SharedState;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256 * 1024;

pub(crate) async fn backup(
    State(daemon): State<SharedState>,
    connection: RequestConnection,
) -> Result<Response, Problem> {
    connection.check_may_wait()?;
    let copy = daemon.store.backup().await?;
    tracing::info!(bytes = copy.bytes, "backup sent to a client");
    let body = ReaderStream::with_capacity(tokio::fs::File::from_std(copy.file), CHUNK_BYTES);
    let headers = [
        (CONTENT_TYPE, "application/vnd.sqlite3".to_owned()),
        (CONTENT_LENGTH, copy.bytes.to_string()),
        (CONTENT_DISPOSITION, "attachment; filename=\"marqueue-backup.db\"".to_owned()),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}
