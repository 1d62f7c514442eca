//! Intake: receives a file from any source and makes it a job.
//!
//! The file is checked and split into parts while it is received, and stored chunk by chunk. It becomes a job only when
//! all of it is on the disk.

mod chunk_inserter;
mod chunk_writer;
mod error;
mod file_check;
mod lenient_scanner;
pub(crate) mod packing;
mod receiver;
mod request;
pub(crate) mod validate;

pub use error::IntakeError;
pub use receiver::Intake;
pub use request::{Checks, Incoming, Received};
