//! Parameters and results of an intake.

use bytes::Bytes;

use crate::delimited::Warning;
use crate::store::{Inserted, NewJob};

/// The checks that a file must pass before it becomes a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// Everything that is certain to fail on Marketo or to be misread there.
    All,
    /// Only what Marketo checks when it accepts an upload. Every other fault ends as a failed row, as on Marketo.
    MarketoOnly,
    /// None: the file is only split.
    None,
}

/// A file that was accepted.
#[derive(Debug)]
pub struct Received {
    /// The job, new or found by its idempotency key.
    pub added: Inserted,
    /// Findings that do not prevent the import. A new job's history has them too.
    pub warnings: Vec<Warning>,
}

/// A message of a sender whose parameters may follow the file, as in a multipart form.
#[derive(Debug)]
pub enum Incoming {
    /// The next bytes of the file.
    Content(Bytes),
    /// All parameters, known only after the end of the file.
    Metadata(Box<NewJob>),
}
