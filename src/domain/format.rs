//! Format of a file: how it separates its fields.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

use crate::domain::enum_text::{ParseEnumError, parse_enum};

/// How a file separates its fields. The name is also what Marketo's `format` parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, Display, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Format {
    /// Fields are separated by commas.
    Csv,
    /// Fields are separated by tabs.
    Tsv,
    /// Fields are separated by semicolons.
    Ssv,
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 3] = [Format::Csv, Format::Tsv, Format::Ssv];

    /// Returns the name in lower case, as Marketo requires it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns the byte between two fields.
    pub fn delimiter(self) -> u8 {
        match self {
            Format::Csv => b',',
            Format::Tsv => b'\t',
            Format::Ssv => b';',
        }
    }

    /// Returns the format of a file name by its extension (`leads.csv`), in either case; none for another extension.
    pub fn from_filename(name: &str) -> Option<Format> {
        let (_, extension) = name.rsplit_once('.')?;
        extension.to_ascii_lowercase().parse().ok()
    }
}

impl FromStr for Format {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, ParseEnumError> {
        parse_enum("format", text, &Format::ALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_read_from_the_end_of_a_name_in_either_case() {
        assert_eq!(Format::from_filename("leads.csv"), Some(Format::Csv));
        assert_eq!(Format::from_filename("a.b.TSV"), Some(Format::Tsv));
        assert_eq!(Format::from_filename("leads.xlsx"), None);
        assert_eq!(Format::from_filename("leads"), None);
    }

    #[test]
    fn an_unknown_format_names_the_choices() {
        let error = "xml".parse::<Format>().unwrap_err();
        assert_eq!(error.to_string(), "unknown format \"xml\": it is one of csv, tsv, ssv");
    }
}
