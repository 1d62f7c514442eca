//! Authentication: identity of a request, access tokens, sessions of browsers, and delays for wrong logins.

pub(super) mod browser_guard;
pub mod identity;
pub(super) mod login_refusal;
pub mod login_throttle;
pub(super) mod middleware;
pub mod request_origin;
pub mod session_table;
pub mod tokens;
