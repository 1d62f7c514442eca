//! File identity: checks that the files at the database's path are still the open ones.
//!
//! An open file that was deleted or replaced still takes writes, and all of them are lost when the process ends.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::store::engine::database_paths::{wal_index_path, wal_path};
use crate::store::error::StoreError;

/// Device and inode, which identify a file as long as it is open.
pub(crate) type FileIdentity = (u64, u64);

/// Stands for a file that was not opened yet; there is no such inode.
const UNKNOWN: FileIdentity = (0, 0);

/// The files as they were when they were opened.
pub(crate) struct DatabaseFiles {
    /// The database, its WAL and the WAL's index.
    paths: [PathBuf; 3],
    open: Mutex<Option<[FileIdentity; 3]>>,
}

impl DatabaseFiles {
    /// Creates the record of a database of which no file was opened yet.
    pub fn new(path: &Path) -> DatabaseFiles {
        let paths = [path.to_owned(), wal_path(path), wal_index_path(path)];
        DatabaseFiles { paths, open: Mutex::default() }
    }

    /// Records the database file that was locked. Has to be called before a connection is opened.
    pub fn record_locked(&self, locked: FileIdentity) {
        // The WAL and its index may not exist yet, and are not compared before a connection was opened.
        *self.open.lock() = Some([locked, UNKNOWN, UNKNOWN]);
    }

    /// Records the files of a connection that was just opened. It may have created the WAL and its index; the database
    /// file has to be the recorded one.
    ///
    /// # Errors
    /// [`StoreError::Moved`]
    pub fn record_opened(&self) -> Result<(), StoreError> {
        self.verify_same_database()?;
        let mut found = [UNKNOWN; 3];
        for (found, path) in found.iter_mut().zip(&self.paths) {
            *found = identity(path).map_err(|_| StoreError::Moved { path: path.display().to_string() })?;
        }
        *self.open.lock() = Some(found);
        Ok(())
    }

    /// Checks that a connection opened now would find the same database file.
    ///
    /// # Errors
    /// [`StoreError::Moved`]
    pub fn verify_same_database(&self) -> Result<(), StoreError> {
        self.compare(1)
    }

    /// Checks that all files are still the recorded ones.
    ///
    /// # Errors
    /// [`StoreError::Moved`]
    pub fn verify_unchanged(&self) -> Result<(), StoreError> {
        self.compare(self.paths.len())
    }

    fn compare(&self, files: usize) -> Result<(), StoreError> {
        let Some(open) = *self.open.lock() else { return Ok(()) };
        for (open, path) in open.iter().zip(&self.paths).take(files) {
            // Where the check fails (no permission for the folder, a failing disk), the file may still be there.
            let is_same = match identity(path) {
                Ok(found) => found == *open,
                Err(error) => error.kind() != io::ErrorKind::NotFound,
            };
            if !is_same {
                return Err(StoreError::Moved { path: path.display().to_string() });
            }
        }
        Ok(())
    }
}

fn identity(path: &Path) -> io::Result<FileIdentity> {
    std::fs::metadata(path).map(|file| (file.dev(), file.ino()))
}
