//! Kinds of Marketo's reports about an ended import.

use strum::IntoStaticStr;

/// The kind of a report about an ended import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum ReportKind {
    /// The rows that failed.
    Failures,
    /// The rows that were imported with a warning.
    Warnings,
}

impl ReportKind {
    /// Returns the name in the database, in the native API and in Marketo's paths.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
