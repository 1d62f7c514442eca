//! What does an answer ask of us? One table from HTTP statuses and error codes to the next thing to do.
//!
//! The rows are those of Adobe's error-code pages; what follows from each depends on the call (an upload whose outcome
//! is unknown is another matter than a poll), and that is decided where the call was made.

use crate::marketo::types::ApiError;

/// What to do about an answer that is not a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorAction {
    /// 600 (an empty one), 601, 602: the token is not good, or not any more. The same call again, with a new one.
    NewToken,
    /// 603: these credentials may not. The instance stops.
    StopForCredentials,
    /// 606: too many calls in the window.
    WaitWindow,
    /// 615: too many calls at once.
    FewerAtOnce,
    /// 607: the day's calls are used up.
    DayIsOver,
    /// 1016: ten imports in the queue, ours and others'.
    QueueFull,
    /// 1019: another import fills the same static list.
    ListBusy,
    /// 608, 614, HTTP 429 and 503, or something that is not Marketo at all: nothing was done, for anybody.
    ServiceDown,
    /// 611, and codes that nobody wrote down: nothing was done, and it may go better another time.
    Again,
    /// Whether it was done is not known: 502, 604, 713, 719, other HTTP 5xx, an empty or garbled body.
    OutcomeUnknown,
    /// HTTP 413.
    TooLarge,
    /// The request itself is wrong, and will be the next time too.
    Reject,
}

/// Reads an answer's HTTP status and the errors in its body, if it had a body that could be read.
pub fn classify(http: u16, errors: Option<&[ApiError]>) -> ErrorAction {
    if http == 413 {
        return ErrorAction::TooLarge;
    }
    if let Some(ask) = errors.and_then(|errors| errors.iter().find_map(by_error)) {
        return ask;
    }
    match (http, errors) {
        // It said that it failed, and not in words that anyone knows.
        (200..=299, Some(_)) => ErrorAction::Again,
        (401, _) => ErrorAction::NewToken,
        // Only 603 says that the credentials may not. A 403 without it is a firewall's or a filter's.
        (403, Some(_)) => ErrorAction::Again,
        (429 | 503, _) => ErrorAction::ServiceDown,
        (400..=499, Some(_)) => ErrorAction::Reject,
        // No word of Marketo's in a refusal or a redirection: a proxy spoke, or the address is wrong.
        (300..=407 | 409..=499, None) => ErrorAction::ServiceDown,
        _ => ErrorAction::OutcomeUnknown,
    }
}

fn by_error(error: &ApiError) -> Option<ErrorAction> {
    match error.code.as_deref() {
        Some(code) => by_code(code.trim().parse().ok()?),
        None => by_text(&error.message),
    }
}

fn by_code(code: u32) -> Option<ErrorAction> {
    Some(match code {
        600..=602 => ErrorAction::NewToken,
        603 => ErrorAction::StopForCredentials,
        606 => ErrorAction::WaitWindow,
        607 => ErrorAction::DayIsOver,
        615 => ErrorAction::FewerAtOnce,
        1016 => ErrorAction::QueueFull,
        1019 => ErrorAction::ListBusy,
        608 | 614 | 503 => ErrorAction::ServiceDown,
        611 => ErrorAction::Again,
        502 | 604 | 713 | 719 => ErrorAction::OutcomeUnknown,
        413 => ErrorAction::TooLarge,
        600..=799 | 1000..=1099 => ErrorAction::Reject,
        _ => return None,
    })
}

/// Bodies have been seen that leave the code out.
fn by_text(message: &str) -> Option<ErrorAction> {
    let message = message.to_ascii_lowercase();
    if message.contains("imports currently being processed") {
        Some(ErrorAction::QueueFull)
    } else if message.contains("empty file") {
        Some(ErrorAction::Reject)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: Option<&str>, message: &str) -> Vec<ApiError> {
        vec![ApiError { code: code.map(Into::into), message: message.into() }]
    }

    #[test]
    fn each_code_asks_for_what_adobe_says() {
        for (codes, ask) in [
            (&["600", "601", "602"][..], ErrorAction::NewToken),
            (&["603"], ErrorAction::StopForCredentials),
            (&["606"], ErrorAction::WaitWindow),
            (&["607"], ErrorAction::DayIsOver),
            (&["615"], ErrorAction::FewerAtOnce),
            (&["1016"], ErrorAction::QueueFull),
            (&["1019"], ErrorAction::ListBusy),
            (&["608", "614"], ErrorAction::ServiceDown),
            (&["611", "42", "9999", "x1"], ErrorAction::Again),
            (&["502", "604", "713", "719"], ErrorAction::OutcomeUnknown),
            (&["1003", "1006", "1013", "1025", "605", "609", "610", "612", "613", "702", "709"], ErrorAction::Reject),
        ] {
            for code in codes {
                assert_eq!(classify(200, Some(&error(Some(code), ""))), ask, "{code}");
            }
        }
    }

    #[test]
    fn a_text_without_a_code_is_known_by_its_words() {
        let full = error(None, "There are 10 imports currently being processed. Please try again later");
        assert_eq!(classify(200, Some(&full)), ErrorAction::QueueFull);
        assert_eq!(classify(200, Some(&error(None, "Empty file"))), ErrorAction::Reject);
        assert_eq!(classify(200, Some(&error(None, "Something else"))), ErrorAction::Again);
        assert_eq!(classify(200, Some(&[])), ErrorAction::Again);
    }

    #[test]
    fn an_answer_without_a_readable_body_is_judged_by_its_status() {
        for (http, ask) in [
            (200, ErrorAction::OutcomeUnknown),
            (302, ErrorAction::ServiceDown),
            (401, ErrorAction::NewToken),
            (403, ErrorAction::ServiceDown),
            (404, ErrorAction::ServiceDown),
            (408, ErrorAction::OutcomeUnknown),
            (413, ErrorAction::TooLarge),
            (429, ErrorAction::ServiceDown),
            (500, ErrorAction::OutcomeUnknown),
            (502, ErrorAction::OutcomeUnknown),
            (503, ErrorAction::ServiceDown),
            (504, ErrorAction::OutcomeUnknown),
        ] {
            assert_eq!(classify(http, None), ask, "HTTP {http}");
        }
    }

    #[test]
    fn a_known_code_weighs_more_than_the_status_around_it() {
        assert_eq!(classify(500, Some(&error(Some("1016"), ""))), ErrorAction::QueueFull);
        assert_eq!(classify(400, Some(&error(Some("1003"), ""))), ErrorAction::Reject);
        assert_eq!(classify(404, Some(&error(None, "Not found"))), ErrorAction::Reject);
        assert_eq!(classify(403, Some(&error(Some("603"), ""))), ErrorAction::StopForCredentials);
        assert_eq!(classify(403, Some(&error(None, "Forbidden"))), ErrorAction::Again);
        assert_eq!(classify(413, Some(&error(Some("1003"), ""))), ErrorAction::TooLarge);
    }
}
