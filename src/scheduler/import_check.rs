//! Import check: asks Marketo whether it has an import that an operator names.

use crate::domain::instance::Pause;
use crate::domain::{ErrorCode, Target};
use crate::marketo::{ErrorAction, ImportStatus, QueryError};
use crate::scheduler::api_call::{Admission, Denial, ErrorScope, TokenUse};
use crate::scheduler::worker_context::WorkerContext;
use crate::store::StoreError;

/// What is known of an import after Marketo was asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportCheck {
    /// Marketo has the import, in this status.
    Found(String),
    /// Marketo has no such import of the target. The text is Marketo's.
    Unknown(String),
    /// Marketo could not be asked, or gave no usable answer, for this reason.
    Unanswered(String),
}

/// The status of an answer that no such path exists.
const NOT_FOUND: ErrorCode = ErrorCode::Http(404);

const STOPPING: &str = "the daemon is stopping";

/// Asks Marketo for the status of the import `id` of a target, in one call that is admitted as any other.
///
/// # Errors
/// A database error.
pub(super) async fn check_import(
    context: &WorkerContext,
    target: &Target,
    id: &str,
) -> Result<ImportCheck, StoreError> {
    let mut token_use = TokenUse::First;
    loop {
        let (token, guard) = match context.admit_call().await? {
            Admission::Admitted(token, guard) => (token, guard),
            Admission::Denied(Denial::Unreachable(reason)) => return Ok(ImportCheck::Unanswered(reason)),
            Admission::Denied(Denial::NotNow) => {
                let pause = context.store.instance(&context.name).await?.pause;
                return Ok(ImportCheck::Unanswered(denial_reason(pause)));
            }
        };
        let client = context.client();
        let Some(response) = context.run_until_stop(guard, client.status(&token, target, id)).await else {
            return Ok(ImportCheck::Unanswered(STOPPING.to_owned()));
        };
        match response {
            Ok(status) => return Ok(read_status(status, id)),
            Err(QueryError { action, reason, .. }) => {
                let scope = context.handle_refusal(action, &reason.text, &mut token_use).await?;
                match (scope, action) {
                    (ErrorScope::Retry, _) => {}
                    (ErrorScope::Batch, ErrorAction::Reject) => return Ok(ImportCheck::Unknown(reason.text)),
                    // A poll takes a 404 without Marketo's body for a fault on the way. Here an operator named the id.
                    (ErrorScope::Batch, _) if reason.code == Some(NOT_FOUND) => {
                        return Ok(ImportCheck::Unknown(reason.text));
                    }
                    _ => return Ok(ImportCheck::Unanswered(reason.text)),
                }
            }
        }
    }
}

fn denial_reason(pause: Option<Pause>) -> String {
    pause.map_or_else(|| STOPPING.to_owned(), |pause| format!("the instance is paused: {}", pause.reason))
}

/// Takes a status for that of the import `id` only where the answer names it.
fn read_status(status: ImportStatus, id: &str) -> ImportCheck {
    match status.marketo_batch_id {
        Some(named) if named == id => ImportCheck::Found(status.status_text),
        Some(named) => ImportCheck::Unanswered(format!("Marketo's answer is about batch {named}")),
        None => ImportCheck::Unanswered("Marketo's answer names no batch".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Counts;

    #[test]
    fn only_an_answer_about_the_same_import_counts() {
        let status = |id: Option<&str>| ImportStatus {
            marketo_batch_id: id.map(Into::into),
            status: None,
            status_text: "Queued".into(),
            counts: Counts::default(),
            message: None,
            request_id: None,
        };
        assert_eq!(read_status(status(Some("7")), "7"), ImportCheck::Found("Queued".into()));
        for other in [Some("70"), None] {
            assert!(matches!(read_status(status(other), "7"), ImportCheck::Unanswered(_)), "{other:?}");
        }
    }
}
