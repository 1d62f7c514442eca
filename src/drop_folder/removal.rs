//! Removal of an ingested file without losing data that a program writes to it in the meantime.
//!
//! No system call removes a file only if no process has it open. So the file is first renamed within its folder: from
//! then on no program opens it by its known name. If it is then unchanged since it was read, and no program has it open
//! for writing, it is removed; otherwise it gets its name back. The other name ([`PendingRemoval`]) holds the state of
//! the file when it was read, and is given only to files whose job (or copy) is on the disk. So a start after a crash
//! between the steps can finish the removal.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use crate::drop_folder::file_stat::FileStat;
use crate::drop_folder::names::PendingRemoval;
use crate::drop_folder::open_writers;
use crate::drop_folder::temp_file::rename_new;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    Removed,
    /// The file was replaced, written to or removed. The job is not affected.
    Changed,
    /// A program has it open for writing, so it stays.
    InUse,
}

/// Removes the file `name` if it is unchanged since `stamp` and no program has it open for writing.
///
/// # Errors
/// An error of the file system. The file then still exists under one of its two names.
pub(super) fn remove(folder: &OwnedFd, name: &OsStr, stat: &FileStat) -> io::Result<Removal> {
    match FileStat::of(folder, name) {
        Ok(found) if found.is_unchanged(stat) => {}
        Ok(_) => return Ok(Removal::Changed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removal::Changed),
        Err(error) => return Err(error),
    }
    let aside = PendingRemoval::new(name, stat);
    match rename_new(folder, name, folder, &aside.name()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removal::Changed),
        Err(error) => return Err(error),
    }
    finish(folder, &aside, Some(name))
}

/// Finishes [`remove`] for a file that was set aside, also after a crash. `name` is its full name, where the name of
/// the set-aside file had to be shortened.
pub(super) fn finish(folder: &OwnedFd, aside: &PendingRemoval, name: Option<&OsStr>) -> io::Result<Removal> {
    let aside_name = aside.name();
    let found = match FileStat::of(folder, &aside_name) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removal::Changed),
        Err(error) => return Err(error),
    };
    let is_taken = found.is_file() && aside.is_of(&found);
    if is_taken && !open_writers::is_open_for_writing(&found, &aside_name) {
        return match unlinkat(folder, &aside_name, AtFlags::empty()) {
            Ok(()) => Ok(Removal::Removed),
            Err(Errno::NOENT) => Ok(Removal::Changed),
            Err(error) => Err(error.into()),
        };
    }
    rename_new(folder, &aside_name, folder, name.unwrap_or(&aside.original))?;
    Ok(if is_taken { Removal::InUse } else { Removal::Changed })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;

    use super::*;

    struct Folder {
        folder: tempfile::TempDir,
        open: OwnedFd,
    }

    impl Folder {
        fn new() -> Folder {
            let folder = tempfile::tempdir().unwrap();
            let open = File::open(folder.path()).unwrap().into();
            Folder { folder, open }
        }

        fn put(&self, name: &str) -> FileStat {
            fs::write(self.folder.path().join(name), "email\na@example.com\n").unwrap();
            FileStat::of(&self.open, OsStr::new(name)).unwrap()
        }

        fn remove(&self, stat: &FileStat) -> Removal {
            remove(&self.open, OsStr::new("a.csv"), stat).unwrap()
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.folder.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn a_file_with_a_writer_stays_under_its_name() {
        let folder = Folder::new();
        let stat = folder.put("a.csv");
        let mut writer = File::options().append(true).open(folder.folder.path().join("a.csv")).unwrap();
        assert_eq!(folder.remove(&stat), Removal::InUse);
        assert_eq!(folder.names(), ["a.csv"]);
        writer.write_all(b"b@example.com\n").unwrap();
        drop(writer);
        assert_eq!(folder.remove(&stat), Removal::Changed);
        assert_eq!(folder.names(), ["a.csv"]);
        let stat = FileStat::of(&folder.open, OsStr::new("a.csv")).unwrap();
        assert_eq!(folder.remove(&stat), Removal::Removed);
        assert_eq!(folder.names(), [""; 0]);
    }

    #[test]
    fn set_aside_files_are_removed_or_restored_after_a_crash() {
        let folder = Folder::new();
        let (open, path) = (&folder.open, folder.folder.path());
        let set_aside = |stat: &FileStat| {
            let aside = PendingRemoval::new(OsStr::new("a.csv"), stat);
            fs::rename(path.join("a.csv"), path.join(aside.name())).unwrap();
            aside
        };
        let aside = set_aside(&folder.put("a.csv"));
        assert_eq!(finish(open, &aside, None).unwrap(), Removal::Removed);
        assert_eq!(folder.names(), [""; 0]);

        // Written to since: it is a file to take again.
        let aside = set_aside(&folder.put("a.csv"));
        let mut writer = File::options().append(true).open(path.join(aside.name())).unwrap();
        writer.write_all(b"b@example.com\n").unwrap();
        drop(writer);
        // Not over another file of its name.
        folder.put("a.csv");
        assert_eq!(finish(open, &aside, None).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::remove_file(path.join("a.csv")).unwrap();
        assert_eq!(finish(open, &aside, None).unwrap(), Removal::Changed);
        assert_eq!(fs::read_to_string(path.join("a.csv")).unwrap().lines().count(), 3);
        assert_eq!(folder.names(), ["a.csv"]);
    }

    #[test]
    fn another_file_of_the_name_is_not_removed() {
        let folder = Folder::new();
        let stat = folder.put("a.csv");
        folder.put("b.csv");
        fs::rename(folder.folder.path().join("b.csv"), folder.folder.path().join("a.csv")).unwrap();
        assert_eq!(folder.remove(&stat), Removal::Changed);
        assert_eq!(folder.names(), ["a.csv"]);
    }
}
