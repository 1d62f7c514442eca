//! Errors of the intake: why a file was not accepted.

use crate::delimited::ValidationError;
use crate::domain::SubmissionChannel;
use crate::store::StoreError;

/// A file that was not accepted. Nothing of it is stored.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The configuration has no instance of this name.
    #[error("there is no instance \"{name}\" in the configuration: it has {known}")]
    UnknownInstance {
        /// The name that was given.
        name: String,
        /// The instances of the configuration, joined by commas.
        known: String,
    },
    /// A parameter of the job is not valid.
    #[error("{0}")]
    Wrong(String),
    /// The file is not valid.
    #[error(transparent)]
    File(#[from] ValidationError),
    /// The file exceeds `api.max_file_bytes`, given in bytes.
    #[error("the file has more than {0} bytes (api.max_file_bytes)")]
    TooLarge(u64),
    /// The connection was closed, or reading the source failed, before the end of the file.
    #[error("the file was cut off: {0}")]
    CutOff(String),
    /// The store refused the job or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IntakeError {
    /// Returns the message. Where an option would correct the fault, it names the option as `channel` has it.
    pub fn message(&self, channel: SubmissionChannel) -> String {
        match self {
            IntakeError::File(fault) => fault.message(channel),
            other => other.to_string(),
        }
    }
}
