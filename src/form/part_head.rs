//! Head of a part: field name, file name and media type.

use crate::form::error::FormError;

/// Head of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartHead {
    /// Name of the field.
    pub name: String,
    /// Name of the file, where the part is one.
    pub filename: Option<String>,
    /// Media type, where the part has one.
    pub content_type: Option<String>,
}

/// Parses the head of a part, the empty line at its end included.
pub(super) fn parse_head(bytes: &[u8]) -> Result<PartHead, FormError> {
    // Invalid UTF-8 is replaced, so a name in another encoding matches no known field.
    let text = String::from_utf8_lossy(bytes);
    let (mut head, mut content_type) = (None, None);
    for line in unfolded(&text) {
        let (name, value) = line.split_once(':').ok_or(FormError::BadHead)?;
        let name = name.trim();
        if name.eq_ignore_ascii_case("content-disposition") {
            let (kind, parameters) = value.split_once(';').ok_or(FormError::BadHead)?;
            // With two of them, another parser in between may have used the other one.
            if !kind.trim().eq_ignore_ascii_case("form-data") || head.is_some() {
                return Err(FormError::BadHead);
            }
            head = Some(PartHead {
                name: parameter(parameters, "name").ok_or(FormError::BadHead)?,
                filename: parameter(parameters, "filename")
                    .or_else(|| encoded_filename(parameters))
                    .or_else(|| continued_filename(parameters)),
                content_type: None,
            });
        } else if name.eq_ignore_ascii_case("content-type") {
            content_type = Some(value.trim().to_owned());
        } else if name.eq_ignore_ascii_case("content-transfer-encoding") && value.trim().eq_ignore_ascii_case("base64")
        {
            // RFC 7578, section 4.7, does not allow it. Taken undecoded, the file would be invalid rows.
            return Err(FormError::Encoded);
        }
    }
    Ok(PartHead { content_type, ..head.unwrap_or_default() })
}

/// Returns the lines of a head, with folded lines (RFC 5322, section 2.2.3) joined: Python's `email` folds long ones.
fn unfolded(head: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in head.split("\r\n").filter(|line| !line.is_empty()) {
        match lines.last_mut() {
            Some(before) if line.starts_with([' ', '\t']) => before.push_str(line),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

/// Returns the name of `filename*=UTF-8''na%C3%AFve.csv`, which RFC 7578 does not allow and some programs send.
fn encoded_filename(parameters: &str) -> Option<String> {
    let value = parameter(parameters, "filename*")?;
    let name = value.split('\'').nth(2)?;
    Some(percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned())
}

/// Returns the name of `filename*0="long"; filename*1*=%20name`: a continued name (RFC 2231, section 3), as Python's
/// `email` writes a long one.
fn continued_filename(parameters: &str) -> Option<String> {
    let mut name = String::new();
    for section in 0.. {
        if let Some(plain) = parameter(parameters, &format!("filename*{section}")) {
            name += &plain;
            continue;
        }
        let Some(value) = parameter(parameters, &format!("filename*{section}*")) else { break };
        // The first section begins with the encoding and the language.
        let value = if section == 0 { value.split('\'').nth(2).unwrap_or_default() } else { &value };
        name += &percent_encoding::percent_decode_str(value).decode_utf8_lossy();
    }
    (!name.is_empty()).then_some(name)
}

/// Returns the value of `; name=value` or `; name="value"`. Within quotes `\"` is a quote. Any other backslash is kept,
/// since some systems send file names with backslashes.
pub(super) fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([';', ' ', '\t']);
        let (name, after) = rest.split_once('=')?;
        let mut value = String::new();
        if let Some(quoted) = after.trim_start().strip_prefix('"') {
            let mut letters = quoted.chars();
            loop {
                match letters.next()? {
                    '"' => break,
                    '\\' if letters.as_str().starts_with('"') => value.extend(letters.next()),
                    letter => value.push(letter),
                }
            }
            rest = letters.as_str();
        } else {
            let end = after.find(';').unwrap_or(after.len());
            value.push_str(after[..end].trim());
            rest = &after[end..];
        }
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
    }
}
