//! Create call as the simulator receives it: its parameters, and the parts of its form.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::simulator::error::ApiRefusal;
use crate::simulator::queue::ImportKind;
use crate::simulator::settings::Settings;

/// A create call as received.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// The kind of import.
    pub kind: ImportKind,
    /// The path of the request.
    pub path: String,
    /// The query parameters.
    pub query: BTreeMap<String, String>,
    /// Size of the whole body in bytes. The form of a body that is too large may be left out.
    pub body_bytes: u64,
    /// The form's parts, or the reason why it can't be read.
    pub form: Result<Vec<FormPart>, String>,
    /// A refusal from [`begin_call`](crate::simulator::model::MarketoModel::begin_call) or from a fault, before the
    /// create rules apply.
    pub refusal: Option<ApiRefusal>,
    /// Whether a fault hides the outcome from the client; recorded in the call log.
    pub answer_lost: bool,
}

/// One part of a form.
#[derive(Clone, Debug)]
pub struct FormPart {
    /// Its name.
    pub name: String,
    /// Its file name.
    pub filename: Option<String>,
    /// Its content type.
    pub content_type: Option<String>,
    /// Its content.
    pub bytes: Bytes,
}

/// Returns the text of the part with this name.
pub(super) fn text<'a>(parts: &'a [FormPart], name: &str) -> Option<&'a str> {
    let part = parts.iter().find(|part| part.name == name)?;
    std::str::from_utf8(&part.bytes).ok()
}

/// The file in a form.
#[derive(Clone, Copy)]
pub(super) struct FilePart<'a> {
    pub name: &'a str,
    pub bytes: &'a Bytes,
}

/// Returns the part `file`. It needs a filename, and the type `text/csv` where the simulator is not lenient.
///
/// # Errors
/// 1003 where the form has no such part.
pub(super) fn file_part<'a>(parts: &'a [FormPart], settings: &Settings) -> Result<FilePart<'a>, ApiRefusal> {
    let refuse = |reason: &str| ApiRefusal::new(1003, reason);
    let part = parts.iter().find(|part| part.name == "file");
    let part = part.ok_or_else(|| refuse("The form has no part named 'file'"))?;
    let name = part.filename.as_deref().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| refuse("The part 'file' has no filename"))?;
    let kind = part.content_type.as_deref().unwrap_or_default().split(';').next().unwrap_or_default();
    if !settings.lenient && !kind.trim().eq_ignore_ascii_case("text/csv") {
        return Err(refuse("The Content-Type of the part 'file' is not text/csv"));
    }
    Ok(FilePart { name, bytes: &part.bytes })
}
