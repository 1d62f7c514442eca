//! Are the files at the database's path still those that are open? One that was deleted or replaced goes on taking writes,
//! and all that it took is gone with the process.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::store::error::StoreError;

/// The database, its log and the log's index. SQLite finds the last two by the name of the first.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

/// What tells a file from another of the same name, as long as it is open.
pub(crate) type FileIdentity = (u64, u64);

/// Of a file that no connection has been opened to: there is no such inode.
const UNKNOWN: FileIdentity = (0, 0);

/// The files as they were when they were opened.
pub(crate) struct DatabaseFiles {
    path: PathBuf,
    open: Mutex<Option<[FileIdentity; 3]>>,
}

impl DatabaseFiles {
    /// Of a database that nothing is known of yet.
    pub fn new(path: &Path) -> DatabaseFiles {
        DatabaseFiles { path: path.to_owned(), open: Mutex::default() }
    }

    /// `path` with one of [`ENDINGS`], or another.
    pub fn with_suffix(path: &Path, ending: &str) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        name.into()
    }

    /// `locked` is the database that is ours. To be called before any connection is opened.
    pub fn record_locked(&self, locked: FileIdentity) {
        // The log and its index are not there yet, and not compared before a connection was opened.
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some([locked, UNKNOWN, UNKNOWN]);
    }

    /// To be called when a connection has just been opened: its files are those that are there now. It may have made the
    /// log and its index anew; the database itself has to be the one from before.
    ///
    /// # Errors
    /// [`StoreError::Moved`]
    pub fn record_opened(&self) -> Result<(), StoreError> {
        self.verify_same_database()?;
        let mut found = [UNKNOWN; 3];
        for (found, ending) in found.iter_mut().zip(SUFFIXES) {
            let path = DatabaseFiles::with_suffix(&self.path, ending);
            *found = identity(&path).map_err(|_| StoreError::Moved { path: path.display().to_string() })?;
        }
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Ok(())
    }

    /// Whether a connection that is opened now would find the same database.
    ///
    /// # Errors
    /// [`StoreError::Moved`]
    pub fn verify_same_database(&self) -> Result<(), StoreError> {
        self.compare(1)
    }

    /// Whether all files are still there.
    ///
    /// # Errors
    /// [`StoreError::Moved`]
    pub fn verify_unchanged(&self) -> Result<(), StoreError> {
        self.compare(SUFFIXES.len())
    }

    fn compare(&self, files: usize) -> Result<(), StoreError> {
        let Some(open) = *self.open.lock().unwrap_or_else(PoisonError::into_inner) else { return Ok(()) };
        for (open, ending) in open.iter().zip(SUFFIXES).take(files) {
            let path = DatabaseFiles::with_suffix(&self.path, ending);
            // What can't be asked after (a folder without rights, a disk that fails) is not known to be gone.
            let is_there = match identity(&path) {
                Ok(found) => found == *open,
                Err(error) => error.kind() != io::ErrorKind::NotFound,
            };
            if !is_there {
                return Err(StoreError::Moved { path: path.display().to_string() });
            }
        }
        Ok(())
    }
}

fn identity(path: &Path) -> io::Result<FileIdentity> {
    std::fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

/// The folder that a file is in.
pub(crate) fn parent_folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}
