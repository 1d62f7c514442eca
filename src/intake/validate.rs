//! Validation of a job's parameters: lengths, characters and ranges that Marketo's names and ids have.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::after;
use crate::domain::Target;
use crate::intake::error::IntakeError;
use crate::store::NewJob;
use crate::untrusted_text::MAX_NAME_BYTES;

/// The longest text parameter, in bytes. All of Marketo's names are far shorter.
const MAX_PARAMETER_BYTES: usize = MAX_NAME_BYTES;

/// How far ahead a job's earliest time may be: a year, and a day in case that it is a leap year.
const MAX_AHEAD: Duration = Duration::from_secs(366 * 24 * 3600);

/// Checks the parameters of a job before its file is stored.
///
/// # Errors
/// [`IntakeError::Wrong`] with the parameter and the rule that it breaks.
pub(crate) fn validate_parameters(new: &NewJob, now: Timestamp) -> Result<(), IntakeError> {
    let mut texts = vec![("filename", Some(new.filename.as_str()))];
    texts.extend([("group", new.group.as_deref()), ("idempotency key", new.idempotency_key.as_deref())]);
    match &new.target {
        Target::Leads { lookup_field, partition, .. } => {
            texts.extend([("lookup_field", lookup_field.as_deref()), ("partition", partition.as_deref())]);
        }
        Target::CustomObject { name } => texts.push(("name of the custom object", Some(name))),
        Target::ProgramMembers { status, .. } => texts.push(("status", Some(status))),
    }
    let ids = match &new.target {
        Target::ProgramMembers { program_id, .. } => Some(("program_id", *program_id)),
        target => target.list_id().map(|list| ("list_id", list)),
    };
    if let Some((what, id)) = ids.filter(|&(_, id)| id < 1) {
        return Err(IntakeError::Wrong(format!("{what} must be at least 1, not {id}")));
    }
    for (what, text) in texts {
        let Some(text) = text else { continue };
        let fault = if text.trim().is_empty() {
            "is empty".to_owned()
        } else if text.len() > MAX_PARAMETER_BYTES {
            format!("is longer than {MAX_PARAMETER_BYTES} bytes")
        } else if text.contains(|letter: char| letter.is_control()) {
            "has a control character".to_owned()
        } else {
            continue;
        };
        return Err(IntakeError::Wrong(format!("the {what} {fault}")));
    }
    let last = after(now, MAX_AHEAD);
    if let Some(at) = new.not_before.filter(|&at| at > last) {
        return Err(IntakeError::Wrong(format!(
            "not_before {at:.0} is more than a year ahead: give a time until {last:.0}"
        )));
    }
    if let Some(percent) = new.max_failed_percent.filter(|&percent| percent > 100) {
        return Err(IntakeError::Wrong(format!("max_failed_percent must be at most 100, not {percent}")));
    }
    match &new.target {
        // It becomes a path segment of the request to Marketo.
        Target::CustomObject { name }
            if !name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') =>
        {
            Err(IntakeError::Wrong("the name of the custom object must be its API name: letters, digits and _".into()))
        }
        _ => Ok(()),
    }
}
