//! How do clients reach the queue? The native routes, and the client of the same routes.

pub mod client;
pub mod types;
