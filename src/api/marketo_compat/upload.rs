//! Uploads of the Marketo-compatible API: reads the form as it arrives, passes the file on to [`crate::intake`], and
//! takes the job's settings from the form's other fields and the query.

use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use futures_util::stream;
use tokio::sync::SemaphorePermit;

use crate::api::auth::identity::Identity;
use crate::api::auth::tokens::AuthError;
use crate::api::marketo_compat::call::{Call, identify_legacy_token};
use crate::api::marketo_compat::endpoints::ImportTarget;
use crate::api::marketo_compat::legacy_tokens;
use crate::api::marketo_compat::legacy_tokens::HeldForm;
use crate::api::marketo_compat::response::CompatError;
use crate::api::marketo_compat::upload_form::{FormPosition, UploadForm};
use crate::api::state::AppState;
use crate::domain::Target;
use crate::form::{FormEvent, FormReader};
use crate::http_server::Peer;
use crate::intake::Incoming;
use crate::store::{Inserted, Job, NewJob};

/// Peer for a token that must be a client's: one that the socket issues without credentials is not valid here.
const NOT_THE_SOCKET: Option<Peer> = None;

/// Allowance for everything but the file in a form, when the announced size is checked.
const MAX_OVERHEAD_BYTES: u64 = 1024 * 1024;

/// What is known of an upload before its body is read.
pub(super) struct UploadRequest<'a> {
    /// Target in the path.
    pub target: ImportTarget,
    /// Who uploads.
    pub sender: Sender<'a>,
    /// Query without legacy tokens.
    pub query: Option<&'a str>,
}

/// Sender of an upload, and its instance.
pub(super) enum Sender<'a> {
    /// A client with a token.
    Known(Identity, String),
    /// A user of the socket, who needs no token. A token in the form is checked all the same and takes precedence.
    OnSocket(&'a Call, Identity, String),
    /// The form has the token.
    InForm(&'a Call),
}

/// Accepts an upload. On return the job is on the disk.
///
/// # Errors
/// [`CompatError`]; no content is kept then.
pub(super) async fn create(
    daemon: &AppState,
    request: UploadRequest<'_>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Job, CompatError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let in_form = matches!(request.sender, Sender::InForm(_));
    // An unknown sender gets 601 for every error.
    let reader = FormReader::new(kind)
        .map_err(|error| if in_form { AuthError::Invalid.into() } else { CompatError::from(error) })?;
    let announced = body.size_hint().exact();
    let form = UploadForm::new(reader, body.into_data_stream());
    let mut upload = FormUpload { form, request, held: HeldForm::default(), file_has_ended: false, refusal: None };
    upload.accept(daemon, announced).await
}

/// An upload under way.
struct FormUpload<'a> {
    form: UploadForm,
    request: UploadRequest<'a>,
    /// Content of the file that arrived before its sender was known.
    held: HeldForm,
    /// All content of the file has arrived.
    file_has_ended: bool,
    /// Why reading the form failed, which intake's error can't carry.
    refusal: Option<CompatError>,
}

impl FormUpload<'_> {
    async fn accept(&mut self, daemon: &AppState, announced: Option<u64>) -> Result<Job, CompatError> {
        let _buffer = match self.request.sender {
            Sender::InForm(call) => self.identify(daemon, call).await?,
            _ => None,
        };
        if let Some(announced) = announced {
            daemon.intake.check_announced_size(announced.saturating_sub(MAX_OVERHEAD_BYTES))?;
        }
        for (name, value) in url::form_urlencoded::parse(self.request.query.unwrap_or_default().as_bytes()) {
            self.form.fields.add(&name, &value)?;
        }
        if let ImportTarget::CustomObject(name) = &self.request.target
            && !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return Err(CompatError::new(1013, "Custom object not found"));
        }
        if self.form.filename.is_none() && self.form.read_to_file().await? == FormPosition::End {
            return Err(CompatError::new(1003, "The form has no part named 'file'"));
        }
        self.apply_form_token(daemon, FormPosition::File)?;
        // Parameters may follow the file: what is still missing is checked after it.
        let new = self.new_job(FormPosition::File)?;
        let incoming = stream::unfold(&mut *self, async |upload| match upload.next_incoming(daemon).await {
            Ok(incoming) => incoming.map(|incoming| (Ok(incoming), upload)),
            Err(refusal) => {
                upload.refusal = Some(refusal);
                Some((Err("the form can't be read"), upload))
            }
        });
        let received = daemon.intake.receive_form(new, incoming).await;
        match received {
            Ok(Inserted::Created(job) | Inserted::Existing(job)) => Ok(job),
            Err(error) => Err(self.refusal.take().unwrap_or_else(|| error.into())),
        }
    }

    /// Reads the form until its token has arrived, and buffers the content of the file that arrives before. Returns the
    /// permit of the buffer.
    ///
    /// # Errors
    /// 601 for every error in the form, because the sender is not known.
    async fn identify<'d>(
        &mut self,
        daemon: &'d AppState,
        call: &Call,
    ) -> Result<Option<SemaphorePermit<'d>>, CompatError> {
        let buffer = match tokio::time::timeout(legacy_tokens::MAX_HOLD_TIME, self.find_token(daemon)).await {
            Ok(buffer) => buffer?,
            Err(_elapsed) => return Err(legacy_tokens::refused_error("the form's token did not arrive in time")),
        };
        let token = self.form.token.take().ok_or(AuthError::Invalid)?;
        let caller = identify_legacy_token(daemon, NOT_THE_SOCKET, &token, "the form")?;
        let instance = call.authorize(daemon, &caller)?;
        self.request.sender = Sender::Known(caller, instance);
        Ok(buffer)
    }

    async fn find_token<'d>(&mut self, daemon: &'d AppState) -> Result<Option<SemaphorePermit<'d>>, CompatError> {
        let only_601 = |error: CompatError| if error.code() == 601 { error } else { AuthError::Invalid.into() };
        let position = self.form.read_to_file().await.map_err(only_601)?;
        if position == FormPosition::End || self.form.token.is_some() {
            return Ok(None);
        }
        let buffer = daemon.legacy_tokens.acquire_buffer().await?;
        while self.form.token.is_none() {
            if self.form.bytes_read > legacy_tokens::MAX_HELD_BYTES {
                return Err(legacy_tokens::refused_error(&format!(
                    "the form's first {} bytes have none: send it in the header Authorization, or before the file",
                    legacy_tokens::MAX_HELD_BYTES
                )));
            }
            match self.form.next_event().await.map_err(only_601)? {
                Some(FormEvent::Content(bytes)) => self.held.push(&bytes),
                Some(FormEvent::PartEnd) => self.file_has_ended = true,
                Some(FormEvent::Head(head)) if head.name == "file" => return Err(AuthError::Invalid.into()),
                Some(FormEvent::Head(head)) => self.form.read_field(&head.name).await.map_err(only_601)?,
                Some(FormEvent::End) => {}
                None => break,
            }
        }
        Ok(Some(buffer))
    }

    /// Makes the token of a form over the socket identify the sender. The socket needs no token, but one in the form is
    /// checked, as one in the header is.
    ///
    /// # Errors
    /// 601 where the token is invalid, and the errors of [`Call::authorize`]. 603 where it follows the file and its
    /// client has another instance.
    fn apply_form_token(&mut self, daemon: &AppState, position: FormPosition) -> Result<(), CompatError> {
        let Sender::OnSocket(call, user, instance) = &self.request.sender else { return Ok(()) };
        let (Some(token), Identity::User { uid }) = (self.form.token.take(), user) else { return Ok(()) };
        let caller = identify_legacy_token(daemon, Some(Peer::Socket { uid: *uid }), &token, "the form")?;
        let own = call.authorize(daemon, &caller)?;
        if position == FormPosition::End && own != *instance {
            return Err(CompatError::new(603, "Access denied: the token after the file is for another instance"));
        }
        self.request.sender = Sender::Known(caller, own);
        Ok(())
    }

    /// Returns what intake gets next: the file's content, and at the end the complete job.
    async fn next_incoming(&mut self, daemon: &AppState) -> Result<Option<Incoming>, CompatError> {
        if let Some(bytes) = self.held.pop() {
            return Ok(Some(Incoming::Content(bytes)));
        }
        if std::mem::take(&mut self.file_has_ended) {
            return self.read_fields_after_file(daemon).await.map(Some);
        }
        loop {
            match self.form.next_event().await? {
                Some(FormEvent::Content(bytes)) => return Ok(Some(Incoming::Content(bytes))),
                Some(FormEvent::PartEnd) => return self.read_fields_after_file(daemon).await.map(Some),
                Some(FormEvent::Head(_) | FormEvent::End) => {}
                None => return Ok(None),
            }
        }
    }

    /// Reads the fields after the file.
    async fn read_fields_after_file(&mut self, daemon: &AppState) -> Result<Incoming, CompatError> {
        if self.form.read_to_file().await? == FormPosition::File {
            return Err(CompatError::new(1003, "The form has two parts named 'file'"));
        }
        self.apply_form_token(daemon, FormPosition::End)?;
        Ok(Incoming::Metadata(Box::new(self.new_job(FormPosition::End)?)))
    }

    /// Makes the job of the parameters so far. Before the file a missing `programMemberStatus` is allowed, because it
    /// may follow.
    fn new_job(&self, position: FormPosition) -> Result<NewJob, CompatError> {
        let target = match &self.request.target {
            ImportTarget::Leads => Target::Leads {
                lookup_field: self.form.fields.get("lookupField").map(str::to_owned),
                list_id: self.form.fields.number("listId")?,
                partition: self.form.fields.get("partitionName").map(str::to_owned),
            },
            ImportTarget::CustomObject(name) => Target::CustomObject { name: name.clone() },
            ImportTarget::ProgramMembers(program) => {
                let status = self.form.fields.get("programMemberStatus");
                if status.is_none() && position == FormPosition::End {
                    return Err(CompatError::new(1002, "Missing value for required parameter 'programMemberStatus'"));
                }
                Target::ProgramMembers {
                    program_id: program.unwrap_or_default(),
                    status: status.unwrap_or_default().to_owned(),
                }
            }
        };
        let (source, instance) = match &self.request.sender {
            Sender::Known(caller, instance) | Sender::OnSocket(_, caller, instance) => {
                (caller.source(), instance.clone())
            }
            Sender::InForm(_) => return Err(AuthError::Invalid.into()),
        };
        Ok(NewJob {
            instance,
            filename: self.form.filename.clone().unwrap_or_default(),
            target,
            format: self.form.fields.format()?,
            priority: 0,
            group: None,
            not_before: None,
            in_order: false,
            canary: None,
            max_failed_percent: None,
            pack: None,
            idempotency_key: None,
            retry_of: None,
            source,
        })
    }
}
