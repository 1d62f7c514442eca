//! Id of this process. Every call to Marketo carries it, so that a daemon recognises its own calls where the address of an
//! instance leads back to it; a daemon's answers on Marketo's paths carry it too, so that `doctor` recognises the daemon.

use std::sync::LazyLock;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// The header with the id.
pub const DAEMON_HEADER: HeaderName = HeaderName::from_static("x-marqueue-daemon");

/// It tells processes apart and protects nothing.
static ID: LazyLock<HeaderValue> = LazyLock::new(|| {
    let id = format!("{:032x}", rand::random::<u128>());
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("marqueue"))
});

/// The id of this process.
pub fn daemon_id() -> &'static HeaderValue {
    &ID
}

/// Whether this process made the call with these headers.
pub fn is_own_call(headers: &HeaderMap) -> bool {
    headers.get(DAEMON_HEADER).is_some_and(|id| id == daemon_id())
}

/// The id of the daemon that gave the answer with these headers, if it was one.
pub fn answering_daemon(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(DAEMON_HEADER)?.to_str().ok()?.to_owned())
}
