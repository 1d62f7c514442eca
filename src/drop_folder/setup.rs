//! Setup and listing of a part of the drop folder. Everything here blocks on the disk or a share, so it runs on
//! blocking threads.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use notify::RecursiveMode;
use rustix::fs::{AtFlags, unlinkat};

use crate::drop_folder::dir_walk::{DirTree, Listing, Part, parent};
use crate::drop_folder::file_stat::FileStat;
use crate::drop_folder::names::{OPTIONS_REASON, PendingRemoval, README, REJECTED};
use crate::drop_folder::removal;
use crate::drop_folder::temp_file::{TempFile, write_text};
use crate::drop_folder::watcher::{FolderWatcher, PendingFsEvents};

const EXPLANATION: &str = include_str!("README.txt");

/// The result of a scan.
pub(super) struct ScanResult {
    /// Everything in the part.
    pub(super) listing: Listing,
    /// The events since the last scan.
    pub(super) events: PendingFsEvents,
    /// The part's own folder.
    pub(super) folder: FileStat,
}

/// Lists a part. If its folder is not the one that was `known` (a share may have been mounted over it), it is prepared
/// first.
///
/// # Errors
/// The folder cannot be prepared or listed.
pub(super) fn list(
    tree: &DirTree,
    part: &Part,
    events: &FolderWatcher,
    known: Option<FileStat>,
) -> io::Result<ScanResult> {
    let folder = folder_of(tree, part).ok();
    let folder = match (folder, known) {
        (Some(folder), Some(known)) if folder.is_same_inode(&known) => folder,
        _ => prepare(tree, part, events)?,
    };
    // Events are taken before the listing, so that a change in between is in the next set of events.
    let pending = events.take_pending();
    let listing = tree.walk(part)?;
    if let Part::Rest(_) = part {
        watch_unknown_folders(tree, &listing, events);
    }
    Ok(ScanResult { listing, events: pending, folder })
}

/// Creates the missing folders and watches them. Returns the part's own folder.
///
/// # Errors
/// A folder cannot be created or opened.
pub(super) fn prepare(tree: &DirTree, part: &Part, events: &FolderWatcher) -> io::Result<FileStat> {
    match part {
        Part::Instance(instance) => {
            for folder in ["leads", "custom-objects", "program-members"] {
                tree.make_folder(&Path::new(instance).join(folder))?;
            }
        }
        Part::Rest(_) => {
            tree.make_folder(Path::new(REJECTED))?;
            let root = tree.open_root()?;
            match FileStat::of(&root, OsStr::new(README)) {
                // It may have been edited.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    write_text(&root, OsStr::new(README), EXPLANATION)?;
                }
                Err(error) => return Err(error),
            }
        }
    }
    let (path, mode) = match part {
        Part::Instance(instance) => (tree.root().join(instance), RecursiveMode::Recursive),
        // The task of each instance watches that instance's folder.
        Part::Rest(_) => (tree.root().to_owned(), RecursiveMode::NonRecursive),
    };
    // Without events files are ingested later, at the next periodic scan.
    if let Err(error) = events.watch(tree.root(), &path, mode) {
        tracing::warn!(folder = %path.display(), %error,
            "drop folder not watched; it is scanned every few seconds instead");
    }
    folder_of(tree, part)
}

fn folder_of(tree: &DirTree, part: &Part) -> io::Result<FileStat> {
    let path = match part {
        Part::Instance(instance) => Path::new(instance),
        Part::Rest(_) => Path::new(""),
    };
    FileStat::of_open(tree.open_folder(path)?)
}

/// Also watches the top-level folders that belong to no instance, whose files are refused.
fn watch_unknown_folders(tree: &DirTree, listing: &Listing, events: &FolderWatcher) {
    let tops = listing.files.keys().filter(|path| path.iter().count() > 1).filter_map(|path| path.iter().next());
    for top in tops.collect::<BTreeSet<_>>() {
        if let Err(error) = events.watch_also(&tree.root().join(top)) {
            tracing::debug!(folder = %top.display(), %error, "folder not watched");
        }
    }
}

/// Writes the reason for which a folder's `job.toml` is not valid, or removes the file with the reason.
pub(super) fn write_readme(tree: &DirTree, folder: &Path, reason: Option<&str>) -> io::Result<()> {
    let folder = tree.open_folder(folder)?;
    match reason {
        Some(reason) => write_text(folder, OsStr::new(OPTIONS_REASON), reason),
        None => Ok(unlinkat(folder, OPTIONS_REASON, AtFlags::empty())?),
    }
}

/// Which files of an earlier process a cleanup removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cleanup {
    /// Temporary files too: at the first scan of the part none is in use.
    All,
    /// Only ingested files that were set aside.
    PendingRemovals,
}

/// Cleans up after a stop or crash of the daemon. Ingested files that were set aside are removed or get their names
/// back. Returns those for which neither was possible, and why. Must not be called while a file of the part is being
/// ingested.
pub(super) fn remove_stale_files(tree: &DirTree, listing: &Listing, cleanup: Cleanup) -> Vec<(PathBuf, io::Error)> {
    let in_folder = |path: &Path| tree.open_folder(parent(path));
    for path in listing.temp_files.iter().filter(|_| cleanup == Cleanup::All) {
        let _ = in_folder(path)
            .and_then(|folder| Ok(unlinkat(folder, path.file_name().unwrap_or_default(), AtFlags::empty())?));
    }
    let finish = |path: &PathBuf| {
        let aside = path.file_name().and_then(PendingRemoval::read)?;
        let done = in_folder(path).and_then(|folder| removal::finish(&folder, &aside, None));
        done.err().map(|error| (path.clone(), error))
    };
    listing.set_aside.iter().filter_map(finish).collect()
}

/// Removes temporary copies that a stop of the daemon left among the rejected files.
pub(super) fn remove_stale_rejected(tree: &DirTree) -> io::Result<()> {
    let rejected = tree.open_folder(Path::new(REJECTED))?;
    for entry in rustix::fs::Dir::read_from(&rejected)? {
        let entry = entry?;
        let name = OsStr::new(entry.file_name().to_str().unwrap_or_default());
        if TempFile::is_name(name) {
            unlinkat(&rejected, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Returns whether something that is no folder is where a folder is needed.
pub(super) fn is_in_the_way(error: &io::Error) -> bool {
    // LOOP: a symbolic link.
    error.kind() == io::ErrorKind::NotADirectory || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}
