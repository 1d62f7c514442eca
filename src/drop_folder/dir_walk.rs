//! Directory walk: lists the drop folder relative to open directories (`openat`).
//!
//! So no symbolic link leads out of the drop folder, not even one that replaces a folder during the walk.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, fstatfs, mkdirat, open, openat};
use rustix::io::Errno;

use crate::drop_folder::file_stat::FileStat;
use crate::drop_folder::names::{EntryKind, PendingRemoval, REJECTED, is_hidden};
use crate::drop_folder::temp_file::TempFile;

/// The deepest folder that is listed. No valid path is as deep, and each level keeps a directory open.
const MAX_DEPTH: usize = 16;
/// The most bytes that are read of `job.toml` and of its reason.
const MAX_TEXT_BYTES: u64 = 64 * 1024;

const NO_FILE: &str = "it is not a file, and links are not followed";

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Without `NONBLOCK`, opening a named pipe would block.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// The drop folder. All paths here are relative to it.
#[derive(Clone, Debug)]
pub(super) struct DirTree {
    root: PathBuf,
}

/// The result of one walk.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files with a known extension, and each `job.toml`.
    pub(super) files: BTreeMap<PathBuf, FileStat>,
    /// The content of each `job.toml`, by its folder.
    pub(super) options: BTreeMap<PathBuf, Result<String, String>>,
    /// The reasons written for an invalid `job.toml`, by its folder.
    pub(super) reasons: BTreeMap<PathBuf, String>,
    /// Entries that could not be read, each with the reason; also links, which are not followed.
    pub(super) skipped: BTreeMap<PathBuf, String>,
    /// Files that are ignored because of their extension.
    pub(super) ignored: BTreeMap<PathBuf, FileStat>,
    /// Ingested files whose removal was interrupted by a stop of the daemon.
    pub(super) set_aside: Vec<PathBuf>,
    /// Temporary files of the daemon, left behind by a stop.
    pub(super) temp_files: Vec<PathBuf>,
    /// Folders on file systems that other machines may write to.
    pub(super) shared: BTreeSet<PathBuf>,
}

/// A part of the drop folder that has its own task, so that it cannot block the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The folder of an instance.
    Instance(String),
    /// Everything outside of the instances' folders.
    Rest(BTreeSet<String>),
}

impl DirTree {
    /// `root` has to be absolute and without symbolic links, because events report such paths.
    pub(super) fn new(root: PathBuf) -> DirTree {
        DirTree { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Opens the root. This is done for each scan, because another file system may have been mounted there.
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

    /// Creates a folder and its parents where they are missing.
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

    /// Lists a part.
    ///
    /// # Errors
    /// The part's own folder cannot be opened or listed.
    pub(super) fn walk(&self, part: &Part) -> io::Result<Listing> {
        let mut listing = Listing::default();
        let (path, excluded) = match part {
            Part::Instance(name) => (Path::new(name), None),
            Part::Rest(instances) => (Path::new(""), Some(instances)),
        };
        walk(self.open_folder(path)?.as_fd(), path, excluded, &mut listing)?;
        Ok(listing)
    }
}

/// Lists a folder and those below it, except the folders in `excluded`.
fn walk(
    folder: BorrowedFd<'_>,
    path: &Path,
    excluded: Option<&BTreeSet<String>>,
    listing: &mut Listing,
) -> io::Result<()> {
    // A file system of unknown type is treated as a share.
    if !fstatfs(folder).is_ok_and(|found| is_of_this_machine(found.f_type as u64)) {
        listing.shared.insert(path.to_owned());
    }
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        let at = path.join(name);
        let is_other = |names: &BTreeSet<String>| name.to_str().is_some_and(|name| names.contains(name));
        if excluded.is_some_and(is_other) {
            continue;
        }
        if is_hidden(name) {
            if PendingRemoval::read(name).is_some() {
                listing.set_aside.push(at);
            } else if TempFile::is_name(name) {
                listing.temp_files.push(at);
            }
            continue;
        }
        if at == Path::new(REJECTED) {
            continue;
        }
        if let Err(error) = list_entry(folder, entry.file_type(), &at, listing)
            && error.kind() != io::ErrorKind::NotFound
        {
            // A folder that was listed in part is skipped: its job.toml may be in the missing part.
            listing.files.retain(|path, _| !path.starts_with(&at));
            listing.skipped.insert(at, format!("it cannot be read: {error}"));
        }
    }
    Ok(())
}

/// Adds the entry `at`, a file or folder in `folder`, to the listing.
fn list_entry(folder: BorrowedFd<'_>, kind: FileType, at: &Path, listing: &mut Listing) -> io::Result<()> {
    let name = at.file_name().unwrap_or_default();
    // Not every file system gives the type of an entry in its listing.
    let kind = if kind == FileType::Unknown { FileStat::of(folder, name)?.kind() } else { kind };
    let skip = |listing: &mut Listing, why: &str| drop(listing.skipped.insert(at.to_owned(), why.to_owned()));
    match (EntryKind::of(at), kind) {
        (_, FileType::Directory) if at.components().count() <= MAX_DEPTH => {
            walk(openat(folder, name, FOLDER, Mode::empty())?.as_fd(), at, None, listing)?;
        }
        (_, FileType::Directory) => skip(listing, "it is too deep in other folders"),
        (EntryKind::Options, FileType::RegularFile) => {
            let (stat, text) = read_text(folder, name)?;
            listing.files.insert(at.to_owned(), stat);
            listing.options.insert(parent(at).to_owned(), text);
        }
        (EntryKind::Options, _) => drop(listing.options.insert(parent(at).to_owned(), Err(NO_FILE.to_owned()))),
        (EntryKind::OptionsReason, FileType::RegularFile) => {
            listing.reasons.insert(parent(at).to_owned(), read_text(folder, name)?.1.unwrap_or_default());
        }
        (EntryKind::OptionsReason | EntryKind::Readme | EntryKind::Unfinished, _) => {}
        (EntryKind::Known | EntryKind::Unknown, FileType::Symlink) => {
            skip(listing, "it is a symbolic link, which is not followed");
        }
        (known, FileType::RegularFile) => {
            let stat = FileStat::of(folder, name)?;
            if stat.is_file() {
                let files = if known == EntryKind::Known { &mut listing.files } else { &mut listing.ignored };
                files.insert(at.to_owned(), stat);
            }
        }
        (EntryKind::Known | EntryKind::Unknown, _) => skip(listing, "it is not a regular file"),
    }
    Ok(())
}

/// Whether a file system is written to by this machine's kernel alone, by the magic numbers of `statfs(2)`. One that is
/// not listed counts as a network share: FUSE, for one, may be either.
fn is_of_this_machine(magic: u64) -> bool {
    // Some are given as negative numbers of 32 bits.
    matches!(
        magic & 0xffff_ffff,
        // ext2 to ext4, XFS, Btrfs, tmpfs, ramfs, overlay, F2FS, ZFS, bcachefs, JFS, NILFS, ReiserFS
        0xef53 | 0x5846_5342 | 0x9123_683e | 0x0102_1994 | 0x8584_58f6 | 0x794c_7630 | 0xf2f5_2010 | 0x2fc1_2fc1
            | 0xca45_1a4e | 0x3153_464a | 0x3434 | 0x5265_4973
            // FAT, exFAT, NTFS of the kernel's own
            | 0x4d44 | 0x2011_bab0 | 0x7366_746e
    )
}

/// Returns the folder of a path that is relative to the drop folder; empty for an entry of the drop folder itself.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn read_text(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<(FileStat, Result<String, String>)> {
    // A job.toml that cannot be read counts as invalid: without its options the files would be imported in another way.
    let file = match openat(folder, name, FILE, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(error) => return Ok((FileStat::of(folder, name)?, Err(format!("it can't be read: {error}")))),
    };
    let stat = FileStat::of_open(&file)?;
    if !stat.is_file() {
        return Ok((stat, Err(NO_FILE.to_owned())));
    }
    let mut text = Vec::new();
    let read = file.take(MAX_TEXT_BYTES + 1).read_to_end(&mut text);
    let text = match read {
        Err(error) => Err(format!("it can't be read: {error}")),
        Ok(bytes) if bytes as u64 > MAX_TEXT_BYTES => Err(format!("it has more than {MAX_TEXT_BYTES} bytes")),
        Ok(_) => String::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned()),
    };
    Ok((stat, text))
}

/// A regular file that is open for reading, and its status at that time.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) stat: FileStat,
}

/// Opens a file for reading; `None` if it is no regular file any more.
pub(super) fn open_file(folder: impl AsFd, name: &OsStr) -> io::Result<Option<OpenFile>> {
    match openat(folder, name, FILE, Mode::empty()) {
        Ok(file) => {
            let stat = FileStat::of_open(&file)?;
            Ok(stat.is_file().then(|| OpenFile { file: File::from(file), stat }))
        }
        // LOOP: it was replaced by a symbolic link; NXIO: by a socket.
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
