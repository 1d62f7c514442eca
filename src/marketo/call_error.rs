//! Errors of calls: of an upload, and of a query about an import.

use crate::domain::FailureReason;
use crate::marketo::error_codes::ErrorAction;

/// Why an upload created no import, or none that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// Nothing of the request was sent: Marketo is unreachable.
    #[error("{0}")]
    NeverSent(String),
    /// The daemon stopped before anything of the request was sent.
    #[error("the daemon stopped before the upload began")]
    Stopped,
    /// The connection broke before the whole request was sent, so there is no import. Where this repeats, the file may
    /// be too large for a proxy, or too large to be sent within `request_timeout`.
    #[error("{0}")]
    BrokenOff(String),
    /// Marketo refused the upload, so there is no import. The action is never [`ErrorAction::OutcomeUnknown`].
    #[error("{reason}")]
    Refused {
        /// What to do.
        action: ErrorAction,
        /// Marketo's message.
        reason: FailureReason,
        /// The id of the request at Marketo.
        request_id: Option<String>,
    },
    /// The whole request may have arrived, and its outcome is unknown.
    #[error("{reason}")]
    AnswerLost {
        /// Why there is no usable answer.
        reason: FailureReason,
        /// The id of the request at Marketo.
        request_id: Option<String>,
    },
}

/// A failed query about an import. It says nothing about the import itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct QueryError {
    /// What to do.
    pub action: ErrorAction,
    /// Marketo's message, or why there is none.
    pub reason: FailureReason,
    /// The id of the request at Marketo.
    pub request_id: Option<String>,
}

impl From<QueryError> for UploadError {
    fn from(error: QueryError) -> Self {
        UploadError::Refused { action: error.action, reason: error.reason, request_id: error.request_id }
    }
}
