//! Why did a call not get through? The HTTP library's error as one sentence.

use crate::untrusted_text::remark;

/// The whole chain of causes in one line: the outermost alone ("error sending request") tells nobody anything. The URL
/// is left out: it says where, which the log's fields do.
pub(crate) fn reason(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "no answer in time".to_owned() } else { String::new() };
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
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
