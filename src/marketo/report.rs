//! Reports about an ended import, received as a stream.

use bytes::Bytes;
use reqwest::Response;

use crate::error_chain::reason;

/// The response to a request for a report.
pub enum Report {
    /// There is none: 404, or an empty body.
    None,
    /// The report.
    File(ReportFile),
}

/// A report that is being received.
pub struct ReportFile {
    /// The part that was read to tell a file from an error.
    pub(super) first: Option<Bytes>,
    pub(super) rest: Response,
}

impl ReportFile {
    /// Returns the next bytes; none at the end.
    ///
    /// # Errors
    /// The reason as text, when the connection broke.
    pub async fn next(&mut self) -> Result<Option<Bytes>, String> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.rest.chunk().await.map_err(|error| reason(&error)),
        }
    }
}
