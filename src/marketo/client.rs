//! How is a call made, and how did it end? The kinds of end of an upload are types of their own, because what may be done
//! next differs: never sent, broken off, refused, answer lost.

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

/// How long a connection may take to be made, where a whole call has more.
const MAX_CONNECT_TIME: Duration = Duration::from_secs(30);

/// Speaks to one instance. It keeps no limits: each call but the token's needs a [`crate::marketo::Permit`] first.
pub struct Client {
    http: reqwest::Client,
    base_url: String,
    tokens: TokenCache,
}

/// What to upload; the content comes as a stream of its own.
pub struct UploadRequest<'a> {
    pub target: &'a Target,
    pub filename: &'a str,
    pub format: Format,
    /// Bytes of the content.
    pub bytes: u64,
}

/// An import that Marketo made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedImport {
    pub marketo_batch_id: String,
    pub status: RemoteStatus,
    pub request_id: Option<String>,
}

/// Why there is no import, or none that we know of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// Nothing of the request left: there was no way to Marketo.
    #[error("{0}")]
    NeverSent(String),
    /// It was told to stop before anything of the request had left.
    #[error("the daemon was told to stop before the upload began")]
    Stopped,
    /// The request broke off before all of it had left, so there is no import. What breaks each time it is sent may be
    /// too large for someone in between, or too slow for the time that a call has.
    #[error("{0}")]
    BrokenOff(String),
    /// Marketo said no, so there is no import. [`Ask::OutcomeUnknown`] never stands here.
    #[error("{reason}")]
    Refused { ask: ErrorAction, reason: String, request_id: Option<String> },
    /// All of it may have arrived, and no answer says what became of it.
    #[error("{reason}")]
    AnswerLost { reason: String, request_id: Option<String> },
}

/// A question about an import that found no good answer. It says nothing about the import.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct QueryError {
    pub ask: ErrorAction,
    pub reason: String,
    pub request_id: Option<String>,
}

/// How an import stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportStatus {
    /// None where Marketo's word is none of the four that it documents.
    pub status: Option<RemoteStatus>,
    /// The word as it came, clipped.
    pub word: String,
    pub counts: Counts,
    pub message: Option<String>,
    pub request_id: Option<String>,
}

/// Which of the two files about an ended import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    Failures,
    Warnings,
}

/// The answer to a request for such a file.
pub enum Report {
    /// 404, or nothing in it.
    None,
    /// Its bytes as they come.
    File(ReportFile),
}

/// A failure or warning file on its way here.
pub struct ReportFile {
    first: Option<Bytes>,
    rest: Response,
}

impl ReportFile {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// The reason in one sentence, when the connection broke.
    pub async fn next(&mut self) -> Result<Option<Bytes>, String> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.rest.chunk().await.map_err(|error| reason(&error)),
        }
    }
}

impl Client {
    /// # Errors
    /// The reason in one sentence, when the TLS library can't be set up (no root certificates on the machine, say).
    pub fn new(instance: &config::Instance) -> Result<Client, String> {
        let build = |url: &str, timeout: Duration| {
            let http = client_for(url)
                .default_headers(HeaderMap::from_iter([(DAEMON_HEADER, daemon_id().clone())]))
                .timeout(timeout)
                .connect_timeout(timeout.min(MAX_CONNECT_TIME))
                // Marketo closes the connection after each answer; one kept here may be closed under an upload's feet,
                // and then nobody knows whether it arrived.
                .pool_max_idle_per_host(0);
            http.build().map_err(|error| {
                format!("{}: Marketo's certificate is checked by this machine's (ca-certificates)", reason(&error))
            })
        };
        let identity = build(&instance.identity_url, IDENTITY_TIMEOUT)?;
        Ok(Client {
            http: build(&instance.base_url, instance.request_timeout)?,
            base_url: instance.base_url.clone(),
            tokens: TokenCache::new(identity, &instance.identity_url, &instance.client_id, &instance.client_secret),
        })
    }

    /// The token for the next calls. Needs no permit: these calls count against no limit.
    pub async fn token(&self) -> Result<AccessToken, TokenError> {
        self.tokens.get().await
    }

    /// The ids of marqueue daemons that answer at the addresses of the instance, where Marketo should. Nothing is said of
    /// the credentials, and the calls, which have no token, count against no limit.
    pub async fn answering_daemons(&self) -> Vec<String> {
        let call = self.http.get(format!("{}/bulk/v1/leads.json", self.base_url)).send();
        let (call, identity) = tokio::join!(call, self.tokens.ask_without_credentials());
        let answers = [call.ok(), identity.ok()];
        answers.iter().flatten().filter_map(|answer| answering_daemon(answer.headers())).collect()
    }

    /// How the last request for a token went.
    pub fn credential_status(&self) -> CredentialStatus {
        self.tokens.credential_status()
    }

    /// What time it was there when the identity endpoint last answered, to the second; none where it did not say.
    pub fn server_time(&self) -> Option<Timestamp> {
        self.tokens.server_time()
    }

    /// Sends a file. `content` yields exactly `upload.bytes` bytes. When `stop` is over before any of them has left,
    /// nothing is sent; after that the upload goes on to its end.
    ///
    /// # Errors
    /// See [`CreateFault`]. A refused token is given up, so that [`Client::token`] fetches another.
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
        // Whether the first bytes are taken, or the stop comes before them: the first of the two to ask decides it.
        let begun = Arc::new(OnceLock::new());
        // Which bytes were ever taken from here decides between "never sent", "broken off" and "answer lost".
        let all_handed_over = Arc::new(AtomicBool::new(false));
        let head = {
            let (bytes, begun) = (Bytes::copy_from_slice(frame.head.as_ref()), begun.clone());
            let stopped = || std::io::Error::other("it was told to stop");
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
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) if begun.get() != Some(&true) => return Err(UploadError::NeverSent(reason(&error))),
            Err(error) if !all_handed_over.load(Ordering::SeqCst) => {
                return Err(UploadError::BrokenOff(format!("it broke off while it was sent: {}", reason(&error))));
            }
            Err(error) => return Err(UploadError::AnswerLost { reason: reason(&error), request_id: None }),
        };
        let ApiResponse { http, envelope, excerpt } = read(answer).await;
        let Some(envelope) = envelope else {
            return Err(match classify(http, None) {
                ErrorAction::OutcomeUnknown => UploadError::AnswerLost { reason: excerpt, request_id: None },
                ask => self.refusal(token, ask, excerpt, None).await.into(),
            });
        };
        let request_id = envelope.request_id.clone();
        if !envelope.success {
            return Err(match classify(http, Some(&envelope.errors)) {
                ErrorAction::OutcomeUnknown => {
                    UploadError::AnswerLost { reason: error_text(http, &envelope), request_id }
                }
                ask => self.refusal(token, ask, error_text(http, &envelope), request_id).await.into(),
            });
        }
        // A success without an id is an import that can't be asked after.
        let made = envelope.result.first();
        match made.and_then(|import| import.id().map(|id| (id.to_owned(), import.remote_status()))) {
            Some((marketo_batch_id, _)) if !marketo_id::is_valid(&marketo_batch_id) => {
                let shown = clip(&mask_addresses(&marketo_batch_id), MAX_ID_BYTES).into_owned();
                let reason =
                    format!("Marketo said that it made an import, and gave \"{shown}\" as its batchId: no number");
                Err(UploadError::AnswerLost { reason, request_id })
            }
            Some((marketo_batch_id, status)) => {
                Ok(CreatedImport { marketo_batch_id, status: status.unwrap_or(RemoteStatus::Queued), request_id })
            }
            None => {
                let reason = "Marketo said that it made an import, and not which".to_owned();
                Err(UploadError::AnswerLost { reason, request_id })
            }
        }
    }

    /// How the import `id` stands.
    ///
    /// # Errors
    /// See [`AskFault`]: it says nothing about the import.
    pub async fn status(&self, token: &AccessToken, target: &Target, id: &str) -> Result<ImportStatus, QueryError> {
        let answer = read(self.get(token, target, id, "").await?).await;
        let Some(envelope) = answer.envelope else {
            return Err(self.refusal(token, classify(answer.http, None), answer.excerpt, None).await);
        };
        let request_id = envelope.request_id.clone();
        if !envelope.success {
            let ask = classify(answer.http, Some(&envelope.errors));
            return Err(self.refusal(token, ask, error_text(answer.http, &envelope), request_id).await);
        }
        let import = envelope.result.into_iter().next().unwrap_or_default();
        let (status, counts) = (import.remote_status(), import.counts());
        Ok(ImportStatus { status, word: import.status, counts, message: import.message, request_id })
    }

    /// The failure or warning file of the import `id`.
    ///
    /// # Errors
    /// See [`AskFault`]; also where Marketo's error envelope came in the file's place.
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
        let mut answer = self.get(token, target, id, file).await?;
        let http = answer.status().as_u16();
        if http == 404 {
            return Ok(Report::None);
        }
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let lost = |error| QueryError { ask: ErrorAction::OutcomeUnknown, reason: reason(&error), request_id: None };
        let mut begins = Vec::new();
        if http == 200 {
            loop {
                match is_file(kind.as_deref(), &begins) {
                    Some(true) => return Ok(Report::File(ReportFile { first: Some(begins.into()), rest: answer })),
                    Some(false) => break,
                    None => match answer.chunk().await.map_err(lost)? {
                        Some(more) => begins.extend_from_slice(&more),
                        None => return Ok(Report::None),
                    },
                }
            }
        }
        let read = read_rest(answer, begins).await;
        match read.envelope {
            Some(envelope) => {
                let (request_id, ask) = (envelope.request_id.clone(), classify(http, Some(&envelope.errors)));
                Err(self.refusal(token, ask, error_text(http, &envelope), request_id).await)
            }
            None => Err(self.refusal(token, classify(http, None), read.excerpt, None).await),
        }
    }

    /// Asks about the import `id`; `file` as in [`import_path`].
    async fn get(&self, token: &AccessToken, target: &Target, id: &str, file: &str) -> Result<Response, QueryError> {
        // A database of an earlier version may hold an id of another form.
        if !marketo_id::is_valid(id) {
            let reason = format!("Marketo's batchId \"{id}\" is no number and can't be asked after");
            return Err(QueryError { ask: ErrorAction::Reject, reason, request_id: None });
        }
        let request = self.http.get(format!("{}{}", self.base_url, import_path(target, id, file)));
        request.header(AUTHORIZATION, format!("Bearer {}", token.text())).send().await.map_err(|error| QueryError {
            ask: ErrorAction::OutcomeUnknown,
            reason: reason(&error),
            request_id: None,
        })
    }

    /// Gives a refused token up, so that the next call fetches another.
    async fn refusal(
        &self,
        token: &AccessToken,
        ask: ErrorAction,
        reason: String,
        request_id: Option<String>,
    ) -> QueryError {
        if ask == ErrorAction::NewToken {
            self.tokens.invalidate(token).await;
        }
        QueryError { ask, reason, request_id }
    }
}

impl From<QueryError> for UploadError {
    fn from(fault: QueryError) -> Self {
        UploadError::Refused { ask: fault.ask, reason: fault.reason, request_id: fault.request_id }
    }
}
