//! Redaction: removes values of rows from Marketo's messages before they reach history, log or API responses.

use crate::delimited;
use crate::domain::{ErrorCode, FailureReason};
use crate::marketo::{ErrorAction, UploadError};
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

/// Returns the error of a failed upload of `jobs` jobs without a message of Marketo's that may be about the rows of one
/// of them: each of the jobs is told the error. Messages about the queue, the limits and the service stay, and so do
/// texts that are not Marketo's.
pub(super) fn shared_upload_error(error: UploadError, jobs: usize) -> UploadError {
    match error {
        UploadError::Refused { action: action @ (ErrorAction::Again | ErrorAction::Reject), reason, request_id } => {
            UploadError::Refused { action, reason: without_message(reason, "refused", jobs), request_id }
        }
        UploadError::AnswerLost { reason: reason @ FailureReason { code: Some(_), .. }, request_id } => {
            UploadError::AnswerLost { reason: without_message(reason, "did not confirm", jobs), request_id }
        }
        other => other,
    }
}

/// Replaces Marketo's message about an upload of `jobs` jobs.
fn without_message(reason: FailureReason, did: &str, jobs: usize) -> FailureReason {
    let code = match reason.code {
        // The answer has no message of Marketo's.
        Some(ErrorCode::Http(_)) => return reason,
        Some(code) => format!(" (error {code})"),
        None => String::new(),
    };
    let why = "its message is left out, because it may be about a row of any of them";
    reason.with_text(format!("Marketo {did} an import of {jobs} jobs{code}; {why}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_a_shared_import_quotes_no_row() {
        let reason = |code| FailureReason { code, text: "line 7: b@example.com is odd".into() };
        let refused = |action, code| UploadError::Refused { action, reason: reason(code), request_id: None };
        let lost = |code| UploadError::AnswerLost { reason: reason(code), request_id: None };
        let marketo = |code| Some(ErrorCode::Marketo(code));
        for (error, told) in [
            (refused(ErrorAction::Reject, marketo(1006)), "Marketo refused an import of 3 jobs (error 1006);"),
            (refused(ErrorAction::Again, None), "Marketo refused an import of 3 jobs; its message is left out"),
            (lost(marketo(713)), "Marketo did not confirm an import of 3 jobs (error 713);"),
        ] {
            let text = shared_upload_error(error, 3).to_string();
            assert!(text.starts_with(told) && !text.contains("b@example.com"), "{text}");
        }
        let http = || Some(ErrorCode::Http(502));
        for error in [
            refused(ErrorAction::QueueFull, marketo(1016)),
            refused(ErrorAction::Again, http()),
            lost(http()),
            lost(None),
        ] {
            assert!(shared_upload_error(error, 3).to_string().starts_with("line 7"), "it is about no row");
        }
    }
}
