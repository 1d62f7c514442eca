//! Rejected files: moves a refused file to `rejected/` and writes the reason beside it.
//!
//! The reason is written before the file is moved, so that no file is there without a reason. A reason without its file
//! is left by a crash between the two steps, or by an operator who removed the file: the next file of that name
//! replaces it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use jiff::Timestamp;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use crate::drop_folder::dir_walk;
use crate::drop_folder::dir_walk::{DirTree, OpenFile};
use crate::drop_folder::file_stat::FileStat;
use crate::drop_folder::names::{MAX_NAME, REJECTED, shortened};
use crate::drop_folder::removal;
use crate::drop_folder::temp_file::{TempFile, rename_new, write_text};
use crate::untrusted_text::escape;

const REASON: &str = ".reason.txt";

/// Held while a name among the rejected files is chosen, so that two files do not get the same. While it is held only
/// the folder `rejected` is accessed, so that an instance's folder that hangs does not block the others.
pub(super) type NameLock = Mutex<()>;

/// A refused file and the reason.
pub(super) struct RejectedFile<'a> {
    /// Relative to the drop folder.
    pub(super) path: &'a Path,
    pub(super) stat: &'a FileStat,
    pub(super) reason: &'a str,
    pub(super) at: Timestamp,
}

/// Moves a refused file to `rejected/` and writes the reason. Returns its name there; `None` if the file changed since
/// `stamp`.
///
/// # Errors
/// An error of the file system. The file is then still in its folder.
pub(super) fn reject(tree: &DirTree, refused: &RejectedFile<'_>, name_lock: &NameLock) -> io::Result<Option<OsString>> {
    let (folder, name) =
        (tree.open_folder(dir_walk::parent(refused.path))?, refused.path.file_name().unwrap_or_default());
    let rejected = tree.make_folder(Path::new(REJECTED))?;
    let is_same = || FileStat::of(&folder, name).is_ok_and(|found| found.is_unchanged(refused.stat));
    if !is_same() {
        return Ok(None);
    }
    if refused.stat.is_same_device(&FileStat::of_open(&rejected)?) {
        let renamed = move_under_free_name(&rejected, refused, name_lock, |as_name| {
            // The file may have changed while the reason was written.
            if !is_same() {
                return Err(io::ErrorKind::NotFound.into());
            }
            rename_new(&folder, name, &rejected, as_name)
        });
        match renamed {
            // The same device may be mounted twice.
            Err(error) if is_another_mount(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            renamed => return renamed.map(Some),
        }
    }
    let Some(temp_file) = copy(&folder, name, refused.stat, &rejected)? else { return Ok(None) };
    let mut temp_file = Some(temp_file);
    let as_name = move_under_free_name(&rejected, refused, name_lock, |as_name| {
        match temp_file.take().map(|temp_file| temp_file.place(as_name)) {
            Some(Err((error, unplaced))) => {
                temp_file = Some(unplaced);
                Err(error)
            }
            _ => Ok(()),
        }
    })?;
    // A file that was written to meanwhile stays as well and is ingested again.
    removal::remove(&folder, name, refused.stat)?;
    Ok(Some(as_name))
}

/// Finds a free name among the rejected files, writes the reason for it and calls `place` to put the file there.
fn move_under_free_name(
    rejected: &OwnedFd,
    refused: &RejectedFile<'_>,
    name_lock: &NameLock,
    mut place: impl FnMut(&OsStr) -> io::Result<()>,
) -> io::Result<OsString> {
    let RejectedFile { path, reason, at, .. } = refused;
    let text = format!(
        "{}.\n\nFile: {}\nRefused at: {at}\n\nNothing of it was imported. To try again, correct the file and put it \
         back; files in this folder are not imported.\n",
        escape(reason),
        escape(&path.to_string_lossy())
    );
    let _one_at_a_time = name_lock.lock();
    let mut number = 1_u64;
    loop {
        let as_name = numbered(path.file_name().unwrap_or_default(), number);
        number += 1;
        if exists(rejected, &as_name)? {
            continue;
        }
        write_text(rejected, &with_reason(&as_name), &text)?;
        match place(&as_name) {
            Ok(()) => return Ok(as_name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                let _ = unlinkat(rejected, with_reason(&as_name), AtFlags::empty());
                return Err(error);
            }
        }
    }
}

fn is_another_mount(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::XDEV.raw_os_error())
}

/// Returns the number of refused files in the drop folder `root`. They stay until an operator removes them.
///
/// # Errors
/// An error of the file system. A folder that does not exist yet counts as empty.
pub fn rejected_files(root: &Path) -> io::Result<u64> {
    let entries = match std::fs::read_dir(root.join(REJECTED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut files = 0;
    for entry in entries {
        let name = entry?.file_name();
        let name = name.as_bytes();
        files += u64::from(!name.starts_with(b".") && !name.ends_with(REASON.as_bytes()));
    }
    Ok(files)
}

/// `leads.csv`, `leads-2.csv` and so on, shortened where the reason's name would be too long.
fn numbered(name: &OsStr, number: u64) -> OsString {
    let suffix = if number == 1 { String::new() } else { format!("-{number}") };
    shortened(name, &suffix, MAX_NAME - REASON.len())
}

fn with_reason(name: &OsStr) -> OsString {
    let mut name = name.to_owned();
    name.push(REASON);
    name
}

fn exists(folder: impl AsFd, name: &OsStr) -> io::Result<bool> {
    match FileStat::of(folder, name) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Copies a file to a temporary file among the rejected ones. Returns `None` if the file changed since `stat`.
fn copy(folder: &OwnedFd, name: &OsStr, stat: &FileStat, rejected: &OwnedFd) -> io::Result<Option<TempFile>> {
    let opened = dir_walk::open_file(folder, name)?;
    let Some(OpenFile { file: mut from, .. }) = opened.filter(|opened| opened.stat.is_unchanged(stat)) else {
        return Ok(None);
    };
    let mut temp_file = TempFile::create(rejected, 0o640)?;
    io::copy(&mut from, temp_file.file())?;
    Ok(Some(temp_file))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_taken_name_gets_a_number_before_its_extension() {
        for (name, number, expected) in [
            ("leads.csv", 1, "leads.csv"),
            ("leads.csv", 2, "leads-2.csv"),
            ("a.b.CSV", 11, "a.b-11.CSV"),
            ("leads", 2, "leads-2"),
        ] {
            assert_eq!(numbered(OsStr::new(name), number), expected);
        }
        let long = format!("{}.csv", "ü".repeat(125));
        let named = numbered(OsStr::new(&long), 2).into_string().unwrap();
        assert!(named.ends_with("ü-2.csv") && named.len() + REASON.len() <= 255, "{named}");
    }

    #[test]
    fn rejecting_replaces_no_file_and_leaves_changed_ones() {
        let folder = tempfile::tempdir().unwrap();
        let tree = DirTree::new(folder.path().canonicalize().unwrap());
        let path = Path::new("default/leads/a.csv");
        tree.make_folder(path.parent().unwrap()).unwrap();
        let put = |text: &str| {
            fs::write(tree.root().join(path), text).unwrap();
            FileStat::of(tree.open_folder(path.parent().unwrap()).unwrap(), OsStr::new("a.csv")).unwrap()
        };
        let reject = |stat: &FileStat| {
            let refused = RejectedFile { path, stat, reason: "the file is empty", at: Timestamp::UNIX_EPOCH };
            reject(&tree, &refused, &NameLock::default()).unwrap()
        };
        assert_eq!(reject(&put("one")).unwrap(), "a.csv");
        // A crash between the two steps leaves a reason without its file.
        fs::write(tree.root().join("rejected/a-2.csv.reason.txt"), "of the one before").unwrap();
        let second = put("two");
        assert_eq!(reject(&second).unwrap(), "a-2.csv");
        assert_eq!(fs::read_to_string(tree.root().join("rejected/a.csv")).unwrap(), "one");
        assert_eq!(fs::read_to_string(tree.root().join("rejected/a-2.csv")).unwrap(), "two");
        let reason = fs::read_to_string(tree.root().join("rejected/a-2.csv.reason.txt")).unwrap();
        assert!(reason.starts_with("the file is empty.\n\nFile: default/leads/a.csv\n"), "{reason}");
        put("three");
        assert_eq!(reject(&second), None);
        assert_eq!(fs::read_to_string(tree.root().join(path)).unwrap(), "three");
        assert_eq!(fs::read_dir(tree.root().join("rejected")).unwrap().count(), 4);
    }

    #[test]
    fn a_file_is_copied_to_another_device() {
        let folder = tempfile::tempdir().unwrap();
        let tree = DirTree::new(folder.path().canonicalize().unwrap());
        let (from, to) = (tree.make_folder(Path::new("a")).unwrap(), tree.make_folder(Path::new("b")).unwrap());
        fs::write(tree.root().join("a/x.csv"), "rows").unwrap();
        let stat = FileStat::of(&from, OsStr::new("x.csv")).unwrap();
        let temp_file = copy(&from, OsStr::new("x.csv"), &stat, &to).unwrap().unwrap();
        fs::write(tree.root().join("b/y.csv"), "theirs").unwrap();
        let (error, temp_file) = temp_file.place(OsStr::new("y.csv")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        temp_file.place(OsStr::new("z.csv")).unwrap();
        assert_eq!(fs::read_to_string(tree.root().join("b/y.csv")).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(tree.root().join("b/z.csv")).unwrap(), "rows");
        assert_eq!(fs::read_dir(tree.root().join("b")).unwrap().count(), 2);
        assert!(copy(&from, OsStr::new("x.csv"), &FileStat::fabricated(1, 1, 1), &to).unwrap().is_none());
    }
}
