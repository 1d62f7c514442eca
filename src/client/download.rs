//! Downloads of the client: a job's files, and a copy of the database.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, Response};

use crate::client::error::ClientError;
use crate::client::http_client::{Client, LONG_TIMEOUT};
use crate::client::response::ReadTimeout;
use crate::domain::{JobId, ReportKind};
use crate::error_chain::innermost;

/// One of a job's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobFile {
    /// The submitted file.
    File,
    /// The submitted file with what became of each row.
    Results,
    /// The rows that failed, or those with warnings, with Marketo's reasons.
    Report(ReportKind),
}

impl JobFile {
    fn as_str(self) -> &'static str {
        match self {
            JobFile::File => "file",
            JobFile::Results => "results",
            JobFile::Report(kind) => kind.as_str(),
        }
    }
}

/// Which part of a job's file is downloaded, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileView {
    /// Only the failures or warnings of this batch; none for those of all.
    pub part: Option<u32>,
    /// Whether the column of Marketo's reasons is left out.
    pub without_reasons: bool,
    /// Whether a first column has the lines of the rows in the submitted file.
    pub with_lines: bool,
}

/// A file that is being downloaded.
pub struct Download {
    response: Response,
    read_timeout: ReadTimeout,
}

impl Download {
    /// Returns the size in bytes, where the daemon sent it.
    pub fn bytes(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// Returns the next bytes; none at the end.
    ///
    /// # Errors
    /// [`ClientError::Broken`] when the connection is lost before the file's end, [`ClientError::Silent`] after the
    /// timeout.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let piece = self.read_timeout.run(Duration::ZERO, self.response.chunk()).await?;
        piece.map_err(|error| ClientError::Broken(innermost(&error)))
    }
}

impl Client {
    /// Downloads one of a job's files.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn file(&self, id: JobId, file: JobFile, view: FileView) -> Result<Download, ClientError> {
        let path = format!("/v1/jobs/{id}/{}", file.as_str());
        let part = view.part.map(|part| ("part", part.to_string()));
        let reason = view.without_reasons.then(|| ("reason", "false".to_owned()));
        let lines = view.with_lines.then(|| ("lines", "true".to_owned()));
        let parameters: Vec<_> = part.into_iter().chain(reason).chain(lines).collect();
        let request = self.request(Method::GET, &path).query(&parameters);
        Ok(Download { response: self.send_in_time(request).await?, read_timeout: self.read_timeout.clone() })
    }

    /// Downloads a copy of the database. The daemon makes the copy before it answers, which takes time.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn backup(&self) -> Result<Download, ClientError> {
        let request = self.request(Method::GET, "/v1/backup");
        let response = self.read_timeout.run(LONG_TIMEOUT, self.send(request)).await??;
        Ok(Download { response, read_timeout: self.read_timeout.clone() })
    }
}
