//! How does an upload become a job? Its form is read as it comes: the file goes on to intake, and what stands around it, or
//! in the query, says what kind of job it is.

use std::collections::BTreeMap;

use axum::body::{Body, BodyDataStream, HttpBody};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use futures_util::{StreamExt, stream};
use tokio::sync::SemaphorePermit;

use crate::api::AppState;
use crate::api::auth::identity::Identity;
use crate::api::auth::tokens::AuthError;
use crate::api::marketo_compat::endpoints::ImportTarget;
use crate::api::marketo_compat::legacy_tokens;
use crate::api::marketo_compat::legacy_tokens::{ACCESS_TOKEN, HeldForm};
use crate::api::marketo_compat::response::CompatError;
use crate::api::marketo_compat::{Asked, of_legacy_token};
use crate::delimited::ValidationError;
use crate::domain::{Format, Target};
use crate::form::{FormError, FormEvent, FormReader, PartHead};
use crate::http_server::Peer;
use crate::intake::{Incoming, IntakeError};
use crate::secret::Secret;
use crate::store::{Inserted, Job, NewJob};
use crate::untrusted_text::file_name;

/// Those of Marketo's parameters that say something; others are passed over, as there.
pub(super) const PARAMETERS: [&str; 5] = ["format", "lookupField", "listId", "partitionName", "programMemberStatus"];

/// Bytes of a file's name and of a parameter's value, and fields of a form.
const MAX_VALUE_BYTES: usize = 4096;
const MAX_FIELDS: usize = 100;

/// A token that the socket gives to anyone is worth nothing elsewhere.
const NOT_THE_SOCKET: Option<Peer> = None;

/// More than what stands around a file in a form takes, where its fields are ours.
const MAX_FRAME_BYTES: u64 = 1024 * 1024;

/// What is known of an upload before its body is read.
pub(super) struct UploadRequest<'a> {
    pub place: ImportTarget,
    pub sender: Sender<'a>,
    pub query: Option<&'a str>,
}

/// Whose upload it is, and for which instance.
pub(super) enum Sender<'a> {
    Known(Identity, String),
    /// A user of the socket, who needs no token. One in the form says more, and is held to.
    OnSocket(&'a Asked, Identity, String),
    /// The form has the token that says it.
    InForm(&'a Asked),
}

/// Takes an upload in; on return the job is on the disk.
///
/// # Errors
/// [`Refusal`]; nothing of it is kept then.
pub(super) async fn create(
    daemon: &AppState,
    order: UploadRequest<'_>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Job, CompatError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let in_form = matches!(order.sender, Sender::InForm(_));
    // Who is not known is told nothing else.
    let form = FormReader::new(kind)
        .map_err(|fault| if in_form { AuthError::Invalid.into() } else { CompatError::from(fault) })?;
    let announced = body.size_hint().exact();
    let body = body.into_data_stream();
    let mut upload = FormUpload {
        form,
        body,
        order,
        said: FormFields::default(),
        fields: 0,
        read: 0,
        token: None,
        held: HeldForm::default(),
        file_has_ended: false,
        filename: None,
        refusal: None,
    };
    upload.take(daemon, announced).await
}

struct FormUpload<'a> {
    form: FormReader,
    body: BodyDataStream,
    order: UploadRequest<'a>,
    said: FormFields,
    fields: usize,
    /// Bytes of the body so far.
    read: u64,
    /// The form's own; one that is empty was not given.
    token: Option<Secret>,
    /// Content of the file that came before its sender was known.
    held: HeldForm,
    /// All content of the file has come.
    file_has_ended: bool,
    /// Once the file has begun.
    filename: Option<String>,
    /// Why reading it ended, for which intake has no words.
    refusal: Option<CompatError>,
}

impl FormUpload<'_> {
    async fn take(&mut self, daemon: &AppState, announced: Option<u64>) -> Result<Job, CompatError> {
        let _place = match self.order.sender {
            Sender::InForm(asked) => self.identify(daemon, asked).await?,
            _ => None,
        };
        if let Some(announced) = announced {
            daemon.intake.check_announced_size(announced.saturating_sub(MAX_FRAME_BYTES)).map_err(of_intake)?;
        }
        for (name, value) in url::form_urlencoded::parse(self.order.query.unwrap_or_default().as_bytes()) {
            self.said.add(&name, &value)?;
        }
        if let ImportTarget::CustomObject(name) = &self.order.place
            && !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return Err(CompatError::new(1013, "Custom object not found"));
        }
        if self.filename.is_none() && !self.find_file().await? {
            return Err(CompatError::new(1003, "The form has no part named 'file'"));
        }
        self.own_token(daemon, false)?;
        // Of what is still missing nothing is needed before the file's end.
        let new = self.job(false)?;
        let incoming = stream::unfold(&mut *self, async |upload| match upload.incoming(daemon).await {
            Ok(incoming) => incoming.map(|incoming| (Ok(incoming), upload)),
            Err(refusal) => {
                upload.refusal = Some(refusal);
                Some((Err("the form is not a good one"), upload))
            }
        });
        let received = daemon.intake.receive_form(new, incoming).await;
        match received {
            Ok(Inserted::Created(job) | Inserted::Existing(job)) => Ok(job),
            Err(error) => Err(self.refusal.take().unwrap_or_else(|| of_intake(error))),
        }
    }

    /// Reads the form until its token has come, and holds in memory what of the file comes before. Gives the place that
    /// this takes.
    ///
    /// # Errors
    /// 601, whatever else is wrong with the form: who is not known is told nothing of it.
    async fn identify<'d>(
        &mut self,
        daemon: &'d AppState,
        asked: &Asked,
    ) -> Result<Option<SemaphorePermit<'d>>, CompatError> {
        let place = match tokio::time::timeout(legacy_tokens::MAX_HOLD_TIME, self.find_token(daemon)).await {
            Ok(place) => place?,
            Err(_late) => return Err(legacy_tokens::refused_error("the form's token did not come in time")),
        };
        let token = self.token.take().ok_or(AuthError::Invalid)?;
        let caller = of_legacy_token(daemon, NOT_THE_SOCKET, &token, "the form")?;
        let instance = asked.admit(daemon, &caller)?;
        self.order.sender = Sender::Known(caller, instance);
        Ok(place)
    }

    async fn find_token<'d>(&mut self, daemon: &'d AppState) -> Result<Option<SemaphorePermit<'d>>, CompatError> {
        let only_601 = |refusal: CompatError| if refusal.code() == 601 { refusal } else { AuthError::Invalid.into() };
        if !self.find_file().await.map_err(only_601)? || self.token.is_some() {
            return Ok(None);
        }
        let place = daemon.legacy_tokens.acquire_slot().await?;
        while self.token.is_none() {
            if self.read > legacy_tokens::MAX_HELD_BYTES {
                return Err(legacy_tokens::refused_error(&format!(
                    "the form has none in its first {} bytes; send it in the header Authorization, or before the file",
                    legacy_tokens::MAX_HELD_BYTES
                )));
            }
            match self.event().await.map_err(only_601)? {
                Some(FormEvent::Content(bytes)) => self.held.push(&bytes),
                Some(FormEvent::PartEnd) => self.file_has_ended = true,
                Some(FormEvent::Head(head)) if head.name == "file" => return Err(AuthError::Invalid.into()),
                Some(FormEvent::Head(head)) => self.field(&head.name).await.map_err(only_601)?,
                Some(FormEvent::End) => {}
                None => break,
            }
        }
        Ok(Some(place))
    }

    /// Over the socket a token is not asked for. One in the form is held to all the same, as one in the header is.
    ///
    /// # Errors
    /// 601 where it is no good, and what else [`Asked::admit`] says of its client. 603 where the file has begun already,
    /// for another instance than its client's.
    fn own_token(&mut self, daemon: &AppState, begun: bool) -> Result<(), CompatError> {
        let Sender::OnSocket(asked, user, instance) = &self.order.sender else { return Ok(()) };
        let (Some(token), Identity::User { uid }) = (self.token.take(), user) else { return Ok(()) };
        let caller = of_legacy_token(daemon, Some(Peer::Socket { uid: *uid }), &token, "the form")?;
        let own = asked.admit(daemon, &caller)?;
        if begun && own != *instance {
            return Err(CompatError::new(603, "Access denied: the token behind the file is for another instance"));
        }
        self.order.sender = Sender::Known(caller, own);
        Ok(())
    }

    /// What intake is to have next: the file's content, and at the end what was said in all.
    async fn incoming(&mut self, daemon: &AppState) -> Result<Option<Incoming>, CompatError> {
        if let Some(bytes) = self.held.pop() {
            return Ok(Some(Incoming::Content(bytes)));
        }
        if std::mem::take(&mut self.file_has_ended) {
            return self.read_metadata_behind_file(daemon).await.map(Some);
        }
        loop {
            match self.event().await? {
                Some(FormEvent::Content(bytes)) => return Ok(Some(Incoming::Content(bytes))),
                Some(FormEvent::PartEnd) => return self.read_metadata_behind_file(daemon).await.map(Some),
                Some(FormEvent::Head(_) | FormEvent::End) => {}
                None => return Ok(None),
            }
        }
    }

    /// Reads what stands behind the file.
    async fn read_metadata_behind_file(&mut self, daemon: &AppState) -> Result<Incoming, CompatError> {
        if self.find_file().await? {
            return Err(two_files());
        }
        self.own_token(daemon, true)?;
        Ok(Incoming::Metadata(Box::new(self.job(true)?)))
    }

    /// Reads fields up to the beginning of the file; false if the form ends before.
    async fn find_file(&mut self) -> Result<bool, CompatError> {
        loop {
            match self.event().await? {
                Some(FormEvent::Head(head)) if head.name == "file" => {
                    self.filename.get_or_insert_with(|| filename(&head));
                    return Ok(true);
                }
                Some(FormEvent::Head(head)) => self.field(&head.name).await?,
                Some(FormEvent::Content(_) | FormEvent::PartEnd | FormEvent::End) => {}
                None => return Ok(false),
            }
        }
    }

    async fn field(&mut self, name: &str) -> Result<(), CompatError> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(CompatError::new(1003, format!("The form has more than {MAX_FIELDS} fields")));
        }
        let mut value = Vec::new();
        while let Some(FormEvent::Content(bytes)) = self.event().await? {
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
        self.said.add(name, &String::from_utf8_lossy(&value))
    }

    /// The form's next event; none behind its end.
    async fn event(&mut self) -> Result<Option<FormEvent>, CompatError> {
        loop {
            match self.form.next_event()? {
                Some(FormEvent::End) => {
                    // Read to its end, so that the connection can serve another call.
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
                    // Nobody is there any more to read the answer.
                    Some(Err(_)) => return Err(FormError::CutOff.into()),
                    None => self.form.finish(),
                },
            }
        }
    }

    /// The job that was asked for. Until `all` is said a status that is missing may still come.
    fn job(&self, all: bool) -> Result<NewJob, CompatError> {
        let target = match &self.order.place {
            ImportTarget::Leads => Target::Leads {
                lookup_field: self.said.get("lookupField").map(str::to_owned),
                list_id: self.said.number("listId")?,
                partition: self.said.get("partitionName").map(str::to_owned),
            },
            ImportTarget::CustomObject(name) => Target::CustomObject { name: name.clone() },
            ImportTarget::ProgramMembers(program) => {
                let status = self.said.get("programMemberStatus");
                if status.is_none() && all {
                    return Err(CompatError::new(1002, "Missing value for required parameter 'programMemberStatus'"));
                }
                Target::ProgramMembers {
                    program_id: program.unwrap_or_default(),
                    status: status.unwrap_or_default().to_owned(),
                }
            }
        };
        let (source, instance) = match &self.order.sender {
            Sender::Known(caller, instance) | Sender::OnSocket(_, caller, instance) => {
                (caller.source(), instance.clone())
            }
            Sender::InForm(_) => return Err(AuthError::Invalid.into()),
        };
        Ok(NewJob {
            instance,
            filename: self.filename.clone().unwrap_or_default(),
            target,
            format: self.said.format()?,
            priority: 0,
            group: None,
            idempotency_key: None,
            retry_of: None,
            source,
        })
    }
}

/// Parameters by their names. One that is empty was not given.
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

    /// Adobe's page has the names in capitals, and CSV as the default.
    fn format(&self) -> Result<Format, CompatError> {
        let Some(word) = self.get("format") else { return Ok(Format::Csv) };
        word.to_ascii_lowercase().parse().map_err(|_| invalid(word, "csv, tsv or ssv"))
    }

    fn number(&self, name: &str) -> Result<Option<i64>, CompatError> {
        let number = |text: &str| text.parse().ok().filter(|&id| id > 0).ok_or_else(|| invalid(text, "Integer"));
        self.get(name).map(number).transpose()
    }
}

fn invalid(value: &str, kind: &str) -> CompatError {
    let value: String = value.chars().take(40).collect();
    CompatError::new(1001, format!("Invalid value '{value}'. Required of type '{kind}'"))
}

/// Only the name: the folders it lay in are the client's own affair. It matters to nobody but people, so one that can't be
/// kept is no reason to refuse the file.
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
    fn from(fault: FormError) -> Self {
        match fault {
            FormError::NotAForm => CompatError::new(612, "Invalid Content Type"),
            fault => CompatError::new(613, format!("Invalid Multipart Request: {fault}")),
        }
    }
}

fn of_intake(error: IntakeError) -> CompatError {
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

    fn said(pairs: &[(&str, &str)]) -> Result<FormFields, CompatError> {
        let mut said = FormFields::default();
        pairs.iter().try_for_each(|(name, value)| said.add(name, value))?;
        Ok(said)
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
            assert_eq!(said(pairs).unwrap().format().map_err(|refusal| refusal.code()), format, "{pairs:?}");
        }
    }

    #[test]
    fn a_parameter_may_be_given_twice_if_it_is_the_same() {
        assert!(said(&[("format", "tsv"), ("format", ""), ("format", "tsv"), ("other", "1"), ("other", "2")]).is_ok());
        assert_eq!(said(&[("listId", "1"), ("listId", "2")]).unwrap_err().code(), 1003);
    }

    #[test]
    fn an_id_is_a_whole_number_from_one() {
        let number = |text| said(&[("listId", text)]).unwrap().number("listId").map_err(|refusal| refusal.code());
        assert_eq!([number("7"), number("")], [Ok(Some(7)), Ok(None)]);
        for text in ["0", "-1", "x", "1.5", "99999999999999999999"] {
            assert_eq!(number(text), Err(1001), "{text}");
        }
    }

    #[test]
    fn a_name_that_can_t_be_kept_is_mended() {
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
