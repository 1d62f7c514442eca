//! Does the database still stand on good ground? What is known of its files, and whether any of them was found damaged.

use std::path::Path;
use std::sync::OnceLock;

use crate::store::engine::file_identity::DatabaseFiles;
use crate::store::error::StoreError;

pub(crate) struct DatabaseHealth {
    pub files: DatabaseFiles,
    /// A page that was found damaged does not mend itself, even if the next look at others finds nothing.
    damage: OnceLock<String>,
}

impl DatabaseHealth {
    pub fn new(path: &Path) -> DatabaseHealth {
        DatabaseHealth { files: DatabaseFiles::new(path), damage: OnceLock::new() }
    }

    /// Remembers damage, and says so once.
    pub fn record_error(&self, error: &StoreError) {
        if let StoreError::Damaged(why) = error
            && self.damage.set(why.clone()).is_ok()
        {
            tracing::error!(%error, "no new files are taken; jobs go on as far as they can");
        }
    }

    /// Whether nothing was found damaged so far.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]
    pub fn check(&self) -> Result<(), StoreError> {
        self.damage.get().map_or(Ok(()), |why| Err(StoreError::Damaged(why.clone())))
    }
}
