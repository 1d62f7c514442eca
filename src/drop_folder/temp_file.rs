//! Temporary files: written by the daemon, and renamed to their final name once they are complete and on the disk.
//!
//! Other users may write into the same folders and create a pipe, a link or a device under a predictable name. So a
//! temporary file is created exclusively under a random name; no existing file is ever opened for writing.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rand::TryRng;
use rand::rngs::SysRng;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, openat, renameat, renameat_with, unlinkat};
use rustix::io::Errno;

const START: &str = ".marqueue-";
const DIGITS: usize = 32;

/// A file without its final name. It is removed on drop unless it was renamed.
#[derive(Debug)]
pub(super) struct TempFile {
    folder: OwnedFd,
    name: OsString,
    file: File,
    is_named: bool,
}

impl TempFile {
    /// # Errors
    /// An error of the file system, or of the system's random generator.
    pub(super) fn create(folder: impl AsFd, mode: u32) -> io::Result<TempFile> {
        let folder = folder.as_fd().try_clone_to_owned()?;
        let mut random = [0; DIGITS / 2];
        SysRng.try_fill_bytes(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let name = OsString::from(format!("{START}{:032x}", u128::from_be_bytes(random)));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(&folder, &name, flags, Mode::from_raw_mode(mode))?);
        Ok(TempFile { folder, name, file, is_named: false })
    }

    /// Returns whether `name` is that of a temporary file, left behind by a daemon that crashed.
    pub(super) fn is_name(name: &OsStr) -> bool {
        let digits = name.as_bytes().strip_prefix(START.as_bytes());
        digits.is_some_and(|digits| digits.len() == DIGITS && digits.iter().all(u8::is_ascii_hexdigit))
    }

    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Renames it to its final name in the same folder and replaces a file of that name.
    pub(super) fn replace(mut self, name: &OsStr) -> io::Result<()> {
        self.file.sync_all()?;
        renameat(&self.folder, &self.name, &self.folder, name)?;
        self.is_named = true;
        Ok(())
    }

    /// Renames it to its final name in the same folder.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] with the temporary file, if a file of that name exists.
    pub(super) fn place(mut self, name: &OsStr) -> Result<(), (io::Error, TempFile)> {
        let placed = self.file.sync_all().and_then(|()| rename_new(&self.folder, &self.name, &self.folder, name));
        match placed {
            Ok(()) => {
                self.is_named = true;
                // The caller removes the original next, so the copy must be on the disk.
                rustix::fs::fsync(&self.folder).map_err(|error| (error.into(), self))
            }
            Err(error) => Err((error, self)),
        }
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.is_named {
            let _ = unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}

/// Writes a small text file atomically and flushes it to the disk.
pub(super) fn write_text(folder: impl AsFd, name: &OsStr, text: &str) -> io::Result<()> {
    let mut temp_file = TempFile::create(folder, 0o666)?;
    temp_file.file().write_all(text.as_bytes())?;
    temp_file.replace(name)
}

/// Renames without replacing. Not every file system can do that atomically; on those a file that is created between the
/// check and the rename is replaced.
pub(super) fn rename_new(from: &OwnedFd, name: &OsStr, to: &OwnedFd, new_name: &OsStr) -> io::Result<()> {
    match renameat_with(from, name, to, new_name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        renamed => return Ok(renamed?),
    }
    match crate::drop_folder::file_stat::FileStat::of(to, new_name) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(renameat(from, name, to, new_name)?),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_named_pipe_is_replaced_without_blocking() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a.reason.txt", ".a.reason.txt", ".draft.txt"];
        for name in names {
            let made = Command::new("mkfifo").arg(folder.path().join(name)).status().unwrap();
            assert!(made.success());
        }
        let open = File::open(folder.path()).unwrap();
        write_text(&open, OsStr::new(names[0]), "why").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join(names[0])).unwrap(), "why");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), names.len());
    }

    #[test]
    fn a_symbolic_link_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        fs::write(&outside, "theirs").unwrap();
        let inside = folder.path().join("drop");
        fs::create_dir(&inside).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("a.txt")).unwrap();
        write_text(File::open(&inside).unwrap(), OsStr::new("a.txt"), "ours").unwrap();
        assert_eq!(fs::read_to_string(&outside).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(inside.join("a.txt")).unwrap(), "ours");
    }

    #[test]
    fn a_temporary_file_without_a_final_name_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("taken")).unwrap();
        let open = File::open(folder.path()).unwrap();
        assert!(write_text(&open, OsStr::new("taken"), "text").is_err());
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["taken"]);
        assert!(TempFile::is_name(&TempFile::create(&open, 0o600).unwrap().name));
        assert!(!TempFile::is_name(OsStr::new(".marqueue-notes")));
    }
}
