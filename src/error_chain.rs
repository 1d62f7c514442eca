//! Error chains: one line of text from an error and its causes.

use std::error::Error;

use crate::untrusted_text::remark;

/// Returns the whole chain of causes of an HTTP client's error in one line. The outermost error alone ("error sending
/// request") does not name the cause. The URL is left out, because the fields of the log line have it.
pub(crate) fn reason(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "no answer in time".to_owned() } else { String::new() };
    let mut cause: Option<&dyn Error> = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !inner_text.is_empty() && !text.contains(&inner_text) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    remark(if text.is_empty() { error.to_string() } else { text }.as_str())
}

/// Returns the text of the innermost cause. The errors around it may repeat a URL, which can hold a secret or, over a
/// Unix socket, a host that does not exist.
pub(crate) fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
