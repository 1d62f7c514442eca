//! An import on Marketo: its status and its row counts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long Marketo knows an import: its id, its status and its reports. Not documented; seven days were observed.
pub const IMPORT_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// The four states of an import as Marketo names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RemoteStatus {
    /// It waits in Marketo's queue.
    Queued,
    /// It is in progress.
    Importing,
    /// It has ended, with or without failed rows.
    Complete,
    /// It failed as a whole.
    Failed,
}

/// Marketo's row counts of one batch. Each may be missing from a response.
///
/// Processed means succeeded, so a file has `processed + failed` rows. A row with a warning is a processed one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows that were imported.
    pub processed: Option<u64>,
    /// Rows that were not imported.
    pub failed: Option<u64>,
    /// Imported rows with a warning.
    pub warned: Option<u64>,
}
