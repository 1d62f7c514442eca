//! Failure and warning files in the Marketo-compatible API: the bytes of Marketo's own files.

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::stream;

use crate::api::handlers::joined_report::JoinedReport;
use crate::api::marketo_compat::response::{CompatError, CompatResponse};
use crate::api::state::AppState;
use crate::domain::{ReportKind, Target};
use crate::store::Job;

/// Returns a job's failure or warning file. Where there is none it is empty, as at Marketo, except for custom objects.
///
/// # Errors
/// HTTP 404 until the whole job has ended, where the file is erased, and where a custom object's import has none. 1003
/// where the columns of the batches' files differ, so that they can't be joined. 608 where the database fails.
pub(super) async fn report(daemon: &AppState, job: &Job, kind: ReportKind) -> Result<CompatResponse, CompatError> {
    if !job.state.is_terminal() {
        // Adobe does not document what Marketo answers then. An empty file would mean that no row has failed; 404 is
        // what Marketo answers for custom objects without such a file, and an error to every program that reads the
        // status.
        return Err(CompatError::bare(StatusCode::NOT_FOUND));
    }
    let mut joined = match JoinedReport::open(&daemon.store, job, kind, None).await {
        Ok(joined) => joined,
        Err(problem) if problem.status == StatusCode::NOT_FOUND => return no_file(job),
        Err(problem) => return Err(compat_error(problem.status, problem.detail)),
    };
    // The first chunk is read before the response begins, so that an erased file gives an error and not a truncated
    // file.
    let first = match joined.next().await {
        Ok(Some(first)) => first,
        Ok(None) => return no_file(job),
        Err(problem) => return Err(compat_error(problem.status, problem.detail)),
    };
    let body = stream::try_unfold((Some(first), joined), async |(first, mut joined)| {
        let piece = match first {
            Some(first) => Some(first),
            None => joined.next().await.map_err(|problem| problem.detail)?,
        };
        Ok::<_, String>(piece.map(|piece| (Bytes::from(piece), (None, joined))))
    });
    Ok(CompatResponse::File(Body::from_stream(body)))
}

/// Returns the response of an import without such a file.
fn no_file(job: &Job) -> Result<CompatResponse, CompatError> {
    match job.target {
        Target::CustomObject { .. } => Err(CompatError::bare(StatusCode::NOT_FOUND)),
        Target::Leads { .. } | Target::ProgramMembers { .. } => Ok(CompatResponse::File(Body::empty())),
    }
}

fn compat_error(status: u16, detail: String) -> CompatError {
    match StatusCode::from_u16(status) {
        Ok(StatusCode::CONFLICT) => CompatError::new(1003, detail),
        // The file is erased. An empty file would mean that no row had failed.
        Ok(StatusCode::GONE) => CompatError::bare(StatusCode::NOT_FOUND),
        _ => CompatError::new(608, detail),
    }
}
