//! Streaming parser of `multipart/form-data` (RFC 7578): a form's bytes in, its parts as events out.
//!
//! The parser of the HTTP server's library buffers all available bytes before it parses them, and buffers a part's head
//! and the preamble until they end. With a fast client, or one that never ends them, that is memory without a limit.
//! This parser has no socket and bounded memory. The Marketo-compatible API and the simulator share it.

mod error;
mod part_head;
mod reader;

pub use error::FormError;
pub use part_head::PartHead;
pub use reader::{FormEvent, FormReader};
