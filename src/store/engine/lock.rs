//! Lock that keeps a second daemon away from a database, and the path that the database really has.
//!
//! Two locks are held. The file `.lock` beside the database is the one that older versions take; it can be removed, and
//! then keeps nobody out. So the database file itself is locked too, by its inode: no removal, hard link or symbolic
//! link leads around that lock. It is a `flock`, which on a disk of this machine does not touch the `fcntl` locks that
//! SQLite takes, so copies, the doctor and `sqlite3` read beside the daemon. Over NFS and SMB both kinds are one
//! lock, SQLite would be kept out by ours, and there is only the lock beside (the doctor calls such a disk a fault).

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::fstatfs;

use crate::store::engine::file_identity::{DatabaseFiles, FileIdentity, parent_folder};

/// As many as Linux follows.
const MAX_LINKS: usize = 40;

/// Both locks. The operating system gives them back at the process's end, however that comes.
///
/// `database` has to stay open for as long as SQLite has the file open: to close any descriptor of a file gives up
/// all `fcntl` locks that the process has on it.
pub(crate) struct DatabaseLock {
    _beside: File,
    _database: File,
    pub identity: FileIdentity,
}

impl DatabaseLock {
    /// Takes the lock of the database at `path`, which has to be [`resolved`], and makes the file if there is none. None
    /// if another process has it.
    ///
    /// # Errors
    /// Why a file can't be opened or locked, in one sentence.
    pub fn take(path: &Path) -> Result<Option<DatabaseLock>, String> {
        let beside = restrict_permissions(&DatabaseFiles::with_suffix(path, ".lock"))?;
        if !try_lock(&beside)? {
            return Ok(None);
        }
        let database = restrict_permissions(path)?;
        if !is_remote(&database) && !try_lock(&database)? {
            return Ok(None);
        }
        let found = database.metadata().map_err(|error| error.to_string())?;
        if found.nlink() > 1 {
            tracing::warn!(file = %path.display(), names = found.nlink(),
                "the database has further names (hard links): always start with this one, its log lies beside it");
        }
        Ok(Some(DatabaseLock { _beside: beside, identity: (found.dev(), found.ino()), _database: database }))
    }
}

fn try_lock(file: &File) -> Result<bool, String> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error.to_string()),
    }
}

/// Whether the file is on NFS or SMB, by the magic numbers of `statfs(2)`.
fn is_remote(file: impl AsFd) -> bool {
    // Some are given as negative numbers of 32 bits.
    fstatfs(file)
        .is_ok_and(|disk| matches!(disk.f_type as u64 & 0xffff_ffff, 0x6969 | 0x517b | 0xff53_4d42 | 0xfe53_4d42))
}

/// Opens a file, or makes one that only its owner may read: the database holds personal data, whatever the umask is.
/// SQLite gives its -wal and -shm the permissions of the database.
fn restrict_permissions(path: &Path) -> Result<File, String> {
    let opened = File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(path);
    opened.map_err(|error| open_error_text(&error))
}

pub(crate) fn open_error_text(error: &io::Error) -> String {
    format!("{error}; the daemon has to write it, and to make files beside it")
}

/// The path that the database at `path` has without symbolic links, whether or not the file is there yet. SQLite puts
/// the log beside the target of a link, so all that is ours goes there too.
///
/// # Errors
/// What the file system says, mostly that a folder is missing.
pub fn resolve_path(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = parent_folder(&path).join(target),
            // It is no link, or nothing is there yet.
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
