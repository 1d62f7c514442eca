//! What lies in the drop folder? Looked at and touched from one open folder to the next, so that no symbolic link leads
//! out of it, not even one that is put in a folder's place at the last moment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, mkdirat, open, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::stamp::Stamp;
use crate::job::Format;

/// The folder at the top for what is refused. Configuration sees to it that no instance has this name.
pub(super) const REJECTED: &str = "rejected";
pub(super) const OPTIONS: &str = "job.toml";
pub(super) const OPTIONS_REASON: &str = "job.toml.reason.txt";

/// Deeper ones are no place for files anyway, and each level holds a folder open.
const DEEPEST: usize = 16;
/// Of `job.toml` and its reason; the rest is not read.
const LONGEST_TEXT: u64 = 64 * 1024;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Without `NONBLOCK` a pipe of a file's name would be waited for.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// The drop folder. All paths here are relative to it.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: PathBuf,
}

/// What one walk found.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Files with one of the known endings, and each `job.toml`.
    pub(super) files: BTreeMap<PathBuf, Stamp>,
    /// What stands in each folder's `job.toml`, by the folder.
    pub(super) options: BTreeMap<PathBuf, Result<String, String>>,
    /// The reasons that were given for a wrong `job.toml`, by the folder.
    pub(super) reasons: BTreeMap<PathBuf, String>,
    /// What could not be looked at, and why; also links, which are not followed.
    pub(super) passed_over: BTreeMap<PathBuf, String>,
}

impl Tree {
    /// `root` has to be absolute and without symbolic links, as events give it.
    pub(super) fn new(root: PathBuf) -> Tree {
        Tree { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Opened anew for each look: what is mounted there may have changed.
    pub(super) fn open_root(&self) -> io::Result<OwnedFd> {
        Ok(open(&self.root, FOLDER.difference(OFlags::NOFOLLOW), Mode::empty())?)
    }

    pub(super) fn open_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut folder = self.open_root()?;
        for name in path {
            folder = openat(&folder, name, FOLDER, Mode::empty())?;
        }
        Ok(folder)
    }

    /// Makes a folder and those above it, where they are missing.
    pub(super) fn make_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut folder = self.open_root()?;
        for name in path {
            match mkdirat(&folder, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            folder = openat(&folder, name, FOLDER, Mode::empty())?;
        }
        Ok(folder)
    }

    pub(super) fn walk(&self) -> io::Result<Look> {
        let mut look = Look::default();
        walk(self.open_root()?.as_fd(), Path::new(""), &mut look)?;
        Ok(look)
    }
}

/// Whether a file of this name is one to take.
fn is_to_take(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    !name.starts_with('.') && Format::of_name(&name).is_some()
}

fn walk(folder: BorrowedFd<'_>, path: &Path, look: &mut Look) -> io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        let at = path.join(name);
        // What begins with a dot is not ours; the folder itself and the one above are among these.
        if name.as_bytes().starts_with(b".") || at == Path::new(REJECTED) {
            continue;
        }
        if let Err(error) = entry_of(folder, entry.file_type(), name, &at, look)
            && error.kind() != io::ErrorKind::NotFound
        {
            // Half a folder is none: its job.toml may be in the other half.
            look.files.retain(|path, _| !path.starts_with(&at));
            look.passed_over.insert(at, format!("it can't be looked at: {error}"));
        }
    }
    Ok(())
}

fn entry_of(folder: BorrowedFd<'_>, kind: FileType, name: &OsStr, at: &Path, look: &mut Look) -> io::Result<()> {
    // Not every file system says in its listing what a name stands for.
    let kind = if kind == FileType::Unknown { Stamp::of(folder, name)?.kind() } else { kind };
    match kind {
        FileType::Directory if at.components().count() <= DEEPEST => {
            walk(openat(folder, name, FOLDER, Mode::empty())?.as_fd(), at, look)?;
        }
        FileType::RegularFile if name == OPTIONS => {
            let (stamp, text) = read_text(folder, name)?;
            look.files.insert(at.to_owned(), stamp);
            look.options.insert(parent(at), text);
        }
        FileType::RegularFile if name == OPTIONS_REASON => {
            look.reasons.insert(parent(at), read_text(folder, name)?.1.unwrap_or_default());
        }
        FileType::RegularFile if is_to_take(name) => {
            let stamp = Stamp::of(folder, name)?;
            if stamp.is_file() {
                look.files.insert(at.to_owned(), stamp);
            }
        }
        _ if name == OPTIONS => {
            look.options.insert(parent(at), Err("it is not a file, and links are not followed".to_owned()));
        }
        FileType::Symlink if is_to_take(name) => {
            look.passed_over.insert(at.to_owned(), "it is a symbolic link, which is not followed".to_owned());
        }
        _ => {}
    }
    Ok(())
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

fn read_text(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<(Stamp, Result<String, String>)> {
    // One that can't be read must count as wrong: passing it over would send its folder's files elsewhere.
    let file = match openat(folder, name, FILE, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(error) => return Ok((Stamp::of(folder, name)?, Err(format!("it can't be read: {error}")))),
    };
    let stamp = Stamp::of_open(&file)?;
    let mut text = Vec::new();
    let read = file.take(LONGEST_TEXT + 1).read_to_end(&mut text);
    let text = match read {
        Err(error) => Err(format!("it can't be read: {error}")),
        Ok(bytes) if bytes as u64 > LONGEST_TEXT => Err(format!("it has more than {LONGEST_TEXT} bytes")),
        Ok(_) => String::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned()),
    };
    Ok((stamp, text))
}

/// Opens a file for reading; none if it is not a file any more.
pub(super) fn open_file(folder: impl AsFd, name: &OsStr) -> io::Result<Option<(File, Stamp)>> {
    match openat(folder, name, FILE, Mode::empty()) {
        Ok(file) => {
            let stamp = Stamp::of_open(&file)?;
            Ok(stamp.is_file().then(|| (File::from(file), stamp)))
        }
        // LOOP: a symbolic link has taken its place; NXIO: a socket.
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes the file if it is still the one that `stamp` is of, and says whether it was. Between the look and the removal
/// stand two system calls, and no more can be done: there is no call that removes an inode.
pub(super) fn remove(folder: impl AsFd, name: &OsStr, stamp: &Stamp) -> io::Result<bool> {
    match Stamp::of(&folder, name) {
        Ok(found) if found.is_unchanged(stamp) => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    match unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Writes a small text so that it is there whole or not at all, and on the disk.
pub(super) fn write_text(folder: impl AsFd, name: &OsStr, text: &str) -> io::Result<()> {
    let mut draft = OsString::from(".");
    draft.push(name);
    // The name may be as long as names can be.
    let draft = if draft.len() > 255 { OsStr::new(".draft.txt") } else { &draft };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(&folder, draft, flags, Mode::from_raw_mode(0o666))?);
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(renameat(&folder, draft, &folder, name)?)
}
