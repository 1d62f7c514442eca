//! Lock: keeps a second daemon from opening the database, and resolves the database's path.
//!
//! Two locks are held. Older versions lock the file `.lock` beside the database; once it is removed, it protects
//! nothing. So the database file is locked too, by its inode: no removal, hard link or symbolic link bypasses that
//! lock. It is a `flock`, which on a local disk is independent of the `fcntl` locks that SQLite takes, so backups, the
//! doctor and `sqlite3` can read while the daemon runs. Over NFS and SMB both kinds are one lock, which would block
//! SQLite. There only the `.lock` file is used, and the doctor reports such a disk as a fault.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::fstatfs;

use crate::disk::parent_folder;
use crate::store::engine::database_paths::lock_path;
use crate::store::engine::file_identity::FileIdentity;

/// Symbolic links that are followed, as many as Linux does.
const MAX_LINKS: usize = 40;

/// Both locks. The operating system releases them when the process ends, also by a crash.
///
/// `database` has to stay open for as long as SQLite has the file open: closing any descriptor of a file releases all
/// `fcntl` locks that the process has on it.
pub(crate) struct DatabaseLock {
    beside: File,
    database: File,
    /// The identity of the database file.
    pub identity: FileIdentity,
}

impl DatabaseLock {
    /// Locks the database at `path`, which has to be resolved ([`resolve_path`]), and creates the file if it is
    /// missing. Returns none if another process has the lock.
    ///
    /// # Errors
    /// Why a file can't be opened or locked, in one sentence.
    pub fn take(path: &Path) -> Result<Option<DatabaseLock>, String> {
        let beside = open_private(&lock_path(path))?;
        if !try_lock(&beside)? {
            return Ok(None);
        }
        let database = open_private(path)?;
        let found = database.metadata().map_err(|error| error.to_string())?;
        let lock = DatabaseLock { beside, database, identity: (found.dev(), found.ino()) };
        if !is_remote(&lock.database) && !try_lock(&lock.database)? {
            return Ok(None);
        }
        if found.nlink() > 1 {
            tracing::warn!(file = %path.display(), names = found.nlink(),
                "the database has several names (hard links): always use this one, since the WAL is beside it");
        }
        Ok(Some(lock))
    }
}

/// A child process has a copy of both descriptors from its fork until it executes its program. If they were only closed
/// here, a child that another thread starts at that time would keep the locks.
impl Drop for DatabaseLock {
    fn drop(&mut self) {
        for file in [&self.beside, &self.database] {
            let _ = file.unlock();
        }
    }
}

fn try_lock(file: &File) -> Result<bool, String> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error.to_string()),
    }
}

/// Returns whether the file is on NFS or SMB, by the magic numbers of `statfs(2)`.
fn is_remote(file: impl AsFd) -> bool {
    // Some file systems report negative numbers of 32 bits.
    fstatfs(file)
        .is_ok_and(|disk| matches!(disk.f_type as u64 & 0xffff_ffff, 0x6969 | 0x517b | 0xff53_4d42 | 0xfe53_4d42))
}

/// Opens a file, or creates one that only its owner may read, whatever the umask is: the database contains personal
/// data. SQLite gives the `-wal` and `-shm` files the permissions of the database.
fn open_private(path: &Path) -> Result<File, String> {
    let opened = File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(path);
    opened.map_err(|error| open_error_text(&error))
}

/// Returns the text of an error of opening the database.
pub(crate) fn open_error_text(error: &io::Error) -> String {
    format!("{error}; the daemon needs write access to it and its folder")
}

/// Resolves symbolic links in the path of a database, whether or not the file exists. SQLite puts the WAL beside the
/// target of a link, so the lock and the reserve belong there too.
///
/// # Errors
/// The error of the file system, mostly that a folder is missing.
pub fn resolve_path(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = parent_folder(&path).join(target),
            // It is no link, or it does not exist.
            Err(_) => {
                let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
                return Ok(parent_folder(&path).canonicalize()?.join(name));
            }
        }
    }
    Err(io::Error::from(rustix::io::Errno::LOOP))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_resolved_whether_or_not_the_file_exists() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir(root.join("disk")).unwrap();
        symlink("disk", root.join("folder")).unwrap();
        symlink("folder/../folder/q.db", root.join("second")).unwrap();
        symlink(root.join("second"), root.join("first")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        for _ in 0..2 {
            for name in ["first", "second", "folder/q.db", "disk/q.db"] {
                assert_eq!(resolve_path(&root.join(name)).unwrap(), root.join("disk/q.db"), "{name}");
            }
            fs::write(root.join("disk/q.db"), "").unwrap();
        }
        for name in ["loop", "missing/q.db", ".."] {
            assert!(resolve_path(&root.join(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn a_released_lock_is_free_whoever_has_its_descriptors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.db");
        let lock = DatabaseLock::take(&path).unwrap().unwrap();
        // As a child process has them before it executes its program.
        let _copies = [lock.beside.try_clone().unwrap(), lock.database.try_clone().unwrap()];
        drop(lock);
        assert!(DatabaseLock::take(&path).unwrap().is_some());
    }

    #[test]
    fn database_is_locked_by_its_inode_and_not_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.db");
        let lock = DatabaseLock::take(&path).unwrap().unwrap();
        fs::remove_file(folder.path().join("q.db.lock")).unwrap();
        assert!(DatabaseLock::take(&path).unwrap().is_none());
        let other = folder.path().join("other.db");
        fs::hard_link(&path, &other).unwrap();
        assert!(DatabaseLock::take(&other).unwrap().is_none());
        // A copy is another database.
        fs::remove_file(&other).unwrap();
        fs::copy(&path, &other).unwrap();
        assert!(DatabaseLock::take(&other).unwrap().is_some());
        drop(lock);
        assert!(DatabaseLock::take(&path).unwrap().is_some());
    }
}
