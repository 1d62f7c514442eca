//! Shared import: what an event of an import means for the batches that share it.

use crate::domain::event::Event;
use crate::domain::import::Counts;

/// The largest number of jobs in one import. Their records are written in one transaction.
pub const MAX_PACKED_JOBS: u32 = 1_000;

/// Which of the batches that share an import an event changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventReach {
    /// All of them.
    Import,
    /// The one that stands for the import.
    Lead,
    /// The one that a command names.
    Batch,
}

impl Event {
    /// Returns which of the batches that share an import the event changes. A poll is recorded for one batch only,
    /// unless it changes the state.
    pub fn reach(&self) -> EventReach {
        match self {
            Event::Cancelled | Event::Retried | Event::Abandoned { .. } => EventReach::Batch,
            Event::UnknownStatus { .. } => EventReach::Lead,
            _ => EventReach::Import,
        }
    }

    /// Returns the event as one of the batches that share the import records it: Marketo's counts and its message are
    /// about the rows of other jobs too.
    pub fn within_shared_import(&self, jobs: u32) -> Event {
        match self.clone() {
            Event::Polled { status, waited, .. } => Event::Polled { status, counts: Counts::default(), waited },
            Event::ImportEnded { .. } => Event::ImportEnded {
                counts: Counts::default(),
                message: format!("the import of {jobs} jobs has ended"),
            },
            Event::ImportLost { reason, .. } => Event::ImportLost { counts: Counts::default(), reason },
            other => other,
        }
    }
}
