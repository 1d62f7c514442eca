//! Folder task: scans one part of the drop folder after each event and every few seconds, and ingests complete files
//! one at a time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{self, JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::drop_folder::dir_walk::Part;
use crate::drop_folder::file_stat::FileStat;
use crate::drop_folder::ingest::{IngestContext, IngestOutcome, IngestTask};
use crate::drop_folder::readiness::FileTracker;
use crate::drop_folder::report::{DropReport, STUCK_AFTER};
use crate::drop_folder::setup;
use crate::drop_folder::watcher::FolderWatcher;

/// The delay after a transient error, such as a full disk.
const RETRY: Duration = Duration::from_secs(10);
/// The least time between two scans, so that many files that arrive together need one scan.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// What all folder tasks share.
#[derive(Clone)]
pub(super) struct FolderTaskContext {
    pub(super) ingest: Arc<IngestContext>,
    /// The names of the configured instances.
    pub(super) instances: Arc<BTreeSet<String>>,
    /// `drop.settle`.
    pub(super) settle: Duration,
    pub(super) report: DropReport,
}

/// The state of one part and of the ingestion under way there.
pub(super) struct FolderTask {
    pub(super) part: Part,
    /// The part's top-level folder, or `.`.
    pub(super) name: String,
    pub(super) context: Arc<IngestContext>,
    pub(super) instances: Arc<BTreeSet<String>>,
    pub(super) settle: Duration,
    pub(super) report: DropReport,
    pub(super) events: FolderWatcher,
    /// A preparation that took longer than the start waits for it.
    pub(super) preparation: Option<JoinHandle<io::Result<FileStat>>>,
    /// The part's own folder, as it was when it was watched. It differs if something was mounted over it since.
    pub(super) folder: Option<FileStat>,
    pub(super) tracker: FileTracker,
    /// The same for ignored files, so that none is reported while its writer is about to rename it.
    pub(super) ignored_tracker: FileTracker,
    /// The cleanup after the last stop was done.
    pub(super) is_tidied: bool,
    /// Complete files that wait for the ingestion under way.
    pub(super) queue: VecDeque<IngestTask>,
    pub(super) busy: Option<Arc<IngestTask>>,
    /// The earliest time of the next attempt, by file.
    pub(super) later: HashMap<PathBuf, Instant>,
    /// Files that are stored as jobs but could not be removed.
    pub(super) unremoved: HashMap<PathBuf, FileStat>,
    /// Each `job.toml` that was complete when it was read.
    pub(super) known_options: HashMap<PathBuf, FileStat>,
    /// The last warning logged for each file, so that it is not repeated at every scan.
    pub(super) logged: HashMap<PathBuf, String>,
}

impl FolderTask {
    pub(super) fn new(part: Part, shared: FolderTaskContext) -> FolderTask {
        let FolderTaskContext { ingest, instances, settle, report } = shared;
        let name = match &part {
            Part::Instance(name) => name.clone(),
            Part::Rest(_) => ".".to_owned(),
        };
        FolderTask {
            part,
            name,
            context: ingest,
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
    /// An error that needs a change of the configuration. A file in the way of a folder is logged instead, and each
    /// scan tries again.
    pub(super) fn is_prepared(&mut self, prepared: Result<io::Result<FileStat>, JoinError>) -> io::Result<()> {
        match prepared.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(folder) => self.folder = Some(folder),
            Err(error) if setup::is_in_the_way(&error) => self.failed(&error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Leaves the preparation to the first scan, so that the daemon's start does not wait for it.
    pub(super) fn is_late(&mut self, preparation: JoinHandle<io::Result<FileStat>>) {
        tracing::error!(part = self.name, "drop folder not ready in time; its files wait");
        self.preparation = Some(preparation);
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
            let pause = begun.elapsed().saturating_mul(4).max(DEBOUNCE);
            loop {
                self.start(&mut running);
                tokio::select! {
                    () = stop.cancelled() => return,
                    Some(done) = running.join_next() => self.done(done),
                    () = events.changed() => {
                        let _ = tokio::time::timeout(pause, stop.cancelled()).await;
                        break;
                    }
                    () = tokio::time::sleep_until(next_scan.into()) => break,
                }
            }
        }
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

    pub(super) fn log_once(&mut self, path: PathBuf, what: String) {
        if self.logged.get(&path) != Some(&what) {
            tracing::warn!(file = %path.display(), "{what}");
            self.logged.insert(path, what);
        }
    }
}
