//! What has to be there before files can come, and what is there now? All of it waits for the disk or the share, so it is
//! done where waiting does no harm.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, unlinkat};

use super::events::{Events, Heard};
use super::stamp::Stamp;
use super::tree::{self, Look, OPTIONS_REASON, REJECTED, Tree};

const NAME: &str = "README.txt";
const README: &str = include_str!("README.txt");

/// Everything that is there, and what was heard since the last look. If the folder is not the one that was `known` (a
/// share may have been mounted over it), it is made ready first.
pub(super) fn look(
    tree: &Tree,
    instances: &BTreeSet<String>,
    events: &Events,
    known: Option<Stamp>,
) -> io::Result<(Look, Heard, Stamp)> {
    let root = Stamp::of_open(tree.open_root()?)?;
    if known.is_none_or(|known| !known.is_same_inode(&root)) {
        make_ready(tree, instances)?;
        watch(tree, events);
    }
    // Heard before looking: what happens in between is heard the next time.
    let heard = events.heard();
    Ok((tree.walk()?, heard, root))
}

/// Without events takes are slower, and that is all.
pub(super) fn watch(tree: &Tree, events: &Events) {
    if let Err(error) = events.watch(tree.root()) {
        tracing::warn!(%error, "the drop folder can't be watched: it is only looked at from time to time");
    }
}

/// Makes the folders that are missing, and the README.
pub(super) fn make_ready(tree: &Tree, instances: &BTreeSet<String>) -> io::Result<()> {
    for instance in instances {
        for folder in ["leads", "custom-objects", "program-members"] {
            tree.make_folder(&Path::new(instance).join(folder))?;
        }
    }
    tree.make_folder(Path::new(REJECTED))?;
    let root = tree.open_root()?;
    match Stamp::of(&root, OsStr::new(NAME)) {
        // Whoever has written into it keeps it.
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => tree::write_text(&root, OsStr::new(NAME), README),
        Err(error) => Err(error),
    }
}

/// Writes down why a folder's `job.toml` is wrong, or takes away what was written.
pub(super) fn explain(tree: &Tree, folder: &Path, reason: Option<&str>) -> io::Result<()> {
    let folder = tree.open_folder(folder)?;
    match reason {
        Some(reason) => tree::write_text(folder, OsStr::new(OPTIONS_REASON), reason),
        None => Ok(unlinkat(folder, OPTIONS_REASON, AtFlags::empty())?),
    }
}
