//! Refusals of the simulator: Marketo's error codes with their messages, and bare HTTP statuses.

use serde::{Deserialize, Serialize};

/// Refusal of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiRefusal {
    /// HTTP 200 with `success: false`.
    Error {
        /// The code; left out of the body if none.
        code: Option<Code>,
        /// Marketo's message.
        message: String,
    },
    /// A plain HTTP status, its body no envelope.
    Http(u16),
}

/// An error's code: Marketo sends text of digits, some bodies have a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Code {
    /// Text of digits.
    Text(String),
    /// A JSON number.
    Number(u32),
}

impl ApiRefusal {
    pub(super) fn new(code: u32, message: impl Into<String>) -> ApiRefusal {
        ApiRefusal::Error { code: Some(Code::Text(code.to_string())), message: message.into() }
    }

    /// Returns the name by which the call log counts it: `1016`, `http 413`, or `no code`.
    pub fn name(&self) -> String {
        match self {
            ApiRefusal::Error { code: Some(Code::Text(code)), .. } => code.clone(),
            ApiRefusal::Error { code: Some(Code::Number(code)), .. } => code.to_string(),
            ApiRefusal::Error { code: None, .. } => "no code".into(),
            ApiRefusal::Http(status) => format!("http {status}"),
        }
    }

    /// Returns the message of the body.
    pub fn message(&self) -> String {
        match self {
            ApiRefusal::Error { message, .. } => message.clone(),
            ApiRefusal::Http(status) => format!("HTTP status {status}"),
        }
    }
}
