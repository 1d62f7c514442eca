//! Which rows failed, or were warned of? As Marketo sends them: the bytes of its own file.

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::stream;

use crate::api::AppState;
use crate::api::handlers::reports::JoinedReport;
use crate::api::marketo_compat::response::{CompatError, CompatResponse};
use crate::domain::Target;
use crate::store::{FileKind, Job};

/// # Errors
/// HTTP 404 where the file was erased, and where a custom object's import has none; for the others it is empty then, as Marketo has it. 1003
/// where the batches' files have other columns each, so that they are no one file.
pub(super) async fn report(daemon: &AppState, job: &Job, kind: FileKind) -> Result<CompatResponse, CompatError> {
    // An import is over when all of it is: till then there is no file, as there is none on Marketo.
    let opened = match job.state.is_terminal() {
        true => JoinedReport::open(&daemon.store, job, kind, None).await,
        false => return none(job),
    };
    let mut joined = match opened {
        Ok(joined) => joined,
        Err(problem) if problem.status == StatusCode::NOT_FOUND => return none(job),
        Err(problem) => return Err(refusal(problem.status, problem.detail)),
    };
    // Asked for before the answer begins, so that a file that is gone is none and not a broken one.
    let first = match joined.next().await {
        Ok(Some(first)) => first,
        Ok(None) => return none(job),
        Err(problem) => return Err(refusal(problem.status, problem.detail)),
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

fn none(job: &Job) -> Result<CompatResponse, CompatError> {
    match job.target {
        Target::CustomObject { .. } => Err(CompatError::bare(StatusCode::NOT_FOUND)),
        Target::Leads { .. } | Target::ProgramMembers { .. } => Ok(CompatResponse::File(Body::empty())),
    }
}

fn refusal(status: u16, detail: String) -> CompatError {
    match StatusCode::from_u16(status) {
        Ok(StatusCode::CONFLICT) => CompatError::new(1003, detail),
        // It was erased. An empty file would say that no row had failed.
        Ok(StatusCode::GONE) => CompatError::bare(StatusCode::NOT_FOUND),
        _ => CompatError::new(608, detail),
    }
}
