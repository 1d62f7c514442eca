//! Authentication: identity of a request, access tokens, and delays for wrong logins.

pub mod identity;
pub mod login_throttle;
pub(super) mod middleware;
pub mod tokens;
