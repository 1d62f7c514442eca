//! Fields of an upload's form and query: the parameters that Marketo has, and the file's name.

use std::collections::BTreeMap;

use crate::api::marketo_compat::response::CompatError;
use crate::domain::Format;
use crate::form::PartHead;
use crate::untrusted_text::file_name;

/// Marketo's parameters; others are ignored, as at Marketo.
pub(super) const PARAMETERS: [&str; 5] = ["format", "lookupField", "listId", "partitionName", "programMemberStatus"];

/// Parameters by name. An empty one counts as missing.
#[derive(Debug, Default)]
pub(super) struct FormFields(BTreeMap<&'static str, String>);

impl FormFields {
    /// Adds a parameter.
    ///
    /// # Errors
    /// 1003 where it has another value already.
    pub(super) fn add(&mut self, name: &str, value: &str) -> Result<(), CompatError> {
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

    /// Returns a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns the format; default CSV. Adobe's page writes the names in capitals.
    ///
    /// # Errors
    /// 1001 for an unknown format.
    pub(super) fn format(&self) -> Result<Format, CompatError> {
        let Some(format) = self.get("format") else { return Ok(Format::Csv) };
        format.to_ascii_lowercase().parse().map_err(|_| invalid_value(format, "csv, tsv or ssv"))
    }

    /// Returns a parameter that is an id.
    ///
    /// # Errors
    /// 1001 where it is no positive number.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, CompatError> {
        let number = |text: &str| text.parse().ok().filter(|&id| id > 0).ok_or_else(|| invalid_value(text, "Integer"));
        self.get(name).map(number).transpose()
    }
}

fn invalid_value(value: &str, kind: &str) -> CompatError {
    let value: String = value.chars().take(40).collect();
    CompatError::new(1001, format!("Invalid value '{value}'. Required of type '{kind}'"))
}

/// Returns the file's name without its folders, which mean nothing here and may be private. An invalid name is
/// corrected and not refused, because it is only shown.
pub(super) fn filename(head: &PartHead) -> String {
    let name = head.filename.as_deref().and_then(|name| name.rsplit(['/', '\\']).next()).unwrap_or_default();
    let kept: String = name.chars().filter(|letter| !letter.is_control()).collect();
    let (stem, ending) = match Format::from_filename(&kept) {
        Some(format) => kept.split_at(kept.len() - format.as_str().len() - 1),
        None => (kept.as_str(), ""),
    };
    let kept = file_name(stem, ending);
    if kept.trim().is_empty() { "import.csv".into() } else { kept }
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
