//! Uploads of the Marketo-compatible API: reads the form as it arrives, passes the file on to [`crate::intake`], and takes
//! the job's settings from the form's other fields and the query.

use std::collections::BTreeMap;

use axum::body::{Body, BodyDataStream, HttpBody};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use futures_util::{StreamExt, stream};
use tokio::sync::SemaphorePermit;

use crate::api::auth::identity::Identity;
use crate::api::auth::tokens::AuthError;
use crate::api::marketo_compat::endpoints::ImportTarget;
use crate::api::marketo_compat::legacy_tokens;
use crate::api::marketo_compat::legacy_tokens::{ACCESS_TOKEN, HeldForm};
use crate::api::marketo_compat::response::CompatError;
use crate::api::marketo_compat::{Call, identify_legacy_token};
use crate::api::state::AppState;
use crate::delimited::ValidationError;
use crate::domain::{Format, Target};
use crate::form::{FormError, FormEvent, FormReader, PartHead};
use crate::http_server::Peer;
use crate::intake::{Incoming, IntakeError};
use crate::secret::Secret;
use crate::store::{Inserted, Job, NewJob};
use crate::untrusted_text::file_name;

/// Marketo's parameters; others are ignored, as at Marketo.
pub(super) const PARAMETERS: [&str; 5] = ["format", "lookupField", "listId", "partitionName", "programMemberStatus"];

/// The longest value of a field in bytes, and the most fields of a form.
const MAX_VALUE_BYTES: usize = 4096;
const MAX_FIELDS: usize = 100;

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
    let form = FormReader::new(kind)
        .map_err(|error| if in_form { AuthError::Invalid.into() } else { CompatError::from(error) })?;
    let announced = body.size_hint().exact();
    let body = body.into_data_stream();
    let mut upload = FormUpload {
        form,
        body,
        request,
        parameters: FormFields::default(),
        fields: 0,
        read: 0,
        token: None,
        held: HeldForm::default(),
        file_has_ended: false,
        filename: None,
        refusal: None,
    };
    upload.accept(daemon, announced).await
}

/// Whether the form has been read up to its file or to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FilePosition {
    Before,
    After,
}

/// An upload under way.
struct FormUpload<'a> {
    form: FormReader,
    body: BodyDataStream,
    request: UploadRequest<'a>,
    parameters: FormFields,
    /// Number of fields so far.
    fields: usize,
    /// Bytes of the body so far.
    read: u64,
    /// The form's token; an empty one counts as missing.
    token: Option<Secret>,
    /// Content of the file that arrived before its sender was known.
    held: HeldForm,
    /// All content of the file has arrived.
    file_has_ended: bool,
    /// Once the file has begun.
    filename: Option<String>,
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
            daemon.intake.check_announced_size(announced.saturating_sub(MAX_OVERHEAD_BYTES)).map_err(intake_error)?;
        }
        for (name, value) in url::form_urlencoded::parse(self.request.query.unwrap_or_default().as_bytes()) {
            self.parameters.add(&name, &value)?;
        }
        if let ImportTarget::CustomObject(name) = &self.request.target
            && !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return Err(CompatError::new(1013, "Custom object not found"));
        }
        if self.filename.is_none() && !self.find_file().await? {
            return Err(CompatError::new(1003, "The form has no part named 'file'"));
        }
        self.apply_form_token(daemon, FilePosition::Before)?;
        // Parameters may follow the file: what is still missing is checked after it.
        let new = self.new_job(FilePosition::Before)?;
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
            Err(error) => Err(self.refusal.take().unwrap_or_else(|| intake_error(error))),
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
        let token = self.token.take().ok_or(AuthError::Invalid)?;
        let caller = identify_legacy_token(daemon, NOT_THE_SOCKET, &token, "the form")?;
        let instance = call.authorize(daemon, &caller)?;
        self.request.sender = Sender::Known(caller, instance);
        Ok(buffer)
    }

    async fn find_token<'d>(&mut self, daemon: &'d AppState) -> Result<Option<SemaphorePermit<'d>>, CompatError> {
        let only_601 = |error: CompatError| if error.code() == 601 { error } else { AuthError::Invalid.into() };
        if !self.find_file().await.map_err(only_601)? || self.token.is_some() {
            return Ok(None);
        }
        let buffer = daemon.legacy_tokens.acquire_buffer().await?;
        while self.token.is_none() {
            if self.read > legacy_tokens::MAX_HELD_BYTES {
                return Err(legacy_tokens::refused_error(&format!(
                    "the form's first {} bytes have none: send it in the header Authorization, or before the file",
                    legacy_tokens::MAX_HELD_BYTES
                )));
            }
            match self.next_event().await.map_err(only_601)? {
                Some(FormEvent::Content(bytes)) => self.held.push(&bytes),
                Some(FormEvent::PartEnd) => self.file_has_ended = true,
                Some(FormEvent::Head(head)) if head.name == "file" => return Err(AuthError::Invalid.into()),
                Some(FormEvent::Head(head)) => self.read_field(&head.name).await.map_err(only_601)?,
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
    /// 601 where the token is invalid, and the errors of [`Call::authorize`]. 603 where it follows the file and its client
    /// has another instance.
    fn apply_form_token(&mut self, daemon: &AppState, position: FilePosition) -> Result<(), CompatError> {
        let Sender::OnSocket(call, user, instance) = &self.request.sender else { return Ok(()) };
        let (Some(token), Identity::User { uid }) = (self.token.take(), user) else { return Ok(()) };
        let caller = identify_legacy_token(daemon, Some(Peer::Socket { uid: *uid }), &token, "the form")?;
        let own = call.authorize(daemon, &caller)?;
        if position == FilePosition::After && own != *instance {
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
            match self.next_event().await? {
                Some(FormEvent::Content(bytes)) => return Ok(Some(Incoming::Content(bytes))),
                Some(FormEvent::PartEnd) => return self.read_fields_after_file(daemon).await.map(Some),
                Some(FormEvent::Head(_) | FormEvent::End) => {}
                None => return Ok(None),
            }
        }
    }

    /// Reads the fields after the file.
    async fn read_fields_after_file(&mut self, daemon: &AppState) -> Result<Incoming, CompatError> {
        if self.find_file().await? {
            return Err(two_files());
        }
        self.apply_form_token(daemon, FilePosition::After)?;
        Ok(Incoming::Metadata(Box::new(self.new_job(FilePosition::After)?)))
    }

    /// Reads fields up to the beginning of the file; returns false if the form ends before.
    async fn find_file(&mut self) -> Result<bool, CompatError> {
        loop {
            match self.next_event().await? {
                Some(FormEvent::Head(head)) if head.name == "file" => {
                    self.filename.get_or_insert_with(|| filename(&head));
                    return Ok(true);
                }
                Some(FormEvent::Head(head)) => self.read_field(&head.name).await?,
                Some(FormEvent::Content(_) | FormEvent::PartEnd | FormEvent::End) => {}
                None => return Ok(false),
            }
        }
    }

    async fn read_field(&mut self, name: &str) -> Result<(), CompatError> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(CompatError::new(1003, format!("The form has more than {MAX_FIELDS} fields")));
        }
        let mut value = Vec::new();
        while let Some(FormEvent::Content(bytes)) = self.next_event().await? {
            if value.len() + bytes.len() > MAX_VALUE_BYTES {
                return Err(CompatError::new(
                    1003,
                    format!("A field of the form has more than {MAX_VALUE_BYTES} bytes"),
                ));
            }
            value.extend_from_slice(&bytes);
        }
        if name == ACCESS_TOKEN {
            self.token = Some(Secret::new(String::from_utf8_lossy(&value))).filter(|token| !token.expose().is_empty());
            return Ok(());
        }
        self.parameters.add(name, &String::from_utf8_lossy(&value))
    }

    /// Returns the form's next event; none after its end.
    async fn next_event(&mut self) -> Result<Option<FormEvent>, CompatError> {
        loop {
            match self.form.next_event()? {
                Some(FormEvent::End) => {
                    // The body is read to its end, so that the connection can serve another request.
                    while let Some(Ok(_)) = self.body.next().await {}
                    return Ok(None);
                }
                Some(event) => return Ok(Some(event)),
                None if self.form.has_ended() => return Ok(None),
                None => match self.body.next().await {
                    Some(Ok(bytes)) => {
                        self.read += bytes.len() as u64;
                        self.form.push(&bytes);
                    }
                    // The connection is lost, so nobody reads this response.
                    Some(Err(_)) => return Err(FormError::CutOff.into()),
                    None => self.form.finish(),
                },
            }
        }
    }

    /// Makes the job of the parameters so far. Before the file a missing `programMemberStatus` is allowed, because it may
    /// follow.
    fn new_job(&self, position: FilePosition) -> Result<NewJob, CompatError> {
        let target = match &self.request.target {
            ImportTarget::Leads => Target::Leads {
                lookup_field: self.parameters.get("lookupField").map(str::to_owned),
                list_id: self.parameters.number("listId")?,
                partition: self.parameters.get("partitionName").map(str::to_owned),
            },
            ImportTarget::CustomObject(name) => Target::CustomObject { name: name.clone() },
            ImportTarget::ProgramMembers(program) => {
                let status = self.parameters.get("programMemberStatus");
                if status.is_none() && position == FilePosition::After {
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
            filename: self.filename.clone().unwrap_or_default(),
            target,
            format: self.parameters.format()?,
            priority: 0,
            group: None,
            idempotency_key: None,
            retry_of: None,
            source,
        })
    }
}

/// Parameters by name. An empty one counts as missing.
#[derive(Debug, Default)]
struct FormFields(BTreeMap<&'static str, String>);

impl FormFields {
    fn add(&mut self, name: &str, value: &str) -> Result<(), CompatError> {
        let Some(&known) = PARAMETERS.iter().find(|known| **known == name) else { return Ok(()) };
        match self.0.get(known) {
            _ if value.is_empty() => Ok(()),
            Some(before) if before != value => {
                Err(CompatError::new(1003, format!("The parameter '{known}' has two different values")))
            }
            _ => {
                self.0.insert(known, value.to_owned());
                Ok(())
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns the format; default CSV. Adobe's page writes the names in capitals.
    fn format(&self) -> Result<Format, CompatError> {
        let Some(format) = self.get("format") else { return Ok(Format::Csv) };
        format.to_ascii_lowercase().parse().map_err(|_| invalid_value(format, "csv, tsv or ssv"))
    }

    fn number(&self, name: &str) -> Result<Option<i64>, CompatError> {
        let number = |text: &str| text.parse().ok().filter(|&id| id > 0).ok_or_else(|| invalid_value(text, "Integer"));
        self.get(name).map(number).transpose()
    }
}

fn invalid_value(value: &str, kind: &str) -> CompatError {
    let value: String = value.chars().take(40).collect();
    CompatError::new(1001, format!("Invalid value '{value}'. Required of type '{kind}'"))
}

/// Returns the file's name without its folders, which mean nothing here and may be private. An invalid name is corrected
/// and not refused, because it is only shown.
fn filename(head: &PartHead) -> String {
    let name = head.filename.as_deref().and_then(|name| name.rsplit(['/', '\\']).next()).unwrap_or_default();
    let kept: String = name.chars().filter(|letter| !letter.is_control()).collect();
    let (stem, ending) = match Format::from_filename(&kept) {
        Some(format) => kept.split_at(kept.len() - format.as_str().len() - 1),
        None => (kept.as_str(), ""),
    };
    let kept = file_name(stem, ending);
    if kept.trim().is_empty() { "import.csv".into() } else { kept }
}

fn two_files() -> CompatError {
    CompatError::new(1003, "The form has two parts named 'file'")
}

impl From<FormError> for CompatError {
    fn from(error: FormError) -> Self {
        match error {
            FormError::NotAForm => CompatError::new(612, "Invalid Content Type"),
            error => CompatError::new(613, format!("Invalid Multipart Request: {error}")),
        }
    }
}

fn intake_error(error: IntakeError) -> CompatError {
    match error {
        IntakeError::File(ValidationError::Empty) => CompatError::new(1003, "Empty File"),
        IntakeError::File(ValidationError::MissingColumn { column, .. }) => {
            CompatError::new(1006, format!("Header field '{column}' not found"))
        }
        IntakeError::File(fault) => CompatError::new(1003, fault.to_string()),
        IntakeError::Wrong(wrong) => CompatError::new(1003, wrong),
        IntakeError::TooLarge(_) => CompatError::bare(StatusCode::PAYLOAD_TOO_LARGE),
        IntakeError::CutOff(_) => FormError::CutOff.into(),
        IntakeError::UnknownInstance { .. } => CompatError::new(610, "Requested resource not found"),
        IntakeError::Store(error) => {
            CompatError::of_store(error, || CompatError::new(608, "API Temporarily Unavailable"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form_fields(pairs: &[(&str, &str)]) -> Result<FormFields, CompatError> {
        let mut fields = FormFields::default();
        pairs.iter().try_for_each(|(name, value)| fields.add(name, value))?;
        Ok(fields)
    }

    #[test]
    fn a_format_may_be_in_capitals_or_left_out() {
        for (pairs, format) in [
            (&[][..], Ok(Format::Csv)),
            (&[("format", "")], Ok(Format::Csv)),
            (&[("format", "tsv")], Ok(Format::Tsv)),
            (&[("format", "SSV")], Ok(Format::Ssv)),
            (&[("format", "xml")], Err(1001)),
        ] {
            assert_eq!(form_fields(pairs).unwrap().format().map_err(|refusal| refusal.code()), format, "{pairs:?}");
        }
    }

    #[test]
    fn a_parameter_may_be_given_twice_if_it_is_the_same() {
        assert!(
            form_fields(&[("format", "tsv"), ("format", ""), ("format", "tsv"), ("other", "1"), ("other", "2")])
                .is_ok()
        );
        assert_eq!(form_fields(&[("listId", "1"), ("listId", "2")]).unwrap_err().code(), 1003);
    }

    #[test]
    fn an_id_is_a_positive_integer() {
        let number =
            |text| form_fields(&[("listId", text)]).unwrap().number("listId").map_err(|refusal| refusal.code());
        assert_eq!([number("7"), number("")], [Ok(Some(7)), Ok(None)]);
        for text in ["0", "-1", "x", "1.5", "99999999999999999999"] {
            assert_eq!(number(text), Err(1001), "{text}");
        }
    }

    #[test]
    fn an_invalid_file_name_is_corrected() {
        let (long, shortened) = (format!("{}.csv", "ü".repeat(130)), format!("{}.csv", "ü".repeat(125)));
        for (name, kept) in [
            (Some("dir/leads.csv"), "leads.csv"),
            (Some(r"C:\data\leads.csv"), "leads.csv"),
            (Some("a\nb.csv"), "ab.csv"),
            (Some(&long), &shortened),
            (Some(""), "import.csv"),
            (None, "import.csv"),
        ] {
            let head = PartHead { name: "file".into(), filename: name.map(str::to_owned), content_type: None };
            assert_eq!(filename(&head), kept);
        }
    }
}
