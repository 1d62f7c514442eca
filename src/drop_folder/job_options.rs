//! Job options of the folders of a part: reads each complete `job.toml` and writes a file beside it if it is not valid.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::task;

use crate::drop_folder::dir_walk::{DirTree, Listing, Part};
use crate::drop_folder::folder_task::FolderTask;
use crate::drop_folder::names::{OPTIONS, OPTIONS_REASON};
use crate::drop_folder::path_target::{FolderOptions, parse_folder};
use crate::drop_folder::setup;
use crate::untrusted_text::escape_lines;

impl FolderTask {
    /// Returns the options of each folder with a `job.toml`; `None` while it is being written or not valid. What is
    /// wrong is written to a file beside it.
    pub(super) async fn options(&mut self, listing: &Listing, now: Instant) -> HashMap<PathBuf, Option<FolderOptions>> {
        let mut all = HashMap::new();
        let mut invalid = BTreeSet::new();
        let mut reasons = listing.reasons.keys().map(|folder| (folder.clone(), None)).collect::<BTreeMap<_, _>>();
        let is_known = |path: &PathBuf| {
            let (known, found) = (self.known_options.get(path), listing.files.get(path));
            known.zip(found).is_some_and(|(known, found)| known.is_unchanged(found))
        };
        let new = listing.options.keys().map(|folder| folder.join(OPTIONS)).filter(|path| !is_known(path));
        let complete = self.complete(listing, new.collect(), now).await.paths;
        self.known_options.retain(|path, known| listing.files.get(path).is_some_and(|found| known.is_unchanged(found)));
        self.known_options
            .extend(complete.into_iter().filter_map(|path| Some((path.clone(), *listing.files.get(&path)?))));
        let today = self.context.clock.now();
        for (folder, text) in &listing.options {
            let path = folder.join(OPTIONS);
            if listing.files.contains_key(&path) && !self.known_options.contains_key(&path) {
                all.insert(folder.clone(), None);
                // The reason from before may still hold.
                if reasons.remove(folder).is_some() {
                    invalid.insert(folder.clone());
                }
                continue;
            }
            let read = parse_folder(folder, &self.instances)
                .map_err(|_| "it has no effect here, because no files are imported from this folder".to_owned())
                .and_then(|target| FolderOptions::read(text.as_ref().map_err(String::clone)?, &target, today));
            if let Err(reason) = &read {
                let reason = escape_lines(reason);
                let reason = format!("{reason}.\n\nNo file of this folder is imported until {OPTIONS} is corrected.\n");
                reasons.insert(folder.clone(), Some(reason));
                invalid.insert(folder.clone());
            }
            all.insert(folder.clone(), read.ok());
        }
        self.report.set_invalid_options(&self.name, invalid);
        for (folder, reason) in reasons {
            let path = folder.join(OPTIONS);
            match &reason {
                // The reason may quote the file, so it does not go to the log.
                Some(_) => self
                    .log_once(path, format!("{OPTIONS} not valid; the files of its folder wait; see {OPTIONS_REASON}")),
                None => drop(self.logged.remove(&path)),
            }
            if listing.reasons.get(&folder) != reason.as_ref() {
                let tree = self.context.tree.clone();
                let written = task::spawn_blocking(move || setup::write_readme(&tree, &folder, reason.as_deref()));
                if let Ok(Err(error)) = written.await {
                    tracing::debug!(%error, "reason for an invalid {OPTIONS} not written");
                }
            }
        }
        all
    }
}

/// Returns the folders of the drop folder `root` in which the daemon has left the reason for an invalid `job.toml` that
/// is still there, relative to `root`.
///
/// # Errors
/// An error of the file system.
pub fn folders_with_invalid_options(root: &Path) -> io::Result<Vec<PathBuf>> {
    let listing = DirTree::new(root.to_owned()).walk(&Part::Rest(BTreeSet::new()))?;
    Ok(listing.reasons.into_keys().filter(|folder| listing.options.contains_key(folder)).collect())
}
