//! The page for browsers: its files, its session, and the headers that protect it.

mod asset_table;
mod content_encoding;
mod login;
mod page;
mod prefix;
mod routes;
pub(super) mod security_headers;
mod session;

pub(super) use prefix::strip_prefix;
pub(super) use routes::routes;
