//! Daemon id: a random id of this process. Every call to Marketo carries it, so that a daemon recognises its own calls
//! where `base_url` points to itself. A daemon's responses on Marketo's paths carry it too, so that `doctor` recognises
//! a daemon.

use std::sync::LazyLock;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// The header with the daemon id.
pub const DAEMON_HEADER: HeaderName = HeaderName::from_static("x-marqueue-daemon");

/// It distinguishes processes and has no security function.
static ID: LazyLock<HeaderValue> = LazyLock::new(|| {
    let id = format!("{:032x}", rand::random::<u128>());
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("marqueue"))
});

/// Returns the id of this process.
pub fn daemon_id() -> &'static HeaderValue {
    &ID
}

/// Returns whether this process made the call with these headers.
pub fn is_own_call(headers: &HeaderMap) -> bool {
    headers.get(DAEMON_HEADER).is_some_and(|id| id == daemon_id())
}

/// Returns the id of the daemon that sent the response with these headers, if a daemon sent it.
pub fn answering_daemon(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(DAEMON_HEADER)?.to_str().ok()?.to_owned())
}
