//! Folder task: scans one part of the drop folder after each event and every few seconds, and ingests complete files one
//! at a time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{self, JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::domain::Format;
use crate::drop_folder::dir_walk::{Listing, Part};
use crate::drop_folder::file_stat::FileStat;
use crate::drop_folder::ingest::{IngestContext, IngestOutcome, IngestRequest, IngestTask};
use crate::drop_folder::names::{EntryKind, OPTIONS, ignored_reason};
use crate::drop_folder::open_writers;
use crate::drop_folder::path_target::{FolderOptions, FolderTarget, parse_folder};
use crate::drop_folder::readiness::{FileTracker, Visibility};
use crate::drop_folder::report::{DropReport, STUCK_AFTER};
use crate::drop_folder::setup;
use crate::drop_folder::setup::ListingResult;
use crate::drop_folder::watcher::FolderWatcher;

mod options;

/// The interval of scans without an event: network shares give none.
const RESCAN: Duration = Duration::from_secs(10);
/// The delay after a transient error, such as a full disk.
const RETRY: Duration = Duration::from_secs(10);
/// The least time between two scans, so that many files that arrive together need one scan.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// The state of one part and of the ingestion under way there.
pub(super) struct FolderTask {
    part: Part,
    /// The part's top-level folder, or `.`.
    name: String,
    context: Arc<IngestContext>,
    instances: Arc<BTreeSet<String>>,
    settle: Duration,
    report: DropReport,
    events: FolderWatcher,
    /// A preparation that took longer than the start waits for it.
    preparation: Option<JoinHandle<io::Result<FileStat>>>,
    /// The part's own folder, as it was when it was watched. It differs if something was mounted over it since.
    folder: Option<FileStat>,
    tracker: FileTracker,
    /// The same for ignored files, so that none is reported while its writer is about to rename it.
    ignored_tracker: FileTracker,
    /// The cleanup after the last stop was done.
    is_tidied: bool,
    /// Complete files that wait for the ingestion under way.
    queue: VecDeque<IngestTask>,
    busy: Option<Arc<IngestTask>>,
    /// The earliest time of the next attempt, by file.
    later: HashMap<PathBuf, Instant>,
    /// Files that are stored as jobs but could not be removed.
    unremoved: HashMap<PathBuf, FileStat>,
    /// Each `job.toml` that was complete when it was read.
    known_options: HashMap<PathBuf, FileStat>,
    /// The last warning logged for each file, so that it is not repeated at every scan.
    logged: HashMap<PathBuf, String>,
}

impl FolderTask {
    pub(super) fn new(
        part: Part,
        context: Arc<IngestContext>,
        instances: Arc<BTreeSet<String>>,
        settle: Duration,
        report: DropReport,
    ) -> FolderTask {
        let name = match &part {
            Part::Instance(name) => name.clone(),
            Part::Rest(_) => ".".to_owned(),
        };
        FolderTask {
            part,
            name,
            context,
            instances,
            settle,
            report,
            events: FolderWatcher::default(),
            preparation: None,
            folder: None,
            tracker: FileTracker::default(),
            ignored_tracker: FileTracker::default(),
            is_tidied: false,
            queue: VecDeque::new(),
            busy: None,
            later: HashMap::new(),
            unremoved: HashMap::new(),
            known_options: HashMap::new(),
            logged: HashMap::new(),
        }
    }

    /// Creates the part's folders and watches them, on a blocking thread.
    pub(super) fn prepare(&self) -> JoinHandle<io::Result<FileStat>> {
        let (tree, part, events) = (self.context.tree.clone(), self.part.clone(), self.events.clone());
        task::spawn_blocking(move || setup::prepare(&tree, &part, &events))
    }

    /// Records the result of the preparation.
    ///
    /// # Errors
    /// An error that needs a change of the configuration. A file in the way of a folder is logged instead, and each scan
    /// tries again.
    pub(super) fn is_prepared(&mut self, prepared: Result<io::Result<FileStat>, JoinError>) -> io::Result<()> {
        match prepared.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(folder) => self.folder = Some(folder),
            Err(error) if is_in_the_way(&error) => self.failed(&error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Leaves the preparation to the first scan, so that the daemon's start does not wait for it.
    pub(super) fn is_late(&mut self, preparation: JoinHandle<io::Result<FileStat>>) {
        tracing::error!(part = self.name, "drop folder not ready in time; its files wait");
        self.preparation = Some(preparation);
    }

    fn failed(&mut self, error: &io::Error) {
        let what = if is_in_the_way(error) {
            "something that is no folder is in a folder's way".to_owned()
        } else {
            format!("it cannot be read: {error}")
        };
        self.report.scan_finished(&self.name, Some(what.clone()));
        self.log_once(PathBuf::from(&self.name), format!("drop folder not usable; its files wait: {what}"));
    }

    /// Ingests files until `stop` is cancelled.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut running = JoinSet::new();
        let (events, report, name) = (self.events.clone(), self.report.clone(), self.name.clone());
        loop {
            let begun = Instant::now();
            let next_scan = tokio::select! {
                () = stop.cancelled() => return,
                next_scan = report.watch_scan(&name, STUCK_AFTER, self.scan()) => next_scan,
            };
            let breath = begun.elapsed().saturating_mul(4).max(DEBOUNCE);
            loop {
                self.start(&mut running);
                tokio::select! {
                    () = stop.cancelled() => return,
                    Some(done) = running.join_next() => self.done(done),
                    () = events.changed() => {
                        let _ = tokio::time::timeout(breath, stop.cancelled()).await;
                        break;
                    }
                    () = tokio::time::sleep_until(next_scan.into()) => break,
                }
            }
        }
    }

    /// Scans the part and queues complete files. Returns the time of the next scan unless an event comes before.
    async fn scan(&mut self) -> Instant {
        let listed = self.list().await;
        let now = Instant::now();
        let (listing, pending, folder) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                self.folder = None;
                self.queue.clear();
                self.failed(&error);
                return now + RESCAN;
            }
        };
        self.report.scan_finished(&self.name, None);
        if pending.lost || self.folder.is_none_or(|known| !known.is_same_inode(&folder)) {
            self.tracker.forget_signals();
        }
        self.folder = Some(folder);
        self.tracker.observe(&listing.files, &pending.signals, now);
        self.ignored_tracker.observe(&listing.ignored, &pending.signals, now);
        self.forget_removed_files(&listing);
        let next_report = self.report_ignored(&listing, now);
        let options = self.options(&listing, now).await;
        self.queue(&listing, &options, now).await.min(next_report)
    }

    async fn list(&mut self) -> io::Result<ListingResult> {
        if let Some(preparation) = self.preparation.take() {
            self.is_prepared(preparation.await)?;
        }
        let (tree, part, events, known) =
            (self.context.tree.clone(), self.part.clone(), self.events.clone(), self.folder);
        let (is_first, is_idle) = (!self.is_tidied, self.busy.is_none());
        let listed = task::spawn_blocking(move || {
            let listed = setup::list(&tree, &part, &events, known)?;
            // An ingestion under way sets files aside itself.
            let left = if is_idle { setup::remove_stale_files(&tree, &listed.0, is_first) } else { Vec::new() };
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

    /// Reports each ignored file once, when it is unchanged for long enough: before that a program may be about to rename
    /// it. Returns the time at which the next one is due.
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

    /// Returns the complete files of `files`, and the time at which the next one becomes complete if nothing changes.
    async fn complete(&self, listing: &Listing, paths: Vec<PathBuf>, now: Instant) -> (BTreeSet<PathBuf>, Instant) {
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
        // First with full visibility assumed: no file is complete before that time, and mostly this spares the scan of /proc.
        let files = paths.into_iter().filter_map(|path| Some((listing.files.get(&path).copied()?, path)));
        let due: Vec<_> = files.filter(|(_, path)| at_most(path, visibility).is_some_and(|at| at <= now)).collect();
        if due.is_empty() {
            return (BTreeSet::new(), next);
        }
        let wanted = due.iter().map(|(stat, path)| (*stat, path.file_name().unwrap_or_default().to_owned()));
        let wanted = wanted.collect();
        let writers = task::spawn_blocking(move || open_writers::scan(wanted)).await.unwrap_or_default();
        let complete = due.into_iter().filter(|(stat, path)| {
            let is_shared = path.parent().is_some_and(|folder| listing.shared.contains(folder));
            visibility.is_full = writers.all_seen && !is_shared;
            at_most(path, visibility).is_some_and(|at| at <= now) && !writers.has(stat)
        });
        let complete = complete.map(|(_, path)| path).collect();
        (complete, next)
    }

    async fn queue(
        &mut self,
        listing: &Listing,
        options: &HashMap<PathBuf, Option<FolderOptions>>,
        now: Instant,
    ) -> Instant {
        self.queue.clear();
        let is_busy = |path: &PathBuf| self.busy.as_ref().is_some_and(|task| task.path == *path);
        let files = listing.files.keys().filter(|path| EntryKind::of(path) == EntryKind::Known && !is_busy(path));
        let (complete, next_scan) = self.complete(listing, files.cloned().collect(), now).await;
        let mut complete: Vec<_> =
            complete.into_iter().filter_map(|path| Some((*listing.files.get(&path)?, path))).collect();
        // In the order in which they were written.
        complete.sort_by_key(|(stat, _)| stat.modified);
        for (stat, path) in complete {
            if let Some(order) = self.order(&path, listing, options) {
                self.queue.push_back(IngestTask { path, stat, order });
            }
        }
        next_scan
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
        let folder = path.parent().unwrap_or(Path::new(""));
        let named = |place: FolderTarget| -> Result<_, String> {
            let name = path.file_name().and_then(OsStr::to_str).ok_or("the file's name is not UTF-8")?;
            Ok((place, name, Format::from_filename(name).ok_or("the file's name has no known ending")?))
        };
        let (place, name, format) = match parse_folder(folder, &self.instances).and_then(named) {
            Ok(all) => all,
            Err(reason) => return Some(IngestRequest::Refuse(reason)),
        };
        let none = Some(FolderOptions::default());
        let options = options.get(folder).unwrap_or(&none).as_ref()?;
        let written_down = listing.files.get(&folder.join(OPTIONS)).copied();
        let job = Box::new(options.job(&place, path, name, format));
        Some(IngestRequest::Take { job, check: options.check(), options: written_down })
    }

    /// Starts to ingest the next file, if none is under way.
    fn start(&mut self, running: &mut JoinSet<IngestOutcome>) {
        if self.busy.is_none()
            && let Some(task) = self.queue.pop_front()
        {
            let (context, task) = (self.context.clone(), Arc::new(task));
            self.busy = Some(task.clone());
            running.spawn(async move { context.run(&task).await });
        }
    }

    fn done(&mut self, done: Result<IngestOutcome, JoinError>) {
        let Some(task) = self.busy.take() else { return };
        let outcome = done.unwrap_or_else(|error| IngestOutcome::Later(format!("taking it broke down: {error}")));
        let path = task.path.clone();
        match outcome {
            IngestOutcome::Over => drop(self.unremoved.remove(&path)),
            IngestOutcome::Changed => {}
            IngestOutcome::Later(why) => {
                self.later.insert(path.clone(), Instant::now() + RETRY);
                self.log_once(path, format!("file waits: {why}"));
            }
            IngestOutcome::NotRemoved(why) => {
                self.later.insert(path.clone(), Instant::now() + RETRY);
                self.unremoved.insert(path.clone(), task.stat);
                self.log_once(path, format!("ingested file not removed: {why}"));
            }
        }
    }

    fn log_once(&mut self, path: PathBuf, what: String) {
        if self.logged.get(&path) != Some(&what) {
            tracing::warn!(file = %path.display(), "{what}");
            self.logged.insert(path, what);
        }
    }
}

fn is_in_the_way(error: &io::Error) -> bool {
    // LOOP: a symbolic link.
    error.kind() == io::ErrorKind::NotADirectory || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}
