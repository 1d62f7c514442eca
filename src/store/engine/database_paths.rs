//! Paths of the files beside the database.

use std::path::{Path, PathBuf};

/// Returns the path of the write-ahead log, which SQLite finds by the name of the database.
pub(crate) fn wal_path(database: &Path) -> PathBuf {
    with_suffix(database, "-wal")
}

/// Returns the path of the WAL's index.
pub(crate) fn wal_index_path(database: &Path) -> PathBuf {
    with_suffix(database, "-shm")
}

/// Returns the path of the disk reserve.
pub fn reserve_path(database: &Path) -> PathBuf {
    with_suffix(database, "-reserve")
}

/// Returns the path of the lock file.
pub(crate) fn lock_path(database: &Path) -> PathBuf {
    with_suffix(database, ".lock")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
