//! Database health: the identity of its files, and whether damage was found.

use std::path::Path;
use std::sync::OnceLock;

use crate::store::engine::file_identity::DatabaseFiles;
use crate::store::error::StoreError;

/// The health of the open database.
pub(crate) struct DatabaseHealth {
    pub files: DatabaseFiles,
    /// The first damage that was found. It stays set: later reads of other pages do not repair a damaged one.
    damage: OnceLock<String>,
}

impl DatabaseHealth {
    /// Creates the record of a database without known damage.
    pub fn new(path: &Path) -> DatabaseHealth {
        DatabaseHealth { files: DatabaseFiles::new(path), damage: OnceLock::new() }
    }

    /// Records damage if `error` is one, and logs the first.
    pub fn record_error(&self, error: &StoreError) {
        if let StoreError::Damaged(why) = error
            && self.damage.set(why.clone()).is_ok()
        {
            tracing::error!(%error, "database damaged: new files are refused, accepted jobs continue as far as possible");
        }
    }

    /// Checks that no damage was found so far.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]
    pub fn check(&self) -> Result<(), StoreError> {
        self.damage.get().map_or(Ok(()), |why| Err(StoreError::Damaged(why.clone())))
    }
}
