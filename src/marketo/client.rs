//! HTTP client for one instance: uploads a file, queries an import's status and fetches its reports.
//!
//! An upload can end in four kinds of error, because the possible next actions differ: never sent, broken off, refused,
//! answer lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use reqwest::Response;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};

use crate::config;
use crate::domain::{Counts, Format, RemoteStatus, Target, marketo_id};
use crate::error_chain::reason;
use crate::marketo::daemon_id::{DAEMON_HEADER, answering_daemon, daemon_id};
use crate::marketo::endpoints::{create_path, import_path};
use crate::marketo::error_codes::{ErrorAction, classify};
use crate::marketo::multipart::MultipartFrame;
use crate::marketo::outbound::client_for;
use crate::marketo::response::{ApiResponse, error_text, is_file, read, read_rest};
use crate::marketo::token::{AccessToken, CredentialStatus, IDENTITY_TIMEOUT, TokenCache, TokenError};
use crate::untrusted_text::{MAX_ID_BYTES, clip, mask_addresses};

/// The timeout of connecting, where the timeout of the call is longer.
const MAX_CONNECT_TIME: Duration = Duration::from_secs(30);

/// Makes the calls to one instance. It does not limit them: each call except the token's needs a
/// [`CallPermit`](crate::marketo::CallPermit) first.
pub struct Client {
    http: reqwest::Client,
    base_url: String,
    tokens: TokenCache,
}

/// The parameters of an upload. Its content is a separate stream.
pub struct UploadRequest<'a> {
    /// What the rows become.
    pub target: &'a Target,
    /// The file name in the request.
    pub filename: &'a str,
    /// The delimiter of the file.
    pub format: Format,
    /// The length of the content in bytes.
    pub bytes: u64,
}

/// An import that Marketo created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedImport {
    /// Its id at Marketo.
    pub marketo_batch_id: String,
    /// Its status.
    pub status: RemoteStatus,
    /// The id of the request at Marketo.
    pub request_id: Option<String>,
}

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
        reason: String,
        /// The id of the request at Marketo.
        request_id: Option<String>,
    },
    /// The whole request may have arrived, and its outcome is unknown.
    #[error("{reason}")]
    AnswerLost {
        /// Why there is no usable answer.
        reason: String,
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
    pub reason: String,
    /// The id of the request at Marketo.
    pub request_id: Option<String>,
}

/// The status of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportStatus {
    /// None where it is not one of the four documented ones.
    pub status: Option<RemoteStatus>,
    /// The status as Marketo sent it, clipped.
    pub status_text: String,
    /// The row counts.
    pub counts: Counts,
    /// Marketo's text about the import.
    pub message: Option<String>,
    /// The id of the request at Marketo.
    pub request_id: Option<String>,
}

/// The kind of a report about an ended import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// The rows that failed.
    Failures,
    /// The rows imported with a warning.
    Warnings,
}

/// The response to a request for a report.
pub enum Report {
    /// There is none: 404, or an empty body.
    None,
    /// The report.
    File(ReportFile),
}

/// A report that is being received.
pub struct ReportFile {
    first: Option<Bytes>,
    rest: Response,
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

impl Client {
    /// Builds the client of an instance.
    ///
    /// # Errors
    /// The reason as text, when TLS cannot be set up (for example without root certificates on the machine).
    pub fn new(instance: &config::Instance) -> Result<Client, String> {
        let build = |url: &str, timeout: Duration| {
            let http = client_for(url)
                .default_headers(HeaderMap::from_iter([(DAEMON_HEADER, daemon_id().clone())]))
                .timeout(timeout)
                .connect_timeout(timeout.min(MAX_CONNECT_TIME))
                // Marketo closes the connection after each response. A pooled connection could be closed during an
                // upload, whose outcome would then be unknown.
                .pool_max_idle_per_host(0);
            http.build().map_err(|error| {
                format!("{}: TLS needs this machine's root certificates (package ca-certificates)", reason(&error))
            })
        };
        let identity = build(&instance.identity_url, IDENTITY_TIMEOUT)?;
        Ok(Client {
            http: build(&instance.base_url, instance.request_timeout)?,
            base_url: instance.base_url.clone(),
            tokens: TokenCache::new(identity, &instance.identity_url, &instance.client_id, &instance.client_secret),
        })
    }

    /// Returns a token for the next calls. Needs no permit, because token requests count against no limit.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn token(&self) -> Result<AccessToken, TokenError> {
        self.tokens.get().await
    }

    /// Returns the ids of marqueue daemons that answer at the instance's addresses in Marketo's place. The calls have
    /// no token, do not use the credentials and count against no limit.
    pub async fn answering_daemons(&self) -> Vec<String> {
        let call = self.http.get(format!("{}/bulk/v1/leads.json", self.base_url)).send();
        let (call, identity) = tokio::join!(call, self.tokens.ask_without_credentials());
        let responses = [call.ok(), identity.ok()];
        responses.iter().flatten().filter_map(|response| answering_daemon(response.headers())).collect()
    }

    /// Returns the result of the last token request.
    pub fn credential_status(&self) -> CredentialStatus {
        self.tokens.credential_status()
    }

    /// Returns the server's time of the identity endpoint's last response, to the second; none where it had no `Date`.
    pub fn server_time(&self) -> Option<Timestamp> {
        self.tokens.server_time()
    }

    /// Uploads a file. `content` yields exactly `upload.bytes` bytes. If `stop` completes before the first byte is
    /// sent, nothing is sent; after that the upload continues to its end.
    ///
    /// # Errors
    /// [`UploadError`]. A refused token is dropped, so that [`Client::token`] fetches another.
    pub async fn create<S>(
        &self,
        token: &AccessToken,
        upload: UploadRequest<'_>,
        content: S,
        stop: impl Future<Output = ()>,
    ) -> Result<CreatedImport, UploadError>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let frame = MultipartFrame::new(upload.filename);
        let (path, parameters) = create_path(upload.target, upload.format);
        // Whether the first bytes are sent or the stop comes before them. The first of the two to set it decides.
        let begun = Arc::new(OnceLock::new());
        // The bytes that the HTTP client has taken decide between "never sent", "broken off" and "answer lost".
        let all_handed_over = Arc::new(AtomicBool::new(false));
        let head = {
            let (bytes, begun) = (Bytes::copy_from_slice(frame.head.as_ref()), begun.clone());
            let stopped = || std::io::Error::other("the daemon stopped");
            stream::once(async move { if *begun.get_or_init(|| true) { Ok(bytes) } else { Err(stopped()) } })
        };
        let tail = {
            let (bytes, all_handed_over) = (Bytes::copy_from_slice(frame.tail.as_ref()), all_handed_over.clone());
            stream::once(async move {
                all_handed_over.store(true, Ordering::SeqCst);
                Ok(bytes)
            })
        };
        let body = head.chain(content).chain(tail);
        let sending = self
            .http
            .post(format!("{}{path}", self.base_url))
            .query(&parameters)
            .header(AUTHORIZATION, format!("Bearer {}", token.text()))
            .header(CONTENT_TYPE, frame.content_type())
            .header(CONTENT_LENGTH, frame.body_bytes(upload.bytes))
            .body(reqwest::Body::wrap_stream(body))
            .send();
        tokio::pin!(sending);
        let sent = tokio::select! {
            biased;
            sent = &mut sending => sent,
            () = stop => {
                if !*begun.get_or_init(|| false) {
                    return Err(UploadError::Stopped);
                }
                sending.await
            }
        };
        let response = match sent {
            Ok(response) => response,
            Err(error) if begun.get() != Some(&true) => return Err(UploadError::NeverSent(reason(&error))),
            Err(error) if !all_handed_over.load(Ordering::SeqCst) => {
                return Err(UploadError::BrokenOff(format!(
                    "the connection broke during the upload: {}",
                    reason(&error)
                )));
            }
            Err(error) => return Err(UploadError::AnswerLost { reason: reason(&error), request_id: None }),
        };
        let ApiResponse { http, envelope, excerpt } = read(response).await;
        let Some(envelope) = envelope else {
            return Err(match classify(http, None) {
                ErrorAction::OutcomeUnknown => UploadError::AnswerLost { reason: excerpt, request_id: None },
                action => self.refusal(token, action, excerpt, None).await.into(),
            });
        };
        let request_id = envelope.request_id.clone();
        if !envelope.success {
            return Err(match classify(http, Some(&envelope.errors)) {
                ErrorAction::OutcomeUnknown => {
                    UploadError::AnswerLost { reason: error_text(http, &envelope), request_id }
                }
                action => self.refusal(token, action, error_text(http, &envelope), request_id).await.into(),
            });
        }
        // A success without an id means an import that cannot be polled.
        let created = envelope.result.first();
        match created.and_then(|import| import.id().map(|id| (id.to_owned(), import.remote_status()))) {
            Some((marketo_batch_id, _)) if !marketo_id::is_valid(&marketo_batch_id) => {
                let shown = clip(&mask_addresses(&marketo_batch_id), MAX_ID_BYTES).into_owned();
                let reason = format!("Marketo created an import, and its batchId \"{shown}\" is not a number");
                Err(UploadError::AnswerLost { reason, request_id })
            }
            Some((marketo_batch_id, status)) => {
                Ok(CreatedImport { marketo_batch_id, status: status.unwrap_or(RemoteStatus::Queued), request_id })
            }
            None => {
                let reason = "Marketo created an import, and its answer has no batchId".to_owned();
                Err(UploadError::AnswerLost { reason, request_id })
            }
        }
    }

    /// Queries the status of the import `id`.
    ///
    /// # Errors
    /// [`QueryError`]; it says nothing about the import.
    pub async fn status(&self, token: &AccessToken, target: &Target, id: &str) -> Result<ImportStatus, QueryError> {
        let response = read(self.get(token, target, id, "").await?).await;
        let Some(envelope) = response.envelope else {
            return Err(self.refusal(token, classify(response.http, None), response.excerpt, None).await);
        };
        let request_id = envelope.request_id.clone();
        if !envelope.success {
            let action = classify(response.http, Some(&envelope.errors));
            return Err(self.refusal(token, action, error_text(response.http, &envelope), request_id).await);
        }
        let import = envelope.result.into_iter().next().unwrap_or_default();
        let (status, counts) = (import.remote_status(), import.counts());
        Ok(ImportStatus { status, status_text: import.status, counts, message: import.message, request_id })
    }

    /// Requests a report of the import `id`.
    ///
    /// # Errors
    /// [`QueryError`]; also where the response is an error envelope instead of a file.
    pub async fn report(
        &self,
        token: &AccessToken,
        target: &Target,
        id: &str,
        kind: ReportKind,
    ) -> Result<Report, QueryError> {
        let file = match kind {
            ReportKind::Failures => "failures",
            ReportKind::Warnings => "warnings",
        };
        let mut response = self.get(token, target, id, file).await?;
        let http = response.status().as_u16();
        if http == 404 {
            return Ok(Report::None);
        }
        let content_type =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let lost = |error| QueryError { action: ErrorAction::OutcomeUnknown, reason: reason(&error), request_id: None };
        let mut begins = Vec::new();
        if http == 200 {
            loop {
                match is_file(content_type.as_deref(), &begins) {
                    Some(true) => return Ok(Report::File(ReportFile { first: Some(begins.into()), rest: response })),
                    Some(false) => break,
                    None => match response.chunk().await.map_err(lost)? {
                        Some(more) => begins.extend_from_slice(&more),
                        None => return Ok(Report::None),
                    },
                }
            }
        }
        let read = read_rest(response, begins).await;
        match read.envelope {
            Some(envelope) => {
                let (request_id, action) = (envelope.request_id.clone(), classify(http, Some(&envelope.errors)));
                Err(self.refusal(token, action, error_text(http, &envelope), request_id).await)
            }
            None => Err(self.refusal(token, classify(http, None), read.excerpt, None).await),
        }
    }

    /// Makes a GET call about the import `id`; `file` is as in [`import_path`].
    async fn get(&self, token: &AccessToken, target: &Target, id: &str, file: &str) -> Result<Response, QueryError> {
        // A database of an earlier version may hold an id of another form.
        if !marketo_id::is_valid(id) {
            let reason = format!("Marketo's batchId \"{id}\" is not a number and cannot be queried");
            return Err(QueryError { action: ErrorAction::Reject, reason, request_id: None });
        }
        let request = self.http.get(format!("{}{}", self.base_url, import_path(target, id, file)));
        request.header(AUTHORIZATION, format!("Bearer {}", token.text())).send().await.map_err(|error| QueryError {
            action: ErrorAction::OutcomeUnknown,
            reason: reason(&error),
            request_id: None,
        })
    }

    /// Builds the error of a refused call. Drops a refused token, so that the next call fetches another.
    async fn refusal(
        &self,
        token: &AccessToken,
        action: ErrorAction,
        reason: String,
        request_id: Option<String>,
    ) -> QueryError {
        if action == ErrorAction::NewToken {
            self.tokens.invalidate(token).await;
        }
        QueryError { action, reason, request_id }
    }
}

impl From<QueryError> for UploadError {
    fn from(error: QueryError) -> Self {
        UploadError::Refused { action: error.action, reason: error.reason, request_id: error.request_id }
    }
}
