//! Steps of a plan, and the work that a batch has under way.

use crate::domain::BatchKey;

/// One step of a plan, with the batch that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Uploads a pending batch.
    Upload(BatchKey),
    /// Polls the import of a batch.
    Poll(BatchKey),
    /// Fetches the reports of an ended import.
    Collect(BatchKey),
    /// Settles a batch that is `uploading` and has no worker: its process ended, and the upload's outcome is unknown.
    Recover(BatchKey),
    /// Ends a pause whose time is over.
    Resume,
}

impl Step {
    /// Returns the step's batch, and the work of its worker.
    pub fn work(self) -> Option<(BatchKey, Work)> {
        match self {
            Step::Upload(key) | Step::Recover(key) => Some((key, Work::Upload)),
            Step::Poll(key) | Step::Collect(key) => Some((key, Work::Poll)),
            Step::Resume => None,
        }
    }
}

/// The work of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// An upload. The batch occupies a slot even before its row shows it.
    Upload,
    /// A query about an import.
    Poll,
}
