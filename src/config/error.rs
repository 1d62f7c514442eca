//! Errors of the configuration, which stop the start, and warnings, which do not.

use std::fmt;
use std::path::PathBuf;

/// Error of the configuration. Each text is one sentence that names the key and where its value came from.
#[allow(missing_docs, reason = "the message of the variant names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    /// The file is not valid TOML. The text of the parser's error is left out: it quotes the line, which may hold a
    /// secret.
    #[error("{}:{line}: not valid TOML: {reason}", path.display())]
    Syntax { path: PathBuf, line: usize, reason: String },
    /// A key of the file is invalid.
    #[error("{key} {reason} (in {})", path.display())]
    InFile { key: String, reason: String, path: PathBuf },
    /// A key that a variable sets is invalid.
    #[error("{key} {reason} (set by {variable})")]
    InEnvironment { key: String, reason: String, variable: String },
    /// A key that neither the file nor the environment sets is invalid.
    #[error("{key} {reason}")]
    Nowhere { key: String, reason: String },
    /// A variable is invalid.
    #[error("the environment variable {variable} {reason}")]
    Variable { variable: String, reason: &'static str },
    /// Each source is valid, but the `config` crate cannot merge them.
    #[error("the sources of the configuration cannot be merged: {0}")]
    Layers(#[from] ::config::ConfigError),
}

impl ConfigError {
    /// Returns the error for a variable that names no key.
    pub(crate) fn no_key(variable: &str) -> Self {
        let reason = "names no key: separate levels by __, and number the entries of a list from 0 to 999";
        ConfigError::Variable { variable: variable.to_owned(), reason }
    }
}

/// An invalid key: `{key} {reason}` is a sentence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyError {
    pub(crate) key: String,
    pub(crate) reason: String,
}

impl KeyError {
    pub(crate) fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        KeyError { key: key.into(), reason: reason.into() }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.reason)
    }
}

/// A problem that does not prevent the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The problem, in one sentence.
    pub text: String,
    /// What to do about it.
    pub advice: &'static str,
}

impl Warning {
    pub(crate) fn new(text: String, advice: &'static str) -> Warning {
        Warning { text, advice }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
