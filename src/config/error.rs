//! Errors of the configuration.

use std::fmt;
use std::path::PathBuf;

/// Why there is no configuration. Each text is one sentence that names the key and where its value came from.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the configuration {} can't be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    /// The text of TOML errors is not passed on: it quotes the line, which may hold a secret.
    #[error("{}:{line}: this is not TOML: {reason}", path.display())]
    Syntax { path: PathBuf, line: usize, reason: String },
    #[error("{key} {reason} (in {})", path.display())]
    InFile { key: String, reason: String, path: PathBuf },
    #[error("{key} {reason} (set by {variable})")]
    InEnvironment { key: String, reason: String, variable: String },
    /// Neither the file nor the environment has the key.
    #[error("{key} {reason}")]
    Nowhere { key: String, reason: String },
    #[error("the environment variable {variable} {reason}")]
    Variable { variable: String, reason: &'static str },
    /// The text is TOML and each source is good, and yet the `config` crate does not put them together.
    #[error("the configuration can't be put together: {0}")]
    Layers(#[from] ::config::ConfigError),
}

impl ConfigError {
    pub(crate) fn no_key(variable: &str) -> Self {
        let reason = "names no key: write __ between two levels, and at most 999 for an entry";
        ConfigError::Variable { variable: variable.to_owned(), reason }
    }
}

/// What is wrong with which key: `{key} {reason}` is a sentence.
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
