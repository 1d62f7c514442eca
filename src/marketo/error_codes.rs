//! Error codes: one table from HTTP statuses and Marketo's error codes to an action.
//!
//! The codes are those of Adobe's page "Error Codes" of the Marketo REST API. What an action means for a batch depends
//! on the call (an upload of unknown outcome differs from a poll), and the caller decides it.

use crate::marketo::types::ApiError;

/// The action for a response that is not a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorAction {
    /// 600 (empty token), 601 (invalid), 602 (expired): repeat the call with a new token.
    NewToken,
    /// 603 (access denied): the credentials lack a permission, and the instance pauses.
    StopForCredentials,
    /// 606: too many calls in the window; wait for one window.
    WaitWindow,
    /// 615: too many concurrent calls; send fewer at once.
    FewerAtOnce,
    /// 607: the daily quota is used up; pause until it is reset.
    DayIsOver,
    /// 1016: the import queue is full. It holds ten imports of all integrations.
    QueueFull,
    /// 1019: another import into the same static list is under way.
    ListBusy,
    /// 608, 614, HTTP 429 and 503, or a response that is not Marketo's: the service is unavailable, and nothing was
    /// done.
    ServiceDown,
    /// 611, and undocumented codes: nothing was done, and a retry may succeed.
    Again,
    /// 502, 604, 713, 719, other HTTP 5xx, an empty or unreadable body: whether it was done is unknown.
    OutcomeUnknown,
    /// HTTP 413 or error 413: the upload is too large.
    TooLarge,
    /// The request is invalid, and a retry would fail too.
    Reject,
}

/// Returns the action for a response, by its HTTP status and the errors in its body. `errors` is none where the body
/// was not Marketo's.
pub fn classify(http: u16, errors: Option<&[ApiError]>) -> ErrorAction {
    if http == 413 {
        return ErrorAction::TooLarge;
    }
    if let Some(action) = errors.and_then(|errors| errors.iter().find_map(by_error)) {
        return action;
    }
    match (http, errors) {
        // A failure without a known code.
        (200..=299, Some(_)) => ErrorAction::Again,
        (401, _) => ErrorAction::NewToken,
        // Only error 603 means missing permissions. A 403 without it comes from a firewall or a filter.
        (403, Some(_)) => ErrorAction::Again,
        (429 | 503, _) => ErrorAction::ServiceDown,
        (400..=499, Some(_)) => ErrorAction::Reject,
        // A refusal or redirect without Marketo's body comes from a proxy, or the address is wrong.
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

/// Some responses lack the code.
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
    fn each_code_has_the_action_of_adobes_documentation() {
        for (codes, action) in [
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
                assert_eq!(classify(200, Some(&error(Some(code), ""))), action, "{code}");
            }
        }
    }

    #[test]
    fn error_without_a_code_is_classified_by_its_message() {
        let full = error(None, "There are 10 imports currently being processed. Please try again later");
        assert_eq!(classify(200, Some(&full)), ErrorAction::QueueFull);
        assert_eq!(classify(200, Some(&error(None, "Empty file"))), ErrorAction::Reject);
        assert_eq!(classify(200, Some(&error(None, "Something else"))), ErrorAction::Again);
        assert_eq!(classify(200, Some(&[])), ErrorAction::Again);
    }

    #[test]
    fn response_without_readable_body_is_classified_by_status() {
        for (http, action) in [
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
            assert_eq!(classify(http, None), action, "HTTP {http}");
        }
    }

    #[test]
    fn known_code_takes_precedence_over_http_status() {
        assert_eq!(classify(500, Some(&error(Some("1016"), ""))), ErrorAction::QueueFull);
        assert_eq!(classify(400, Some(&error(Some("1003"), ""))), ErrorAction::Reject);
        assert_eq!(classify(404, Some(&error(None, "Not found"))), ErrorAction::Reject);
        assert_eq!(classify(403, Some(&error(Some("603"), ""))), ErrorAction::StopForCredentials);
        assert_eq!(classify(403, Some(&error(None, "Forbidden"))), ErrorAction::Again);
        assert_eq!(classify(413, Some(&error(Some("1003"), ""))), ErrorAction::TooLarge);
    }
}
