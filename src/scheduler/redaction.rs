//! Redaction: removes values of rows from Marketo's messages before they reach history, log or API responses.

use crate::delimited;
use crate::domain::FailureReason;
use crate::marketo::UploadError;
use crate::scheduler::upload_content::stored_header;
use crate::scheduler::worker_context::WorkerContext;
use crate::store::{Job, StoreError};

/// Returns Marketo's message about a job's file without the values of the file's first line, where that may be a row
/// instead of a header.
///
/// Only a file that was not checked can have such a line. The header is read from the store each time; refusals and
/// ends of imports are rare.
pub(super) async fn without_values(context: &WorkerContext, job: &Job, text: String) -> String {
    if text.is_empty() {
        return text;
    }
    match columns(context, job).await {
        Ok(columns) => delimited::without_values(&text, &columns),
        // Without the header it is unknown which parts are values.
        Err(error) => {
            tracing::warn!(job = %job.id, %error, "reading the header failed; Marketo's message is left out");
            "Marketo's message is left out, because the file's header could not be read".to_owned()
        }
    }
}

/// Redacts the message of a failed upload; see [`without_values`].
pub(super) async fn upload_error_without_values(context: &WorkerContext, job: &Job, error: UploadError) -> UploadError {
    match error {
        UploadError::Refused { action, reason, request_id } => {
            UploadError::Refused { action, reason: reason_without_values(context, job, reason).await, request_id }
        }
        UploadError::AnswerLost { reason, request_id } => {
            UploadError::AnswerLost { reason: reason_without_values(context, job, reason).await, request_id }
        }
        other => other,
    }
}

/// Redacts the text of a reason; see [`without_values`].
pub(super) async fn reason_without_values(
    context: &WorkerContext,
    job: &Job,
    mut reason: FailureReason,
) -> FailureReason {
    let text = std::mem::take(&mut reason.text);
    reason.with_text(without_values(context, job, text).await)
}

async fn columns(context: &WorkerContext, job: &Job) -> Result<Vec<String>, StoreError> {
    Ok(delimited::columns(&stored_header(&context.store, job).await?, job.format))
}
