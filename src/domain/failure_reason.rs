//! Reasons of failures: Marketo's message, or the cause of the failure, with the code of the answer.

use std::fmt;

/// The code of a failed call to Marketo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// A code of Marketo's error table, such as 1016.
    Marketo(u16),
    /// The HTTP status of an answer that is not Marketo's, or gives no reason.
    Http(u16),
}

impl ErrorCode {
    /// Returns Marketo's error code from its text; none where it is no number of three or four digits, as all of
    /// Marketo's are.
    pub fn from_marketo(text: &str) -> Option<ErrorCode> {
        let text = text.trim();
        let has_form = (3..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        if has_form { text.parse().ok().map(ErrorCode::Marketo) } else { None }
    }
}

impl fmt::Display for ErrorCode {
    /// Writes the value of the metric label `code`: `1016` or `http-502`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorCode::Marketo(code) => write!(f, "{code}"),
            ErrorCode::Http(status) => write!(f, "http-{status}"),
        }
    }
}

/// Why an upload, a query or an import failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureReason {
    /// The code of the answer; none where there was no answer, or one without a code.
    pub code: Option<ErrorCode>,
    /// Marketo's message, or the cause of the failure.
    pub text: String,
}

impl FailureReason {
    /// Returns the reason with another text and the same code.
    pub fn with_text(self, text: String) -> FailureReason {
        FailureReason { text, ..self }
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A reason without a code.
impl From<String> for FailureReason {
    fn from(text: String) -> FailureReason {
        FailureReason { code: None, text }
    }
}

/// A reason without a code.
impl From<&str> for FailureReason {
    fn from(text: &str) -> FailureReason {
        text.to_owned().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_code_of_marketos_form_becomes_a_label() {
        for (text, code) in [
            ("1016", Some("1016")),
            (" 606 ", Some("606")),
            ("12345678", None),
            ("12", None),
            ("+611", None),
            ("", None),
        ] {
            assert_eq!(ErrorCode::from_marketo(text).map(|code| code.to_string()).as_deref(), code, "{text:?}");
        }
        assert_eq!(ErrorCode::Http(502).to_string(), "http-502");
    }
}
