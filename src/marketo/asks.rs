//! What does an answer ask of us? One table from HTTP statuses and error codes to the next thing to do.
//!
//! The rows are those of Adobe's error-code pages; what follows from each depends on the call (an upload whose outcome
//! is unknown is another matter than a poll), and that is decided where the call was made.

use super::wire::ApiError;

/// What to do about an answer that is not a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
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
pub fn asks(http: u16, errors: Option<&[ApiError]>) -> Ask {
    if http == 413 {
        return Ask::TooLarge;
    }
    if let Some(ask) = errors.and_then(|errors| errors.iter().find_map(by_error)) {
        return ask;
    }
    match (http, errors) {
        // It said that it failed, and not in words that anyone knows.
        (200..=299, Some(_)) => Ask::Again,
        (401, _) => Ask::NewToken,
        // Only 603 says that the credentials may not. A 403 without it is a firewall's or a filter's.
        (403, Some(_)) => Ask::Again,
        (429 | 503, _) => Ask::ServiceDown,
        (400..=499, Some(_)) => Ask::Reject,
        // No word of Marketo's in a refusal or a redirection: a proxy spoke, or the address is wrong.
        (300..=407 | 409..=499, None) => Ask::ServiceDown,
        _ => Ask::OutcomeUnknown,
    }
}

fn by_error(error: &ApiError) -> Option<Ask> {
    match error.code.as_deref() {
        Some(code) => by_code(code.trim().parse().ok()?),
        None => by_text(&error.message),
    }
}

fn by_code(code: u32) -> Option<Ask> {
    Some(match code {
        600..=602 => Ask::NewToken,
        603 => Ask::StopForCredentials,
        606 => Ask::WaitWindow,
        607 => Ask::DayIsOver,
        615 => Ask::FewerAtOnce,
        1016 => Ask::QueueFull,
        1019 => Ask::ListBusy,
        608 | 614 | 503 => Ask::ServiceDown,
        611 => Ask::Again,
        502 | 604 | 713 | 719 => Ask::OutcomeUnknown,
        413 => Ask::TooLarge,
        600..=799 | 1000..=1099 => Ask::Reject,
        _ => return None,
    })
}

/// Bodies have been seen that leave the code out.
fn by_text(message: &str) -> Option<Ask> {
    let message = message.to_ascii_lowercase();
    if message.contains("imports currently being processed") {
        Some(Ask::QueueFull)
    } else if message.contains("empty file") {
        Some(Ask::Reject)
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
            (&["600", "601", "602"][..], Ask::NewToken),
            (&["603"], Ask::StopForCredentials),
            (&["606"], Ask::WaitWindow),
            (&["607"], Ask::DayIsOver),
            (&["615"], Ask::FewerAtOnce),
            (&["1016"], Ask::QueueFull),
            (&["1019"], Ask::ListBusy),
            (&["608", "614"], Ask::ServiceDown),
            (&["611", "42", "9999", "x1"], Ask::Again),
            (&["502", "604", "713", "719"], Ask::OutcomeUnknown),
            (&["1003", "1006", "1013", "1025", "605", "609", "610", "612", "613", "702", "709"], Ask::Reject),
        ] {
            for code in codes {
                assert_eq!(asks(200, Some(&error(Some(code), ""))), ask, "{code}");
            }
        }
    }

    #[test]
    fn a_text_without_a_code_is_known_by_its_words() {
        let full = error(None, "There are 10 imports currently being processed. Please try again later");
        assert_eq!(asks(200, Some(&full)), Ask::QueueFull);
        assert_eq!(asks(200, Some(&error(None, "Empty file"))), Ask::Reject);
        assert_eq!(asks(200, Some(&error(None, "Something else"))), Ask::Again);
        assert_eq!(asks(200, Some(&[])), Ask::Again);
    }

    #[test]
    fn an_answer_without_a_readable_body_is_judged_by_its_status() {
        for (http, ask) in [
            (200, Ask::OutcomeUnknown),
            (302, Ask::ServiceDown),
            (401, Ask::NewToken),
            (403, Ask::ServiceDown),
            (404, Ask::ServiceDown),
            (408, Ask::OutcomeUnknown),
            (413, Ask::TooLarge),
            (429, Ask::ServiceDown),
            (500, Ask::OutcomeUnknown),
            (502, Ask::OutcomeUnknown),
            (503, Ask::ServiceDown),
            (504, Ask::OutcomeUnknown),
        ] {
            assert_eq!(asks(http, None), ask, "HTTP {http}");
        }
    }

    #[test]
    fn a_known_code_weighs_more_than_the_status_around_it() {
        assert_eq!(asks(500, Some(&error(Some("1016"), ""))), Ask::QueueFull);
        assert_eq!(asks(400, Some(&error(Some("1003"), ""))), Ask::Reject);
        assert_eq!(asks(404, Some(&error(None, "Not found"))), Ask::Reject);
        assert_eq!(asks(403, Some(&error(Some("603"), ""))), Ask::StopForCredentials);
        assert_eq!(asks(403, Some(&error(None, "Forbidden"))), Ask::Again);
        assert_eq!(asks(413, Some(&error(Some("1003"), ""))), Ask::TooLarge);
    }
}
