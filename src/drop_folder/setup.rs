//! Preparation and looks: what has to be there before files can come, and what is there now. All of it waits for the disk
//! or the share, so it is done on threads where waiting does no harm.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use notify::RecursiveMode;
use rustix::fs::{AtFlags, unlinkat};

use crate::drop_folder::dir_walk::{DirTree, Listing, Part};
use crate::drop_folder::file_stat::FileStat;
use crate::drop_folder::names::{OPTIONS_REASON, README, REJECTED, SetAside};
use crate::drop_folder::removal;
use crate::drop_folder::temp_file::{TempFile, write_text};
use crate::drop_folder::watcher::{FolderWatcher, PendingFsEvents};

const EXPLANATION: &str = include_str!("README.txt");

/// What a look gives: everything that is there, what was heard since the last look, and the part's own folder.
pub(super) type ListingResult = (Listing, PendingFsEvents, FileStat);

/// Looks at a part. If its folder is not the one that was `known` (a share may have been mounted over it), it is made ready
/// first.
pub(super) fn list(
    tree: &DirTree,
    part: &Part,
    events: &FolderWatcher,
    known: Option<FileStat>,
) -> io::Result<ListingResult> {
    let folder = folder_of(tree, part).ok();
    let folder = match (folder, known) {
        (Some(folder), Some(known)) if folder.is_same_inode(&known) => folder,
        _ => prepare(tree, part, events)?,
    };
    // Heard before looking: what happens in between is heard the next time.
    let heard = events.take_pending();
    let look = tree.walk(part)?;
    if let Part::Rest(_) = part {
        watch_unknown_folders(tree, &look, events);
    }
    Ok((look, heard, folder))
}

/// Makes the folders that are missing, and listens to them. Gives the part's own folder.
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
                // Whoever has written into it keeps it.
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
        // The instances' folders are listened to by themselves.
        Part::Rest(_) => (tree.root().to_owned(), RecursiveMode::NonRecursive),
    };
    // Without events takes are slower, and that is all.
    if let Err(error) = events.watch(tree.root(), &path, mode) {
        tracing::warn!(folder = %path.display(), %error,
            "the drop folder can't be watched: it is only looked at from time to time");
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

/// Listens to the folders at the top that are no instance's, too: their files are refused.
fn watch_unknown_folders(tree: &DirTree, look: &Listing, events: &FolderWatcher) {
    let tops = look.files.keys().filter(|path| path.iter().count() > 1).filter_map(|path| path.iter().next());
    for top in tops.collect::<BTreeSet<_>>() {
        if let Err(error) = events.watch_also(&tree.root().join(top)) {
            tracing::debug!(folder = %top.display(), %error, "the folder can't be watched");
        }
    }
}

/// Writes down why a folder's `job.toml` is wrong, or takes away what was written.
pub(super) fn write_readme(tree: &DirTree, folder: &Path, reason: Option<&str>) -> io::Result<()> {
    let folder = tree.open_folder(folder)?;
    match reason {
        Some(reason) => write_text(folder, OsStr::new(OPTIONS_REASON), reason),
        None => Ok(unlinkat(folder, OPTIONS_REASON, AtFlags::empty())?),
    }
}

/// Ends what a stop of the daemon left undone: half-written texts are removed, if this is the `first` look at the part, and
/// taken files that were set aside are removed or get their names back. Gives those of which neither was possible, and why.
/// Not to be called while a file of the part is being taken.
pub(super) fn remove_stale_files(tree: &DirTree, look: &Listing, first: bool) -> Vec<(PathBuf, io::Error)> {
    let in_folder = |path: &Path| tree.open_folder(path.parent().unwrap_or(Path::new("")));
    // Later ones may be in use.
    for path in look.drafts.iter().filter(|_| first) {
        let _ = in_folder(path)
            .and_then(|folder| Ok(unlinkat(folder, path.file_name().unwrap_or_default(), AtFlags::empty())?));
    }
    let finish = |path: &PathBuf| {
        let aside = path.file_name().and_then(SetAside::read)?;
        let done = in_folder(path).and_then(|folder| removal::finish(&folder, &aside, None));
        done.err().map(|error| (path.clone(), error))
    };
    look.set_aside.iter().filter_map(finish).collect()
}

/// Removes copies that a stop of the daemon left among the rejected files.
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
