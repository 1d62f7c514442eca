//! Why is there no configuration?

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

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
}

/// What is wrong with which key: `{key} {reason}` is a sentence.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    key: String,
    reason: String,
}

impl Problem {
    pub(super) fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Problem { key: key.into(), reason: reason.into() }
    }

    /// With the place that has the key, by `set` (keys and the variables that set them): a variable of the key, or of
    /// something inside of it, goes before the file.
    pub(super) fn located(self, file: Option<&Path>, set: &BTreeMap<String, String>) -> ConfigError {
        let Problem { key, reason } = self;
        let inside =
            |inner: &str| inner.strip_prefix(&key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        match (set.iter().find(|(inner, _)| inside(inner)), file) {
            (Some((_, variable)), _) => ConfigError::InEnvironment { key, reason, variable: variable.clone() },
            (None, Some(path)) => ConfigError::InFile { key, reason, path: path.to_owned() },
            (None, None) => ConfigError::Nowhere { key, reason },
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.reason)
    }
}
