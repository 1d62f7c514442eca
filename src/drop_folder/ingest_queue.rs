//! Ingest queue: which files of a listing are complete, and what is to be done with each.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::task;

use crate::domain::Format;
use crate::drop_folder::dir_walk::{Listing, parent};
use crate::drop_folder::folder_scan::RESCAN;
use crate::drop_folder::folder_task::FolderTask;
use crate::drop_folder::ingest::{IngestRequest, IngestTask};
use crate::drop_folder::names::{EntryKind, OPTIONS};
use crate::drop_folder::open_writers;
use crate::drop_folder::path_target::{FolderOptions, FolderTarget, parse_folder};
use crate::drop_folder::readiness::Visibility;

/// The complete files of a scan.
pub(super) struct CompleteFiles {
    pub(super) paths: BTreeSet<PathBuf>,
    /// When the next one becomes complete if nothing changes.
    pub(super) next: Instant,
}

impl FolderTask {
    /// Returns which of these files are complete.
    pub(super) async fn complete(&self, listing: &Listing, paths: Vec<PathBuf>, now: Instant) -> CompleteFiles {
        let mut next = now + RESCAN;
        let mut visibility = Visibility { is_full: true, settle: self.settle };
        let mut at_most = |path: &PathBuf, visibility: Visibility| {
            let at = self.tracker.ready_at(path, visibility)?;
            let at = self.later.get(path).map_or(at, |later| at.max(*later));
            if at > now {
                next = next.min(at);
            }
            Some(at)
        };
        // First with full visibility assumed: no file is complete before that time, and mostly this spares the scan of
        // /proc.
        let files = paths.into_iter().filter_map(|path| Some((listing.files.get(&path).copied()?, path)));
        let due: Vec<_> = files.filter(|(_, path)| at_most(path, visibility).is_some_and(|at| at <= now)).collect();
        if due.is_empty() {
            return CompleteFiles { paths: BTreeSet::new(), next };
        }
        let wanted = due.iter().map(|(stat, path)| (*stat, path.file_name().unwrap_or_default().to_owned()));
        let wanted = wanted.collect();
        let writers = task::spawn_blocking(move || open_writers::scan(wanted)).await.unwrap_or_default();
        let complete = due.into_iter().filter(|(stat, path)| {
            let is_shared = path.parent().is_some_and(|folder| listing.shared.contains(folder));
            visibility.is_full = writers.all_seen && !is_shared;
            at_most(path, visibility).is_some_and(|at| at <= now) && !writers.has(stat)
        });
        let paths = complete.map(|(_, path)| path).collect();
        CompleteFiles { paths, next }
    }

    /// Queues the complete files. Returns the time of the next scan.
    pub(super) async fn queue(
        &mut self,
        listing: &Listing,
        options: &HashMap<PathBuf, Option<FolderOptions>>,
        now: Instant,
    ) -> Instant {
        self.queue.clear();
        let is_busy = |path: &PathBuf| self.busy.as_ref().is_some_and(|task| task.path == *path);
        let files = listing.files.keys().filter(|path| EntryKind::of(path) == EntryKind::Known && !is_busy(path));
        let CompleteFiles { paths, next } = self.complete(listing, files.cloned().collect(), now).await;
        let mut complete: Vec<_> =
            paths.into_iter().filter_map(|path| Some((*listing.files.get(&path)?, path))).collect();
        // In the order in which they were written.
        complete.sort_by_key(|(stat, _)| stat.modified);
        for (stat, path) in complete {
            if let Some(order) = self.order(&path, listing, options) {
                self.queue.push_back(IngestTask { path, stat, order });
            }
        }
        next
    }

    /// Returns what is to be done with a complete file; `None` if it has to wait for its options.
    fn order(
        &self,
        path: &Path,
        listing: &Listing,
        options: &HashMap<PathBuf, Option<FolderOptions>>,
    ) -> Option<IngestRequest> {
        if self.unremoved.contains_key(path) {
            return Some(IngestRequest::Remove);
        }
        let folder = parent(path);
        let named = |folder_target: FolderTarget| -> Result<_, String> {
            let name = path.file_name().and_then(OsStr::to_str).ok_or("the file's name is not UTF-8")?;
            Ok((folder_target, name, Format::from_filename(name).ok_or("the file's name has no known ending")?))
        };
        let (folder_target, name, format) = match parse_folder(folder, &self.instances).and_then(named) {
            Ok(all) => all,
            Err(reason) => return Some(IngestRequest::Refuse(reason)),
        };
        let none = Some(FolderOptions::default());
        let options = options.get(folder).unwrap_or(&none).as_ref()?;
        let written_down = listing.files.get(&folder.join(OPTIONS)).copied();
        let job = Box::new(options.job(&folder_target, path, name, format));
        Some(IngestRequest::Take { job, checks: options.checks(), options: written_down })
    }
}
