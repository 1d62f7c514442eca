//! Responses of the daemon: read within a size limit and a time limit, and parsed.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Response;
use serde::de::DeserializeOwned;

use crate::api::dto::Problem;
use crate::client::error::ClientError;
use crate::error_chain::innermost;
use crate::marketo::outbound::{ReadError, read_body};

/// Characters that are shown of a response that is not a problem document.
const EXCERPT_CHARS: usize = 200;

/// The largest response but that of a file, in bytes: a page of 10,000 jobs with many batches is smaller.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// The largest problem document or event, in bytes.
pub(super) const MAX_PROBLEM_BYTES: usize = 1 << 20;

/// Time limit of a response.
#[derive(Clone)]
pub(super) struct ReadTimeout {
    pub(super) socket: PathBuf,
    pub(super) timeout: Duration,
}

impl ReadTimeout {
    /// Runs `operation` with the time limit, which is extended by `extra`.
    pub(super) async fn run<T>(&self, extra: Duration, operation: impl Future<Output = T>) -> Result<T, ClientError> {
        let limit = self.timeout.saturating_add(extra);
        tokio::time::timeout(limit, operation).await.map_err(|_| self.error())
    }

    /// Returns the error after the limit.
    pub(super) fn error(&self) -> ClientError {
        ClientError::Silent { socket: self.socket.clone(), reason: format!("nothing came for {:?}", self.timeout) }
    }
}

/// Reads and parses a JSON body.
pub(super) async fn read<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let body = read_whole(response, MAX_ANSWER_BYTES).await?;
    let mut json = serde_json::Deserializer::from_slice(&body);
    serde_path_to_error::deserialize(&mut json).map_err(|error| ClientError::Broken(error.to_string()))
}

/// Reads a body within a limit, because the process at the socket need not be marqueue.
async fn read_whole(mut response: Response, max_bytes: usize) -> Result<Vec<u8>, ClientError> {
    read_body(&mut response, Vec::new(), max_bytes).await.map_err(|error| match error {
        ReadError::Broken(error) => ClientError::Broken(innermost(&error)),
        error @ ReadError::TooLong(_) => ClientError::Broken(error.to_string()),
    })
}

/// Returns the response's problem document, or one made of its status and text.
pub(super) async fn refusal(response: Response) -> ClientError {
    let status = response.status();
    let body = match read_whole(response, MAX_PROBLEM_BYTES).await {
        Ok(body) => body,
        Err(error) => return error,
    };
    ClientError::Refused(serde_json::from_slice(&body).unwrap_or_else(|_| {
        let text: String = String::from_utf8_lossy(&body).trim().chars().take(EXCERPT_CHARS).collect();
        let colon = if text.is_empty() { "" } else { ": " };
        Problem {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: format!("the daemon answered {status}{colon}{text}"),
        }
    }))
}
