//! Watcher: collects file system events (inotify) of the drop folder.
//!
//! Events start a scan promptly and show when a writer has closed a file. Where there are none, as on network shares,
//! only the periodic scans find files.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::drop_folder::readiness::FsEvent;

/// Watches the folders of one part. Clones share one state.
#[derive(Clone, Default)]
pub(super) struct FolderWatcher {
    shared: Arc<WatcherShared>,
    watcher: Arc<Mutex<Option<RecommendedWatcher>>>,
}

#[derive(Default)]
struct WatcherShared {
    pending: Mutex<PendingFsEvents>,
    unclosed: Mutex<OpenedFiles>,
    wake: Notify,
}

/// Files that were opened for writing and not closed yet. A file stays among them when it is renamed within the folder.
/// There is at most one entry a file.
#[derive(Debug, Default)]
struct OpenedFiles {
    files: HashMap<PathBuf, FsEvent>,
    /// The state of a file that is being renamed, and the cookie that connects both events of a rename.
    renamed: Option<(usize, Option<FsEvent>)>,
}

/// The events since the last call of [`FolderWatcher::take_pending`]: the last one of each file, so that the memory is
/// bounded by the number of files.
#[derive(Debug, Default)]
pub(super) struct PendingFsEvents {
    /// By the path below the watched folder.
    pub(super) signals: HashMap<PathBuf, FsEvent>,
    /// Some events were dropped.
    pub(super) lost: bool,
}

impl FolderWatcher {
    /// Watches `folder` and stops watching everything else. Paths are reported relative to `root`.
    ///
    /// # Errors
    /// An error of the kernel, such as too many watches.
    pub(super) fn watch(&self, root: &Path, folder: &Path, mode: RecursiveMode) -> Result<(), notify::Error> {
        let mut slot = self.slot();
        *slot = None;
        let (pending, below) = (self.shared.clone(), root.to_owned());
        let handler = move |event| pending.handle(event, &below);
        let mut watcher = RecommendedWatcher::new(handler, Config::default().with_follow_symlinks(false))?;
        watcher.watch(folder, mode)?;
        *slot = Some(watcher);
        Ok(())
    }

    /// Also watches `folder` and everything below it.
    ///
    /// # Errors
    /// As of [`FolderWatcher::watch`].
    pub(super) fn watch_also(&self, folder: &Path) -> Result<(), notify::Error> {
        self.slot().as_mut().map_or(Ok(()), |watcher| watcher.watch(folder, RecursiveMode::Recursive))
    }

    fn slot(&self) -> MutexGuard<'_, Option<RecommendedWatcher>> {
        self.watcher.lock()
    }

    pub(super) fn take_pending(&self) -> PendingFsEvents {
        std::mem::take(&mut self.shared.locked())
    }

    /// Returns when an event calls for a scan.
    pub(super) async fn changed(&self) {
        self.shared.wake.notified().await;
    }
}

impl WatcherShared {
    fn handle(&self, event: notify::Result<Event>, root: &Path) {
        let event = event.inspect_err(|error| tracing::warn!(%error, "events of the drop folder lost"));
        let Some(event) = event.ok().filter(|event| !event.need_rescan()) else {
            self.locked().lost = true;
            *self.unclosed() = OpenedFiles::default();
            return self.wake.notify_one();
        };
        let is_new_folder = matches!(event.kind, EventKind::Create(kind) if kind != CreateKind::File);
        let mut is_reason_to_look = is_new_folder;
        let tracker = event.tracker();
        for path in event.paths {
            let Ok(path) = path.strip_prefix(root) else { continue };
            let Some(signal) = self.unclosed().record(event.kind, path, tracker) else { continue };
            // Each write to a large file gives one of these; the close that follows starts the scan. Names that begin
            // with a dot are not ingested, and some are temporary files of the daemon.
            is_reason_to_look |= signal != FsEvent::Written && !is_hidden(path);
            self.locked().signals.insert(path.to_owned(), signal);
        }
        if is_reason_to_look {
            self.wake.notify_one();
        }
    }

    fn unclosed(&self) -> MutexGuard<'_, OpenedFiles> {
        self.unclosed.lock()
    }

    fn locked(&self) -> MutexGuard<'_, PendingFsEvents> {
        self.pending.lock()
    }
}

impl OpenedFiles {
    /// Records an event of a file. Returns what the event means for the file's completeness.
    fn record(&mut self, kind: EventKind, path: &Path, tracker: Option<usize>) -> Option<FsEvent> {
        match kind {
            EventKind::Create(CreateKind::File) => self.begun(path, FsEvent::Appeared),
            EventKind::Modify(ModifyKind::Data(_)) => self.begun(path, FsEvent::Written),
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                self.files.remove(path);
                Some(FsEvent::Closed)
            }
            EventKind::Remove(_) => {
                self.forget(path);
                None
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                let known = self.forget(path);
                // Without a cookie it is the watched folder itself.
                self.renamed = tracker.map(|tracker| (tracker, known));
                None
            }
            // A folder that was moved in gives this event too. No file has its path, so the entry has no effect.
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                self.forget(path);
                match self.renamed.take().filter(|(number, _)| Some(*number) == tracker) {
                    Some((_, Some(known))) => self.begun(path, known),
                    _ => Some(FsEvent::RenamedIn),
                }
            }
            _ => None,
        }
    }

    fn begun(&mut self, path: &Path, signal: FsEvent) -> Option<FsEvent> {
        self.files.insert(path.to_owned(), signal);
        Some(signal)
    }

    /// Discards the state of a file, or of all files of a folder.
    fn forget(&mut self, path: &Path) -> Option<FsEvent> {
        let known = self.files.remove(path);
        self.files.retain(|other, _| !other.starts_with(path));
        known
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"."))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    /// Waits for events until `path` has the signal.
    async fn expect_event(events: &FolderWatcher, path: &str, signal: FsEvent) {
        let mut all = HashMap::new();
        let pending = async {
            while all.get(Path::new(path)) != Some(&signal) {
                // Not every event starts a scan.
                let _ = tokio::time::timeout(std::time::Duration::from_millis(20), events.changed()).await;
                all.extend(events.take_pending().signals);
            }
        };
        let pending = tokio::time::timeout(std::time::Duration::from_secs(60), pending).await;
        assert!(pending.is_ok(), "{path} was never {signal:?}: {all:?}");
    }

    #[tokio::test]
    async fn events_name_the_path_also_in_new_folders() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().join("drop");
        fs::create_dir(&root).unwrap();
        let events = FolderWatcher::default();
        events.watch(&root, &root, RecursiveMode::Recursive).unwrap();
        let mut file = fs::File::create(root.join("a.csv")).unwrap();
        expect_event(&events, "a.csv", FsEvent::Appeared).await;
        file.write_all(b"email\n").unwrap();
        drop(file);
        expect_event(&events, "a.csv", FsEvent::Closed).await;
        fs::write(folder.path().join("b.csv"), "email\n").unwrap();
        fs::rename(folder.path().join("b.csv"), root.join("b.csv")).unwrap();
        expect_event(&events, "b.csv", FsEvent::RenamedIn).await;
    }

    #[tokio::test]
    async fn a_renamed_file_still_counts_as_not_closed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let events = FolderWatcher::default();
        events.watch(&root, &root, RecursiveMode::Recursive).unwrap();
        let mut file = fs::File::create(root.join("a.csv.part")).unwrap();
        file.write_all(b"email\n").unwrap();
        fs::rename(root.join("a.csv.part"), root.join("b.part")).unwrap();
        fs::rename(root.join("b.part"), root.join("a.csv")).unwrap();
        expect_event(&events, "a.csv", FsEvent::Written).await;
        drop(file);
        expect_event(&events, "a.csv", FsEvent::Closed).await;
        // It was closed before it was renamed, so no writer is left.
        fs::write(root.join("c.part"), "email\n").unwrap();
        fs::rename(root.join("c.part"), root.join("c.csv")).unwrap();
        expect_event(&events, "c.csv", FsEvent::RenamedIn).await;
        assert!(events.shared.unclosed().files.is_empty());
    }

    #[test]
    fn lost_events_are_detected() {
        let shared = WatcherShared::default();
        let overflow = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        shared.handle(Ok(overflow), Path::new("/drop"));
        assert!(shared.locked().lost);
    }
}
