//! HTTP client for one instance: queries an import's status and requests its reports. [`create_import`] uploads files.
//!
//! [`create_import`]: crate::marketo::create_import

use jiff::Timestamp;
use reqwest::Response;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};

use crate::config;
use crate::domain::{Counts, FailureReason, RemoteStatus, ReportKind, Target, marketo_id};
use crate::error_chain::reason;
use crate::marketo::call_error::QueryError;
use crate::marketo::daemon_id::answering_daemon;
use crate::marketo::endpoints::import_path;
use crate::marketo::error_codes::{ErrorAction, classify};
use crate::marketo::http_clients::http_client;
use crate::marketo::report::{Report, ReportFile};
use crate::marketo::response::{is_file, read, read_rest, refusal_reason};
use crate::marketo::token::{AccessToken, CredentialStatus, IDENTITY_TIMEOUT, TokenCache, TokenError};
use crate::untrusted_text::{MAX_ID_BYTES, clip, mask_addresses};

/// Makes the calls to one instance. It does not limit them: each call except the token's needs a
/// [`CallPermit`](crate::marketo::CallPermit) first.
pub struct Client {
    pub(super) http: reqwest::Client,
    pub(super) base_url: String,
    tokens: TokenCache,
}

/// The status of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportStatus {
    /// The id that the answer names, clipped; none where it names none.
    pub marketo_batch_id: Option<String>,
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

impl Client {
    /// Builds the client of an instance.
    ///
    /// # Errors
    /// The reason as text, when TLS cannot be set up (for example without root certificates on the machine).
    pub fn new(instance: &config::Instance) -> Result<Client, String> {
        let identity = http_client(&instance.identity_url, IDENTITY_TIMEOUT)?;
        Ok(Client {
            http: http_client(&instance.base_url, instance.request_timeout)?,
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
            return Err(self.refusal(token, action, refusal_reason(response.http, &envelope), request_id).await);
        }
        let import = envelope.result.into_iter().next().unwrap_or_default();
        let (status, counts) = (import.remote_status(), import.counts());
        let marketo_batch_id = import.id().map(|id| clip(&mask_addresses(id), MAX_ID_BYTES).into_owned());
        Ok(ImportStatus {
            marketo_batch_id,
            status,
            status_text: import.status,
            counts,
            message: import.message,
            request_id,
        })
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
        let mut response = self.get(token, target, id, kind.as_str()).await?;
        let http = response.status().as_u16();
        if http == 404 {
            return Ok(Report::None);
        }
        let content_type =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let lost =
            |error| QueryError { action: ErrorAction::OutcomeUnknown, reason: reason(&error).into(), request_id: None };
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
                Err(self.refusal(token, action, refusal_reason(http, &envelope), request_id).await)
            }
            None => Err(self.refusal(token, classify(http, None), read.excerpt, None).await),
        }
    }

    /// Makes a GET call about the import `id`; `file` is as in [`import_path`].
    async fn get(&self, token: &AccessToken, target: &Target, id: &str, file: &str) -> Result<Response, QueryError> {
        // A database of an earlier version may hold an id of another form.
        if !marketo_id::is_valid(id) {
            let reason = format!("Marketo's batchId \"{id}\" is not a number and cannot be queried").into();
            return Err(QueryError { action: ErrorAction::Reject, reason, request_id: None });
        }
        let request = self.http.get(format!("{}{}", self.base_url, import_path(target, id, file)));
        request.header(AUTHORIZATION, format!("Bearer {}", token.text())).send().await.map_err(|error| QueryError {
            action: ErrorAction::OutcomeUnknown,
            reason: reason(&error).into(),
            request_id: None,
        })
    }

    /// Builds the error of a refused call. Drops a refused token, so that the next call fetches another.
    pub(super) async fn refusal(
        &self,
        token: &AccessToken,
        action: ErrorAction,
        reason: FailureReason,
        request_id: Option<String>,
    ) -> QueryError {
        if action == ErrorAction::NewToken {
            self.tokens.invalidate(token).await;
        }
        QueryError { action, reason, request_id }
    }
}
