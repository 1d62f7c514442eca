//! Domain: ids, targets, formats, events, and the state machines of batches, jobs and instances.
//!
//! Everything here is plain data: no clock, no database, no network.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod batch;
mod event;
pub mod instance;
pub mod row_counts;
mod source;
mod state_machine;
mod submission_channel;

pub use event::{Counts, DeferReason, Event, FailureScope, RemoteStatus};
pub use source::Source;
pub use state_machine::{BatchState, IllegalTransitionError, JobState, job_state, transition};
pub use submission_channel::SubmissionChannel;

/// How long Marketo knows an import: its id, its status and its reports. Not documented; seven days were observed.
pub const IMPORT_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// The number of a job. Numbers rise and are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("minimum" = 1))]
pub struct JobId(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(JobId)
    }
}

/// Identifies a batch by its job and its number in that job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchKey {
    /// The job.
    pub job: JobId,
    /// The number of the batch in the job, from 1.
    pub part: u32,
}

impl fmt::Display for BatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.part)
    }
}

/// How a file separates its fields. The name is also what Marketo's `format` parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
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
        match self {
            Format::Csv => "csv",
            Format::Tsv => "tsv",
            Format::Ssv => "ssv",
        }
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

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, ParseEnumError> {
        parse_enum("format", text, &Format::ALL, Format::as_str)
    }
}

/// Where a file's rows go on Marketo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Target {
    /// People (leads).
    Leads {
        /// The field by which an existing person is found; Marketo uses `email` where none is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lookup_field: Option<String>,
        /// A static list that the people join. Marketo imports into one list one file at a time (1019).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        list_id: Option<i64>,
        /// The lead partition.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partition: Option<String>,
    },
    /// Records of a custom object.
    CustomObject {
        /// The object's API name, such as `car_c`.
        name: String,
    },
    /// Members of a program.
    ProgramMembers {
        /// The program's id.
        program_id: i64,
        /// The status in the program that the members get.
        status: String,
    },
}

impl Target {
    /// Returns the name of the kind of target on the command line and in the API.
    pub fn kind(&self) -> &'static str {
        match self {
            Target::Leads { .. } => "leads",
            Target::CustomObject { .. } => "custom-object",
            Target::ProgramMembers { .. } => "program-members",
        }
    }

    /// Returns the static list that is busy while this import runs.
    pub fn list_id(&self) -> Option<i64> {
        match self {
            Target::Leads { list_id, .. } => *list_id,
            _ => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Leads { list_id: Some(list), .. } => write!(f, "leads (list {list})"),
            Target::Leads { .. } => f.write_str("leads"),
            Target::CustomObject { name } => write!(f, "custom-object {name}"),
            Target::ProgramMembers { program_id, status } => write!(f, "program-members {program_id} ({status})"),
        }
    }
}

/// An id of Marketo in JSON: written as a number where it is one, and read from a number or from text.
///
/// Inside the program it is text, since nothing is computed with it.
pub mod marketo_id {
    use schemars::JsonSchema;
    use serde::{Deserialize, Deserializer, Serializer};
    use serde_json::Value;

    /// The JSON schema of an id.
    #[derive(JsonSchema)]
    #[schemars(untagged, inline)]
    #[allow(dead_code, reason = "it is only described")]
    pub enum Shape {
        /// An id that fits into a number.
        Number(u64),
        /// Any other id.
        Text(String),
    }

    /// The most digits of an id; more than any of Marketo's has.
    pub const MAX_LENGTH: usize = 64;

    /// Returns whether `id` can be an id of Marketo: digits and nothing else. It becomes a segment of URL paths, where text
    /// such as `..` would lead to another endpoint.
    pub fn is_valid(id: &str) -> bool {
        (1..=MAX_LENGTH).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit())
    }

    /// Serializes an id as a number where it is one.
    ///
    /// # Errors
    /// The serializer's error.
    pub fn serialize<S: Serializer>(id: &Option<String>, output: S) -> Result<S::Ok, S::Error> {
        match id.as_deref().map(|text| (text, text.parse::<u64>())) {
            Some((_, Ok(number))) => output.serialize_u64(number),
            Some((text, Err(_))) => output.serialize_str(text),
            None => output.serialize_none(),
        }
    }

    /// Deserializes an id from a number or from text; anything else is none.
    ///
    /// # Errors
    /// The deserializer's error.
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
        Ok(match Value::deserialize(input)? {
            Value::String(text) if !text.is_empty() => Some(text),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    }
}

/// A text that names no value of an enum. The message lists the valid names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} \"{value}\": it is one of {choices}")]
pub struct ParseEnumError {
    /// What the enum is, such as `format`.
    pub what: &'static str,
    /// The invalid text.
    pub value: String,
    /// The valid names, separated by commas.
    pub choices: String,
}

/// Finds the value with this name among `all`.
///
/// # Errors
/// [`ParseEnumError`] where no value has the name.
pub(crate) fn parse_enum<T: Copy>(
    what: &'static str,
    text: &str,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<T, ParseEnumError> {
    all.iter().copied().find(|&value| name(value) == text).ok_or_else(|| ParseEnumError {
        what,
        value: text.to_owned(),
        choices: all.iter().map(|&value| name(value)).collect::<Vec<_>>().join(", "),
    })
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

    #[test]
    fn a_marketo_id_is_digits_and_nothing_else() {
        for (id, valid) in [
            ("3404", true),
            ("0", true),
            ("", false),
            ("..", false),
            ("-1", false),
            ("1.5", false),
            ("34 04", false),
            ("\u{0663}", false),
            ("12a", false),
        ] {
            assert_eq!(marketo_id::is_valid(id), valid, "{id}");
        }
        assert!(!marketo_id::is_valid(&"1".repeat(marketo_id::MAX_LENGTH + 1)));
    }

    #[test]
    fn a_target_is_written_with_its_type_beside_its_fields() {
        let target = Target::ProgramMembers { program_id: 1044, status: "Member".into() };
        let json = serde_json::to_value(&target).unwrap();
        assert_eq!(json, serde_json::json!({"type": "program-members", "program_id": 1044, "status": "Member"}));
        assert_eq!(serde_json::from_value::<Target>(json).unwrap(), target);
        let leads = Target::Leads { lookup_field: None, list_id: Some(7), partition: None };
        assert_eq!(serde_json::to_value(&leads).unwrap(), serde_json::json!({"type": "leads", "list_id": 7}));
    }
}
