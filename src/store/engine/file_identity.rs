//! File identity: checks that the files at the database's path are still the open ones.
//!
//! An open file that was deleted or replaced still takes writes, and all of them are lost when the process ends.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::store::error::StoreError;

/// The database, its WAL and the WAL's index. SQLite finds the last two by the name of the first.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

/// Device and inode, which identify a file as long as it is open.
pub(crate) type FileIdentity = (u64, u64);

/// Stands for a file that was not opened yet; there is no such inode.
const UNKNOWN: FileIdentity = (0, 0);

/// The files as they were when they were opened.
pub(crate) struct DatabaseFiles {
    path: PathBuf,
    open: Mutex<Option<[FileIdentity; 3]>>,
}

impl DatabaseFiles {
    /// Creates the record of a database of which no file was opened yet.
    pub fn new(path: &Path) -> DatabaseFiles {
        DatabaseFiles { path: path.to_owned(), open: Mutex::default() }
    }

    /// Returns `path` with a suffix appended, such as `-wal`.
    pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    }

    /// Records the database file that was locked. Has to be called before a connection is opened.
    pub fn record_locked(&self, locked: FileIdentity) {
        // The WAL and its index may not exist yet, and are not compared before a connection was opened.
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some([locked, UNKNOWN, UNKNOWN]);
    }

    /// Records the files of a connection that was just opened. It may have created the WAL and its index; the database file
    /// has to be the recorded one.
    ///
    /// # Errors
    /// [`StoreError::Moved`]
    pub fn record_opened(&self) -> Result<(), StoreError> {
        self.verify_same_database()?;
        let mut found = [UNKNOWN; 3];
        for (found, suffix) in found.iter_mut().zip(SUFFIXES) {
            let path = DatabaseFiles::with_suffix(&self.path, suffix);
            *found = identity(&path).map_err(|_| StoreError::Moved { path: path.display().to_string() })?;
        }
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
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
        self.compare(SUFFIXES.len())
    }

    fn compare(&self, files: usize) -> Result<(), StoreError> {
        let Some(open) = *self.open.lock().unwrap_or_else(PoisonError::into_inner) else { return Ok(()) };
        for (open, suffix) in open.iter().zip(SUFFIXES).take(files) {
            let path = DatabaseFiles::with_suffix(&self.path, suffix);
            // Where the check fails (no permission for the folder, a failing disk), the file may still be there.
            let is_same = match identity(&path) {
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

/// Returns the folder of a file.
pub(crate) fn parent_folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}
