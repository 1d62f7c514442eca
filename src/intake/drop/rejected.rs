//! Where does a refused file go, and what is said of it?
//!
//! The reason is written before the file is moved, so no file lies there without one. A reason without its file is what
//! a kill between the two leaves, or a person who took the file away: the next file of that name takes its place.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};
use rustix::io::Errno;

use super::stamp::Stamp;
use super::tree::{self, REJECTED, Tree};
use crate::untrusted_text::escape;

const REASON: &str = ".reason.txt";
/// What a file system takes as a name.
const LONGEST_NAME: usize = 255;

/// Moves the file at `path` to the rejected ones and writes down why. Gives the name that it has there; none if it is not
/// the file any more that `stamp` is of. Not to be called twice at once.
///
/// # Errors
/// What the file system says. The file is then still in its place.
pub(super) fn reject(
    tree: &Tree,
    path: &Path,
    stamp: &Stamp,
    reason: &str,
    now: Timestamp,
) -> io::Result<Option<OsString>> {
    let (folder, name) =
        (tree.open_folder(path.parent().unwrap_or(Path::new("")))?, path.file_name().unwrap_or_default());
    let rejected = tree.make_folder(Path::new(REJECTED))?;
    for number in 1_u64.. {
        let as_name = numbered(name, number);
        if exists(&rejected, &as_name)? {
            continue;
        }
        if !Stamp::of(&folder, name).is_ok_and(|found| found.is_unchanged(stamp)) {
            return Ok(None);
        }
        let text = format!(
            "{}.\n\nFile: {}\nRefused at: {now}\n\nNothing of it was imported. To try again, mend the file and put it \
             back; what lies in this folder is not looked at.\n",
            escape(reason),
            escape(&path.to_string_lossy())
        );
        tree::write_text(&rejected, &with_reason(&as_name), &text)?;
        match moved(&folder, name, &rejected, &as_name) {
            Ok(()) => return Ok(Some(as_name)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                let _ = unlinkat(&rejected, with_reason(&as_name), AtFlags::empty());
                return Err(error);
            }
        }
    }
    Ok(None)
}

/// How many refused files lie in the drop folder `root`, each until a person takes it away.
///
/// # Errors
/// What the file system says; a folder that is not there yet holds none.
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
    let name = name.as_bytes();
    let ending = name.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0).unwrap_or(name.len());
    let (stem, ending) = name.split_at(ending);
    let suffix = if number == 1 { String::new() } else { format!("-{number}") };
    let mut length = stem.len().min(LONGEST_NAME - REASON.len() - suffix.len() - ending.len().min(100));
    // Not in the middle of a letter.
    while length < stem.len() && length > 0 && stem[length] & 0xC0 == 0x80 {
        length -= 1;
    }
    OsString::from_vec([&stem[..length], suffix.as_bytes(), ending].concat())
}

fn with_reason(name: &OsStr) -> OsString {
    let mut name = name.to_owned();
    name.push(REASON);
    name
}

fn exists(folder: impl AsFd, name: &OsStr) -> io::Result<bool> {
    match Stamp::of(folder, name) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn moved(folder: &OwnedFd, name: &OsStr, rejected: &OwnedFd, as_name: &OsStr) -> io::Result<()> {
    match renameat_with(folder, name, rejected, as_name, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // Not every file system can do it without replacing; that there is none of the name was looked at.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(rustix::fs::renameat(folder, name, rejected, as_name)?),
        // A folder in the tree is on another device.
        Err(Errno::XDEV) => copied(folder, name, rejected, as_name),
        Err(error) => Err(error.into()),
    }
}

/// The copy is whole and on the disk before the original goes.
fn copied(folder: &OwnedFd, name: &OsStr, rejected: &OwnedFd, as_name: &OsStr) -> io::Result<()> {
    let Some((mut from, stamp)) = tree::open_file(folder, name)? else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let draft = OsStr::new(".copy");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut to = File::from(openat(rejected, draft, flags, Mode::from_raw_mode(0o640))?);
    io::copy(&mut from, &mut to)?;
    to.sync_all()?;
    rustix::fs::renameat(rejected, draft, rejected, as_name)?;
    rustix::fs::fsync(rejected)?;
    tree::remove(folder, name, &stamp)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_name_gets_a_number_before_its_ending_and_leaves_room_for_the_reason() {
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
    fn none_that_was_refused_before_is_replaced_and_one_that_changed_stays() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::new(folder.path().canonicalize().unwrap());
        let path = Path::new("default/leads/a.csv");
        tree.make_folder(path.parent().unwrap()).unwrap();
        let put = |text: &str| {
            fs::write(tree.root().join(path), text).unwrap();
            Stamp::of(tree.open_folder(path.parent().unwrap()).unwrap(), OsStr::new("a.csv")).unwrap()
        };
        let reject = |stamp: &Stamp| reject(&tree, path, stamp, "the file is empty", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(reject(&put("one")).unwrap(), "a.csv");
        // What a kill between the two steps leaves: a reason of a file that never came.
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
    fn a_file_goes_over_to_another_device_as_a_copy() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::new(folder.path().canonicalize().unwrap());
        let (from, to) = (tree.make_folder(Path::new("a")).unwrap(), tree.make_folder(Path::new("b")).unwrap());
        fs::write(tree.root().join("a/x.csv"), "rows").unwrap();
        copied(&from, OsStr::new("x.csv"), &to, OsStr::new("y.csv")).unwrap();
        assert_eq!(fs::read_to_string(tree.root().join("b/y.csv")).unwrap(), "rows");
        assert_eq!(fs::read_dir(tree.root().join("a")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(tree.root().join("b")).unwrap().count(), 1);
    }
}
