//! Creation of an import: uploads a file as one multipart request.
//!
//! An upload can end in four kinds of error, because the possible next actions differ: never sent, broken off, refused,
//! answer lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};

use crate::domain::{Format, RemoteStatus, Target, marketo_id};
use crate::error_chain::reason;
use crate::marketo::call_error::UploadError;
use crate::marketo::client::Client;
use crate::marketo::endpoints::{CreateRequest, create_request};
use crate::marketo::error_codes::{ErrorAction, classify};
use crate::marketo::multipart::MultipartFrame;
use crate::marketo::response::{ApiResponse, read, refusal_reason};
use crate::marketo::token::AccessToken;
use crate::untrusted_text::{MAX_ID_BYTES, clip, mask_addresses};

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

impl Client {
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
        let CreateRequest { path, parameters } = create_request(upload.target, upload.format);
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
            Err(error) => return Err(UploadError::AnswerLost { reason: reason(&error).into(), request_id: None }),
        };
        self.created_import(token, read(response).await).await
    }

    /// Returns the import that Marketo created, or why there is none.
    async fn created_import(&self, token: &AccessToken, response: ApiResponse) -> Result<CreatedImport, UploadError> {
        let ApiResponse { http, envelope, excerpt } = response;
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
                    UploadError::AnswerLost { reason: refusal_reason(http, &envelope), request_id }
                }
                action => self.refusal(token, action, refusal_reason(http, &envelope), request_id).await.into(),
            });
        }
        // A success without an id means an import that cannot be polled.
        let created = envelope.result.first();
        match created.and_then(|import| import.id().map(|id| (id.to_owned(), import.remote_status()))) {
            Some((marketo_batch_id, _)) if !marketo_id::is_valid(&marketo_batch_id) => {
                let shown = clip(&mask_addresses(&marketo_batch_id), MAX_ID_BYTES).into_owned();
                let reason = format!("Marketo created an import, and its batchId \"{shown}\" is not a number").into();
                Err(UploadError::AnswerLost { reason, request_id })
            }
            Some((marketo_batch_id, status)) => {
                Ok(CreatedImport { marketo_batch_id, status: status.unwrap_or(RemoteStatus::Queued), request_id })
            }
            None => {
                let reason = "Marketo created an import, and its answer has no batchId".into();
                Err(UploadError::AnswerLost { reason, request_id })
            }
        }
    }
}
