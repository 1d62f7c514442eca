//! Folder scan: lists one part of the drop folder, observes its files, and reports those that are ignored.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::task;

use crate::drop_folder::dir_walk::Listing;
use crate::drop_folder::folder_task::FolderTask;
use crate::drop_folder::names::{OPTIONS, ignored_reason};
use crate::drop_folder::setup;
use crate::drop_folder::setup::{Cleanup, ScanResult};

/// The interval of scans without an event: network shares give none.
pub(super) const RESCAN: Duration = Duration::from_secs(10);

impl FolderTask {
    pub(super) fn failed(&mut self, error: &io::Error) {
        let what = if setup::is_in_the_way(error) {
            "something that is no folder is in a folder's way".to_owned()
        } else {
            format!("it cannot be read: {error}")
        };
        self.report.scan_finished(&self.name, Some(what.clone()));
        self.log_once(PathBuf::from(&self.name), format!("drop folder not usable; its files wait: {what}"));
    }

    /// Scans the part and queues complete files. Returns the time of the next scan unless an event comes before.
    pub(super) async fn scan(&mut self) -> Instant {
        let listed = self.list().await;
        let now = Instant::now();
        let ScanResult { listing, events, folder } = match listed {
            Ok(listed) => listed,
            Err(error) => {
                self.folder = None;
                self.queue.clear();
                self.failed(&error);
                return now + RESCAN;
            }
        };
        self.report.scan_finished(&self.name, None);
        if events.lost || self.folder.is_none_or(|known| !known.is_same_inode(&folder)) {
            self.tracker.forget_signals();
        }
        self.folder = Some(folder);
        self.tracker.observe(&listing.files, &events.signals, now);
        self.ignored_tracker.observe(&listing.ignored, &events.signals, now);
        self.forget_removed_files(&listing);
        let next_report = self.report_ignored(&listing, now);
        let options = self.options(&listing, now).await;
        self.queue(&listing, &options, now).await.min(next_report)
    }

    async fn list(&mut self) -> io::Result<ScanResult> {
        if let Some(preparation) = self.preparation.take() {
            self.is_prepared(preparation.await)?;
        }
        let (tree, part, events, known) =
            (self.context.tree.clone(), self.part.clone(), self.events.clone(), self.folder);
        let cleanup = if self.is_tidied { Cleanup::PendingRemovals } else { Cleanup::All };
        let is_idle = self.busy.is_none();
        let listed = task::spawn_blocking(move || {
            let listed = setup::list(&tree, &part, &events, known)?;
            // An ingestion under way sets files aside itself.
            let left = if is_idle { setup::remove_stale_files(&tree, &listed.listing, cleanup) } else { Vec::new() };
            Ok((listed, left))
        });
        let (listed, left) = listed.await.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        self.is_tidied = true;
        for (path, error) in left {
            self.log_once(path, format!("ingested file neither removed nor restored yet: {error}"));
        }
        Ok(listed)
    }

    fn forget_removed_files(&mut self, listing: &Listing) {
        let options: BTreeSet<PathBuf> = listing.options.keys().map(|folder| folder.join(OPTIONS)).collect();
        let is_there = |path: &Path| {
            listing.files.contains_key(path)
                || listing.skipped.contains_key(path)
                || options.contains(path)
                || listing.set_aside.iter().any(|aside| aside == path)
        };
        self.logged.retain(|path, _| is_there(path));
        self.later.retain(|path, _| is_there(path));
        self.unremoved.retain(|path, stat| listing.files.get(path).is_some_and(|found| found.is_unchanged(stat)));
        for (path, why) in &listing.skipped {
            self.log_once(path.clone(), format!("entry of the drop folder skipped: {why}"));
        }
    }

    /// Reports each ignored file once, when it is unchanged for long enough: before that a program may be about to
    /// rename it. Returns the time at which the next one is due.
    fn report_ignored(&mut self, listing: &Listing, now: Instant) -> Instant {
        let mut next = now + RESCAN;
        self.report.retain_ignored(&self.name, |path| listing.ignored.contains_key(path));
        for path in listing.ignored.keys() {
            let Some(at) = self.ignored_tracker.unchanged_since(path).map(|since| since + self.settle) else {
                continue;
            };
            let why = ignored_reason(path);
            if at > now {
                next = next.min(at);
            } else if self.report.record_ignored(&self.name, path, &why) {
                tracing::warn!(file = %path.display(), "file ignored: {why}");
            }
        }
        next
    }
}
