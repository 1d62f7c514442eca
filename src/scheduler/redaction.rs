//! Marketo's words without values of rows: what stands in history, log and answers names nobody.

use crate::delimited;
use crate::marketo::UploadError;
use crate::scheduler::worker_context::WorkerContext;
use crate::store::{FileKind, Job, StoreError};

/// What Marketo said about a job's file, without the values of its first line where that may not be a header.
///
/// Only a file that was not checked has such a line. The header is read from the store for it: a refusal and the end of an
/// import are rare.
pub(super) async fn without_values(desk: &WorkerContext, job: &Job, text: String) -> String {
    if text.is_empty() {
        return text;
    }
    match columns(desk, job).await {
        Ok(columns) => delimited::without_values(&text, &columns),
        // It can't be known what may be shown.
        Err(error) => {
            tracing::warn!(job = %job.id, %error, "the header can't be read, so Marketo's words are left out");
            "Marketo's words are left out, for the file's header can't be read".to_owned()
        }
    }
}

/// The same for an upload's end.
pub(super) async fn upload_error_without_values(desk: &WorkerContext, job: &Job, fault: UploadError) -> UploadError {
    match fault {
        UploadError::Refused { ask, reason, request_id } => {
            UploadError::Refused { ask, reason: without_values(desk, job, reason).await, request_id }
        }
        UploadError::AnswerLost { reason, request_id } => {
            UploadError::AnswerLost { reason: without_values(desk, job, reason).await, request_id }
        }
        other => other,
    }
}

async fn columns(desk: &WorkerContext, job: &Job) -> Result<Vec<String>, StoreError> {
    let mut content = desk.store.content(job.id, FileKind::File, 0, job.header.0, job.header.1);
    let mut header = Vec::new();
    while let Some(piece) = content.next().await? {
        header.extend(piece);
    }
    Ok(delimited::columns(&header, job.format))
}
