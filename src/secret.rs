//! Secret text that is never printed: both `Debug` and `Display` give `[secret]`.

use std::fmt;

use config::{Value, ValueKind};
use serde::{Deserialize, Deserializer};

/// Text that is never printed: both formats give `[secret]`, and it can't be serialised.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// Returns the text. The caller must not write it to a log or a URL.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// Not derived, because serde's message for a wrong type quotes the value.
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        match Value::deserialize(input)?.kind {
            ValueKind::String(text) => Ok(Secret(text)),
            _ => Err(serde::de::Error::custom("must be text, in quotes")),
        }
    }
}
