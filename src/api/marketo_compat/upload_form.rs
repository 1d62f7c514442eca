//! Form of an upload, read while it arrives: its fields, its token, and where its file begins and ends.

use axum::body::BodyDataStream;
use futures_util::StreamExt;

use crate::api::marketo_compat::form_fields::{FormFields, filename};
use crate::api::marketo_compat::legacy_tokens::ACCESS_TOKEN;
use crate::api::marketo_compat::response::CompatError;
use crate::form::{FormError, FormEvent, FormReader};
use crate::secret::Secret;

/// The longest value of a field in bytes, and the most fields of a form.
const MAX_VALUE_BYTES: usize = 4096;
const MAX_FIELDS: usize = 100;

/// How far a form has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FormPosition {
    /// The file begins.
    File,
    /// The form has ended.
    End,
}

/// A form under way.
pub(super) struct UploadForm {
    reader: FormReader,
    body: BodyDataStream,
    /// Number of fields so far.
    field_count: usize,
    /// Bytes of the body so far.
    pub bytes_read: u64,
    pub fields: FormFields,
    /// The form's token; an empty one counts as missing.
    pub token: Option<Secret>,
    /// Once the file has begun.
    pub filename: Option<String>,
}

impl UploadForm {
    /// Makes the form of a body that is not read yet.
    pub(super) fn new(reader: FormReader, body: BodyDataStream) -> UploadForm {
        UploadForm {
            reader,
            body,
            field_count: 0,
            bytes_read: 0,
            fields: FormFields::default(),
            token: None,
            filename: None,
        }
    }

    /// Reads fields up to the beginning of the next file, or to the end of the form.
    ///
    /// # Errors
    /// 1003 for a field that is not allowed, 612 and 613 for a malformed form.
    pub(super) async fn read_to_file(&mut self) -> Result<FormPosition, CompatError> {
        loop {
            match self.next_event().await? {
                Some(FormEvent::Head(head)) if head.name == "file" => {
                    self.filename.get_or_insert_with(|| filename(&head));
                    return Ok(FormPosition::File);
                }
                Some(FormEvent::Head(head)) => self.read_field(&head.name).await?,
                Some(FormEvent::Content(_) | FormEvent::PartEnd | FormEvent::End) => {}
                None => return Ok(FormPosition::End),
            }
        }
    }

    /// Reads the value of a field whose head has been read.
    ///
    /// # Errors
    /// As of [`UploadForm::read_to_file`].
    pub(super) async fn read_field(&mut self, name: &str) -> Result<(), CompatError> {
        self.field_count += 1;
        if self.field_count > MAX_FIELDS {
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
        self.fields.add(name, &String::from_utf8_lossy(&value))
    }

    /// Returns the form's next event; none after its end.
    ///
    /// # Errors
    /// 612 and 613 for a malformed form.
    pub(super) async fn next_event(&mut self) -> Result<Option<FormEvent>, CompatError> {
        loop {
            match self.reader.next_event()? {
                Some(FormEvent::End) => {
                    // The body is read to its end, so that the connection can serve another request.
                    while let Some(Ok(_)) = self.body.next().await {}
                    return Ok(None);
                }
                Some(event) => return Ok(Some(event)),
                None if self.reader.has_ended() => return Ok(None),
                None => match self.body.next().await {
                    Some(Ok(bytes)) => {
                        self.bytes_read += bytes.len() as u64;
                        self.reader.push(&bytes);
                    }
                    // The connection is lost, so this response is not read.
                    Some(Err(_)) => return Err(FormError::CutOff.into()),
                    None => self.reader.finish(),
                },
            }
        }
    }
}
