//! How does a program on this machine speak to the daemon? One method a native route, over the Unix socket.

use std::error::Error;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;

use crate::api::dto::{History, InstanceStatus, JobsPage, Problem, Readiness, Status};
use crate::domain::{JobId, JobState};
use crate::error_chain::innermost;
use crate::marketo::answering_daemon;
use crate::marketo::outbound::{ReadError, client_builder, read_body};
use crate::retention::{EraseReport, RetentionRun};
use crate::scheduler::explain::Explanation;
use crate::store::{HistoryEntry, Job};

mod events;
mod upload;

pub use events::EventStream;
pub use upload::{AddedJob, NewFile};

/// Where the daemon listens unless it was told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/marqueue/marqueue.sock";

/// The longest path that fits into a Unix socket's address on Linux, its closing zero left out.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// A URL needs a host; a socket has none.
const HOST: &str = "http://marqueue";

/// How long the daemon may say nothing.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// What is shown of an answer that is no problem document.
const EXCERPT_CHARS: usize = 200;

/// More than any answer but a file's has: a page of 10,000 jobs of many batches, say.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// More than any problem document has, and more than one event.
const MAX_PROBLEM_BYTES: usize = 1 << 20;

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "the socket path {} is {} bytes long, and the path of a Unix socket has at most {MAX_SOCKET_PATH_BYTES}",
        .0.display(), .0.as_os_str().len()
    )]
    SocketPathTooLong(PathBuf),
    /// Nothing was sent.
    #[error(
        "no daemon answers at {} ({why}): start one with \"marqueue serve\", or name its socket with --socket",
        .socket.display()
    )]
    NoDaemon { socket: PathBuf, why: String },
    /// Nothing was sent: a daemon may well be there, and this user may not speak to it.
    #[error(
        "the socket {} may not be opened ({why}): its owner and its group may use the daemon (api.socket_mode)",
        .socket.display()
    )]
    NotAllowed { socket: PathBuf, why: String },
    /// The daemon is there and says nothing. Whether it did, or will do, as it was asked is not known.
    #[error(
        "the daemon at {} does not answer ({why}): it is stopped or has too much to do, and may still do as it was asked",
        .socket.display()
    )]
    Silent { socket: PathBuf, why: String },
    /// The daemon said no.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The connection was lost, or the answer can't be read. Whether the daemon did as it was asked is not known.
    #[error("the daemon gave no proper answer: {0}")]
    Broken(String),
    /// The content that was to be sent can't be read. The daemon keeps nothing of it.
    #[error("{0}")]
    Content(std::io::Error),
}

impl ClientError {
    /// The daemon answers short requests only, since too many clients wait for something already.
    pub fn is_too_many_waiting(&self) -> bool {
        matches!(self, ClientError::Refused(problem) if problem.is_too_many_waiting())
    }

    /// Whether the same question may be answered in a moment: the daemon is away, busy, or has trouble with its disk.
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
    /// As it was dropped in.
    File,
    Failures,
    Warnings,
}

/// How much of a job is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// What Marketo does not have yet.
    Waiting,
    /// Also imports that it has not ended within `max_import_time`.
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

/// A file on its way here.
pub struct Download {
    response: Response,
    silence: ReadTimeout,
}

impl Download {
    /// How many there will be, where the daemon said so.
    pub fn bytes(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// [`ClientError::Broken`] when the connection is lost before the file's end; [`ClientError::Silent`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let piece = self.silence.within(Duration::ZERO, self.response.chunk()).await?;
        piece.map_err(|error| ClientError::Broken(innermost(&error)))
    }
}

/// How long the daemon may say nothing.
#[derive(Clone)]
struct ReadTimeout {
    socket: PathBuf,
    timeout: Duration,
}

impl ReadTimeout {
    /// What the daemon does in time; `more` is time that it was given for it.
    async fn within<T>(&self, more: Duration, answer: impl Future<Output = T>) -> Result<T, ClientError> {
        let time = self.timeout.saturating_add(more);
        tokio::time::timeout(time, answer).await.map_err(|_| self.broken())
    }

    fn broken(&self) -> ClientError {
        ClientError::Silent { socket: self.socket.clone(), why: format!("nothing came for {:?}", self.timeout) }
    }
}

/// What [`Client::ready`] reads where the daemon is not ready.
#[derive(serde::Deserialize)]
struct ProblemBody {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    readiness: Readiness,
}

/// What goes through the whole database may be silent for so long before it answers.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(3600);

/// Speaks to one daemon. Every method gives a [`ClientError`] where there is no good answer.
pub struct Client {
    http: reqwest::Client,
    silence: ReadTimeout,
}

impl Client {
    /// Opens nothing yet. The daemon may say nothing for `timeout`; waiting for a job, and for events, has no end.
    ///
    /// # Errors
    /// [`ClientError::SocketPathTooLong`].
    pub fn new(socket: &Path, timeout: Duration) -> Result<Client, ClientError> {
        if socket.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
            return Err(ClientError::SocketPathTooLong(socket.to_owned()));
        }
        let http = client_builder()
            .unix_socket(socket)
            .no_proxy()
            // A connection that is kept for later takes a place from another client, and may be closed for one.
            .pool_max_idle_per_host(0)
            // For the same reason: without it the machine's root certificates are looked for.
            .tls_certs_only([])
            .build()
            .map_err(|error| ClientError::Broken(innermost(&error)))?;
        Ok(Client { http, silence: ReadTimeout { socket: socket.to_owned(), timeout } })
    }

    pub async fn status(&self) -> Result<Status, ClientError> {
        self.ask(self.request(Method::GET, "/v1/status")).await
    }

    /// The id that the daemon's calls to Marketo carry; none of a daemon that has none yet.
    pub async fn daemon_id(&self) -> Result<Option<String>, ClientError> {
        let answer = self.send_in_time(self.request(Method::GET, "/bulk/v1")).await?;
        Ok(answering_daemon(answer.headers()))
    }

    /// Whether it answers at all.
    pub async fn healthz(&self) -> Result<(), ClientError> {
        self.send_in_time(self.request(Method::GET, "/healthz")).await.map(drop)
    }

    /// Whether it is ready, as a whole or for one instance, and why not.
    pub async fn readyz(&self, instance: Option<&str>) -> Result<(Readiness, Option<String>), ClientError> {
        let parameter = instance.map(|name| ("instance", name));
        let request = self.request(Method::GET, "/readyz").query(parameter.as_slice());
        let asked = self.silence.within(Duration::ZERO, request.send()).await?;
        let response = asked.map_err(|error| self.unanswered(&error))?;
        if response.status() != StatusCode::SERVICE_UNAVAILABLE {
            return if response.status().is_success() {
                Ok((read(response).await?, None))
            } else {
                Err(refusal(response).await)
            };
        }
        let refused: ProblemBody = read(response).await?;
        Ok((refused.readiness, Some(refused.problem.detail)))
    }

    /// A page of jobs, newest first.
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
        self.ask(self.request(Method::GET, "/v1/jobs").query(&parameters)).await
    }

    /// One job: at once, or when it has ended or `wait` is over.
    pub async fn job(&self, id: JobId, wait: Option<Duration>) -> Result<Job, ClientError> {
        let parameter = wait.map(|wait| ("wait", format!("{}ms", wait.as_millis())));
        let request = self.request(Method::GET, &format!("/v1/jobs/{id}")).query(parameter.as_slice());
        self.silence.within(wait.unwrap_or_default(), async { read(self.send(request).await?).await }).await?
    }

    pub async fn history(&self, id: JobId) -> Result<Vec<HistoryEntry>, ClientError> {
        let answer: History = self.ask(self.request(Method::GET, &format!("/v1/jobs/{id}/history"))).await?;
        Ok(answer.history)
    }

    pub async fn explain(&self, id: JobId) -> Result<Explanation, ClientError> {
        self.ask(self.request(Method::GET, &format!("/v1/jobs/{id}/explain"))).await
    }

    /// One of a job's files; of the failures and warnings also those of one `part` alone.
    pub async fn file(&self, id: JobId, file: JobFile, part: Option<u32>) -> Result<Download, ClientError> {
        let path = format!("/v1/jobs/{id}/{}", file.as_str());
        let part = part.map(|part| ("part", part));
        let request = self.request(Method::GET, &path).query(part.as_slice());
        Ok(Download { response: self.send_in_time(request).await?, silence: self.silence.clone() })
    }

    /// Leaves what Marketo does not have; with [`Cancel::Abandon`] also what it does not end.
    pub async fn cancel(&self, id: JobId, what: Cancel) -> Result<Job, ClientError> {
        let abandon = (what == Cancel::Abandon).then_some(("abandon", "true"));
        self.ask(self.request(Method::POST, &format!("/v1/jobs/{id}/cancel")).query(abandon.as_slice())).await
    }

    /// The same job again, or a new one of only the rows that failed.
    pub async fn retry(&self, id: JobId, failed_rows: bool) -> Result<Job, ClientError> {
        let rows = failed_rows.then_some(("rows", "failed"));
        self.ask(self.request(Method::POST, &format!("/v1/jobs/{id}/retry")).query(rows.as_slice())).await
    }

    /// A copy of the database as it is now. The daemon makes it before it sends it, which takes a while.
    pub async fn backup(&self) -> Result<Download, ClientError> {
        let request = self.request(Method::GET, "/v1/backup");
        let response = self.silence.within(BACKUP_TIMEOUT, self.send(request)).await??;
        Ok(Download { response, silence: self.silence.clone() })
    }

    /// Erases content and reports of an ended job, or only says what there is.
    pub async fn erase(&self, id: JobId, dry_run: bool) -> Result<EraseReport, ClientError> {
        let dry_run = dry_run.then_some(("dry_run", "true"));
        let request = self.request(Method::POST, &format!("/v1/jobs/{id}/erase")).query(dry_run.as_slice());
        self.silence.within(BACKUP_TIMEOUT, async { read(self.send(request).await?).await }).await?
    }

    /// Erases what is due, or only says what is.
    pub async fn retention(&self, dry_run: bool) -> Result<RetentionRun, ClientError> {
        let dry_run = dry_run.then_some(("dry_run", "true"));
        let request = self.request(Method::POST, "/v1/retention").query(dry_run.as_slice());
        self.silence.within(BACKUP_TIMEOUT, async { read(self.send(request).await?).await }).await?
    }

    /// How the instance stands now.
    pub async fn pause(&self, instance: &str) -> Result<InstanceStatus, ClientError> {
        self.post_instance(instance, "pause").await
    }

    /// How the instance stands now.
    pub async fn resume(&self, instance: &str) -> Result<InstanceStatus, ClientError> {
        self.post_instance(instance, "resume").await
    }

    async fn post_instance(&self, instance: &str, verb: &str) -> Result<InstanceStatus, ClientError> {
        let name = utf8_percent_encode(instance, NON_ALPHANUMERIC);
        let request = self.request(Method::POST, &format!("/v1/instances/{name}/{verb}"));
        let response = self.send_in_time(request).await?;
        if response.status() != StatusCode::NO_CONTENT {
            return read(response).await;
        }
        let unknown = || ClientError::Broken(format!("instance {instance} is not in its status"));
        self.status().await?.instances.remove(instance).ok_or_else(unknown)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{HOST}{path}"))
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        self.silence.within(Duration::ZERO, async { read(self.send(request).await?).await }).await?
    }

    /// Until its answer begins.
    async fn send_in_time(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        self.silence.within(Duration::ZERO, self.send(request)).await?
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.unanswered(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    fn unanswered(&self, error: &reqwest::Error) -> ClientError {
        let (socket, why) = (self.silence.socket.clone(), innermost(error));
        match kind(error) {
            _ if !error.is_connect() => ClientError::Broken(why),
            Some(ErrorKind::PermissionDenied) => ClientError::NotAllowed { socket, why },
            // So many wait for the daemon already that the system lets nobody wait any more.
            Some(ErrorKind::WouldBlock) => ClientError::Silent { socket, why },
            _ => ClientError::NoDaemon { socket, why },
        }
    }
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let body = read_whole(response, MAX_ANSWER_BYTES).await?;
    let mut json = serde_json::Deserializer::from_slice(&body);
    serde_path_to_error::deserialize(&mut json).map_err(|error| ClientError::Broken(error.to_string()))
}

/// What is at the socket need not be our daemon: its answer is kept within a limit.
async fn read_whole(mut response: Response, max_bytes: usize) -> Result<Vec<u8>, ClientError> {
    read_body(&mut response, Vec::new(), max_bytes).await.map_err(|error| match error {
        ReadError::Broken(error) => ClientError::Broken(innermost(&error)),
        error @ ReadError::TooLong(_) => ClientError::Broken(error.to_string()),
    })
}

/// The answer's problem document, or one made of what else it says.
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

/// What the system said.
fn kind(error: &reqwest::Error) -> Option<ErrorKind> {
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
    fn a_too_long_socket_path_is_refused_before_opening() {
        let path = format!("/{}", "s".repeat(107));
        let Err(error) = Client::new(Path::new(&path), DEFAULT_TIMEOUT) else { panic!("it was taken") };
        assert_eq!(
            error.to_string(),
            format!("the socket path {path} is 108 bytes long, and the path of a Unix socket has at most 107")
        );
        assert!(Client::new(Path::new(&path[..107]), DEFAULT_TIMEOUT).is_ok());
    }

    #[tokio::test]
    async fn where_nobody_listens_it_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = folder.path().join("none.sock");
        let dead = folder.path().join("dead.sock");
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        for (socket, why) in
            [(nothing, "No such file or directory (os error 2)"), (dead, "Connection refused (os error 111)")]
        {
            let error = Client::new(&socket, DEFAULT_TIMEOUT).unwrap().status().await.unwrap_err();
            assert!(matches!(error, ClientError::NoDaemon { .. }), "{error:?}");
            assert_eq!(
                error.to_string(),
                format!(
                    "no daemon answers at {} ({why}): start one with \"marqueue serve\", or name its socket with --socket",
                    socket.display()
                )
            );
        }
    }
}
