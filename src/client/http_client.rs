//! HTTP client of the native API: one method for each route, over the Unix socket.

use std::error::Error;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;

use crate::api::dto::{
    COMMAND_LINE_AGENT, EraseReportDto, ExplanationDto, History, HistoryEntryDto, InstanceStatus, JobDto, JobsPage, NotReady, Problem, Readiness,
    RetentionRunDto, Status,
};
use crate::domain::{JobId, JobState};
use crate::error_chain::innermost;
use crate::marketo::answering_daemon;
use crate::marketo::outbound::{ReadError, client_builder, read_body};

/// Default path of the daemon's socket.
pub const DEFAULT_SOCKET: &str = "/run/marqueue/marqueue.sock";

/// The longest path in a Unix socket's address on Linux, without the closing zero, in bytes.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// A URL needs a host; a socket has none.
const HOST: &str = "http://marqueue";

/// Default of the longest time that the daemon may send nothing.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Characters that are shown of a response that is not a problem document.
const EXCERPT_CHARS: usize = 200;

/// The largest response but that of a file, in bytes: a page of 10,000 jobs with many batches is smaller.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// The largest problem document or event, in bytes.
pub(super) const MAX_PROBLEM_BYTES: usize = 1 << 20;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The path does not fit into a socket address.
    #[error(
        "the socket path {} is {} bytes long, and the path of a Unix socket has at most {MAX_SOCKET_PATH_BYTES}",
        .0.display(), .0.as_os_str().len()
    )]
    SocketPathTooLong(PathBuf),
    /// No daemon listens at the socket. Nothing was sent.
    #[error(
        "no daemon answers at {} ({reason}): start one with \"marqueue serve\", or name its socket with --socket",
        .socket.display()
    )]
    NoDaemon {
        /// Path of the socket.
        socket: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// This user has no permission for the socket. Nothing was sent.
    #[error(
        "the socket {} may not be opened ({reason}): its owner and its group may use the daemon (api.socket_mode)",
        .socket.display()
    )]
    NotAllowed {
        /// Path of the socket.
        socket: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// The daemon accepted the connection and sends nothing. It may still carry out the request.
    #[error(
        "the daemon at {} does not answer ({reason}): it is stopped or has too much to do, and may still carry out the request",
        .socket.display()
    )]
    Silent {
        /// Path of the socket.
        socket: PathBuf,
        /// What was waited for.
        reason: String,
    },
    /// The daemon refused the request.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The connection was lost, or the response can't be parsed. The daemon may have carried out the request.
    #[error("the daemon's response can't be read: {0}")]
    Broken(String),
    /// The content of the upload can't be read. The daemon keeps nothing of it.
    #[error("{0}")]
    Content(std::io::Error),
}

impl ClientError {
    /// Returns whether the daemon refused to wait because too many clients do.
    pub fn is_too_many_waiting(&self) -> bool {
        matches!(self, ClientError::Refused(problem) if problem.is_too_many_waiting())
    }

    /// Returns whether a retry may succeed: the daemon is stopped, busy, or has a disk error.
    pub fn is_transient(&self) -> bool {
        match self {
            ClientError::NoDaemon { .. } | ClientError::Broken(_) | ClientError::Silent { .. } => true,
            ClientError::Refused(problem) => problem.status >= 500,
            ClientError::SocketPathTooLong(_) | ClientError::NotAllowed { .. } | ClientError::Content(_) => false,
        }
    }
}

/// One of a job's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobFile {
    /// The submitted file.
    File,
    /// The failed rows, with Marketo's reasons.
    Failures,
    /// The rows with warnings, with Marketo's reasons.
    Warnings,
}

/// What is cancelled of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// Batches that Marketo does not have yet.
    Waiting,
    /// Also imports that Marketo has not ended within `max_import_time`.
    Abandon,
}

impl JobFile {
    fn as_str(self) -> &'static str {
        match self {
            JobFile::File => "file",
            JobFile::Failures => "failures",
            JobFile::Warnings => "warnings",
        }
    }
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
    /// [`ClientError::Broken`] when the connection is lost before the file's end, [`ClientError::Silent`] after the timeout.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let piece = self.read_timeout.run(Duration::ZERO, self.response.chunk()).await?;
        piece.map_err(|error| ClientError::Broken(innermost(&error)))
    }
}

/// Time limit of a response.
#[derive(Clone)]
pub(super) struct ReadTimeout {
    socket: PathBuf,
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

/// Extra time for requests that read the whole database before they answer.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(3600);

/// Client of one daemon.
pub struct Client {
    http: reqwest::Client,
    pub(super) read_timeout: ReadTimeout,
}

impl Client {
    /// Makes a client, without connecting. `timeout` is the longest time that the daemon may send nothing; waiting for a job
    /// and for events is not limited.
    ///
    /// # Errors
    /// [`ClientError::SocketPathTooLong`]; [`ClientError::Broken`] where the HTTP client can't be made.
    pub fn new(socket: &Path, timeout: Duration) -> Result<Client, ClientError> {
        if socket.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
            return Err(ClientError::SocketPathTooLong(socket.to_owned()));
        }
        let http = client_builder()
            .user_agent(COMMAND_LINE_AGENT)
            .unix_socket(socket)
            .no_proxy()
            // An idle connection would count against api.max_connections, and the daemon may close it.
            .pool_max_idle_per_host(0)
            // TLS is not used: without this the machine's root certificates are loaded.
            .tls_certs_only([])
            .build()
            .map_err(|error| ClientError::Broken(innermost(&error)))?;
        Ok(Client { http, read_timeout: ReadTimeout { socket: socket.to_owned(), timeout } })
    }

    /// Returns the status of the daemon and its instances.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.call(self.request(Method::GET, "/v1/status")).await
    }

    /// Returns the id that the daemon's calls to Marketo carry; none where an older daemon has none.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn daemon_id(&self) -> Result<Option<String>, ClientError> {
        let response = self.send_in_time(self.request(Method::GET, "/bulk/v1")).await?;
        Ok(answering_daemon(response.headers()))
    }

    /// Checks that the daemon answers.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn healthz(&self) -> Result<(), ClientError> {
        self.send_in_time(self.request(Method::GET, "/healthz")).await.map(drop)
    }

    /// Returns whether the daemon is ready, as a whole or for one instance, and the reason why it is not.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn readyz(&self, instance: Option<&str>) -> Result<(Readiness, Option<String>), ClientError> {
        let parameter = instance.map(|name| ("instance", name));
        let request = self.request(Method::GET, "/readyz").query(parameter.as_slice());
        let sent = self.read_timeout.run(Duration::ZERO, request.send()).await?;
        let response = sent.map_err(|error| self.connection_error(&error))?;
        if response.status() != StatusCode::SERVICE_UNAVAILABLE {
            return if response.status().is_success() {
                Ok((read(response).await?, None))
            } else {
                Err(refusal(response).await)
            };
        }
        let refused: NotReady = read(response).await?;
        Ok((refused.readiness, Some(refused.problem.detail)))
    }

    /// Returns a page of jobs, newest first.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn list(
        &self,
        state: Option<JobState>,
        limit: Option<u32>,
        before: Option<JobId>,
    ) -> Result<JobsPage, ClientError> {
        let parameters = [
            state.map(|state| ("state", state.to_string())),
            limit.map(|limit| ("limit", limit.to_string())),
            before.map(|before| ("before", before.to_string())),
        ];
        let parameters: Vec<_> = parameters.into_iter().flatten().collect();
        self.call(self.request(Method::GET, "/v1/jobs").query(&parameters)).await
    }

    /// Returns one job: at once, or when it has ended or `wait` is over.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn job(&self, id: JobId, wait: Option<Duration>) -> Result<JobDto, ClientError> {
        let parameter = wait.map(|wait| ("wait", format!("{}ms", wait.as_millis())));
        let request = self.request(Method::GET, &format!("/v1/jobs/{id}")).query(parameter.as_slice());
        self.read_timeout.run(wait.unwrap_or_default(), async { read(self.send(request).await?).await }).await?
    }

    /// Returns the events of a job, oldest first.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn history(&self, id: JobId) -> Result<Vec<HistoryEntryDto>, ClientError> {
        let response: History = self.call(self.request(Method::GET, &format!("/v1/jobs/{id}/history"))).await?;
        Ok(response.history)
    }

    /// Returns what a job waits for.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn explain(&self, id: JobId) -> Result<ExplanationDto, ClientError> {
        self.call(self.request(Method::GET, &format!("/v1/jobs/{id}/explain"))).await
    }

    /// Downloads one of a job's files, or with `part` the failures or warnings of one batch.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn file(&self, id: JobId, file: JobFile, part: Option<u32>) -> Result<Download, ClientError> {
        let path = format!("/v1/jobs/{id}/{}", file.as_str());
        let part = part.map(|part| ("part", part));
        let request = self.request(Method::GET, &path).query(part.as_slice());
        Ok(Download { response: self.send_in_time(request).await?, read_timeout: self.read_timeout.clone() })
    }

    /// Cancels the batches that Marketo does not have yet; with [`Cancel::Abandon`] also overdue imports.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn cancel(&self, id: JobId, what: Cancel) -> Result<JobDto, ClientError> {
        let abandon = (what == Cancel::Abandon).then_some(("abandon", "true"));
        self.call(self.request(Method::POST, &format!("/v1/jobs/{id}/cancel")).query(abandon.as_slice())).await
    }

    /// Uploads a job's failed batches again, or makes a new job of only the failed rows.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn retry(&self, id: JobId, failed_rows: bool) -> Result<JobDto, ClientError> {
        let rows = failed_rows.then_some(("rows", "failed"));
        self.call(self.request(Method::POST, &format!("/v1/jobs/{id}/retry")).query(rows.as_slice())).await
    }

    /// Downloads a copy of the database. The daemon makes the copy before it answers, which takes time.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn backup(&self) -> Result<Download, ClientError> {
        let request = self.request(Method::GET, "/v1/backup");
        let response = self.read_timeout.run(BACKUP_TIMEOUT, self.send(request)).await??;
        Ok(Download { response, read_timeout: self.read_timeout.clone() })
    }

    /// Erases content and reports of an ended job, or with `dry_run` only reports what there is.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn erase(&self, id: JobId, dry_run: bool) -> Result<EraseReportDto, ClientError> {
        let dry_run = dry_run.then_some(("dry_run", "true"));
        let request = self.request(Method::POST, &format!("/v1/jobs/{id}/erase")).query(dry_run.as_slice());
        self.read_timeout.run(BACKUP_TIMEOUT, async { read(self.send(request).await?).await }).await?
    }

    /// Erases all data past its retention period, or with `dry_run` only reports what there is.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn retention(&self, dry_run: bool) -> Result<RetentionRunDto, ClientError> {
        let dry_run = dry_run.then_some(("dry_run", "true"));
        let request = self.request(Method::POST, "/v1/retention").query(dry_run.as_slice());
        self.read_timeout.run(BACKUP_TIMEOUT, async { read(self.send(request).await?).await }).await?
    }

    /// Pauses the uploads of an instance, and returns its status.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn pause(&self, instance: &str) -> Result<InstanceStatus, ClientError> {
        self.post_instance(instance, "pause").await
    }

    /// Resumes the uploads of an instance, and returns its status.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn resume(&self, instance: &str) -> Result<InstanceStatus, ClientError> {
        self.post_instance(instance, "resume").await
    }

    async fn post_instance(&self, instance: &str, action: &str) -> Result<InstanceStatus, ClientError> {
        let name = utf8_percent_encode(instance, NON_ALPHANUMERIC);
        let request = self.request(Method::POST, &format!("/v1/instances/{name}/{action}"));
        let response = self.send_in_time(request).await?;
        if response.status() != StatusCode::NO_CONTENT {
            return read(response).await;
        }
        let unknown = || ClientError::Broken(format!("the status has no instance {instance}"));
        self.status().await?.instances.remove(instance).ok_or_else(unknown)
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{HOST}{path}"))
    }

    /// Sends a request and parses its response, within the time limit.
    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        self.read_timeout.run(Duration::ZERO, async { read(self.send(request).await?).await }).await?
    }

    /// Sends a request, with the time limit for the begin of the response.
    pub(super) async fn send_in_time(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        self.read_timeout.run(Duration::ZERO, self.send(request)).await?
    }

    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.connection_error(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    fn connection_error(&self, error: &reqwest::Error) -> ClientError {
        let (socket, reason) = (self.read_timeout.socket.clone(), innermost(error));
        match io_error_kind(error) {
            _ if !error.is_connect() => ClientError::Broken(reason),
            Some(ErrorKind::PermissionDenied) => ClientError::NotAllowed { socket, reason },
            // The listen backlog is full.
            Some(ErrorKind::WouldBlock) => ClientError::Silent { socket, reason },
            _ => ClientError::NoDaemon { socket, reason },
        }
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
async fn refusal(response: Response) -> ClientError {
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

/// Returns the kind of the I/O error among an error's causes.
fn io_error_kind(error: &reqwest::Error) -> Option<ErrorKind> {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(deeper) = cause {
        if let Some(error) = deeper.downcast_ref::<std::io::Error>() {
            return Some(error.kind());
        }
        cause = deeper.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_too_long_socket_path_is_refused() {
        let path = format!("/{}", "s".repeat(107));
        let Err(error) = Client::new(Path::new(&path), DEFAULT_TIMEOUT) else { panic!("it was accepted") };
        assert_eq!(
            error.to_string(),
            format!("the socket path {path} is 108 bytes long, and the path of a Unix socket has at most 107")
        );
        assert!(Client::new(Path::new(&path[..107]), DEFAULT_TIMEOUT).is_ok());
    }

    #[tokio::test]
    async fn a_missing_daemon_is_reported_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = folder.path().join("none.sock");
        let closed = folder.path().join("closed.sock");
        drop(std::os::unix::net::UnixListener::bind(&closed).unwrap());
        for (socket, reason) in
            [(nothing, "No such file or directory (os error 2)"), (closed, "Connection refused (os error 111)")]
        {
            let error = Client::new(&socket, DEFAULT_TIMEOUT).unwrap().status().await.unwrap_err();
            assert!(matches!(error, ClientError::NoDaemon { .. }), "{error:?}");
            assert_eq!(
                error.to_string(),
                format!(
                    "no daemon answers at {} ({reason}): start one with \"marqueue serve\", or name its socket with --socket",
                    socket.display()
                )
            );
        }
    }
}
