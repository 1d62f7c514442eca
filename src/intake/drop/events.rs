//! What does the kernel tell of the drop folder? It makes takes prompt, and shows when a writer is done; without it, and
//! on network shares, looking at all of it every few seconds has to do.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::whole::Signal;

/// The ears. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Events {
    heard: Arc<Ears>,
    watcher: Arc<Mutex<Option<RecommendedWatcher>>>,
}

#[derive(Default)]
struct Ears {
    heard: Mutex<Heard>,
    wake: Notify,
}

/// What was heard since one last asked: of each file the last, so that it takes no more room than the files.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// By the path below the watched folder.
    pub(super) signals: HashMap<PathBuf, Signal>,
    /// Some events were dropped.
    pub(super) lost: bool,
}

impl Events {
    /// Listens to `root` and all below it from now on, and to nothing else any more.
    ///
    /// # Errors
    /// What the kernel says, such as that there are too many watches.
    pub(super) fn watch(&self, root: &Path) -> Result<(), notify::Error> {
        let mut slot = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = None;
        let (heard, below) = (self.heard.clone(), root.to_owned());
        let hear = move |event| heard.hear(event, &below);
        let mut watcher = RecommendedWatcher::new(hear, Config::default().with_follow_symlinks(false))?;
        watcher.watch(root, RecursiveMode::Recursive)?;
        *slot = Some(watcher);
        Ok(())
    }

    pub(super) fn heard(&self) -> Heard {
        std::mem::take(&mut self.heard.locked())
    }

    /// Returns when there is a reason to look.
    pub(super) async fn woken(&self) {
        self.heard.wake.notified().await;
    }
}

impl Ears {
    fn hear(&self, event: notify::Result<Event>, root: &Path) {
        let Ok(event) = event.inspect_err(|error| tracing::warn!(%error, "the drop folder can't be watched well"))
        else {
            self.locked().lost = true;
            return self.wake.notify_one();
        };
        if event.need_rescan() {
            self.locked().lost = true;
            return self.wake.notify_one();
        }
        let (signal, is_reason_to_look) = match event.kind {
            // Each piece of a large file is one of these. The close that follows is reason enough.
            EventKind::Modify(ModifyKind::Data(_)) => (Signal::Written, false),
            EventKind::Create(CreateKind::File) => (Signal::Appeared, true),
            // A folder that was moved in is one as well; there is no file of its path, so this does no harm.
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => (Signal::RenamedIn, true),
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => (Signal::Closed, true),
            EventKind::Create(_) => return self.wake.notify_one(),
            _ => return,
        };
        let mut heard = self.locked();
        for path in event.paths {
            if let Ok(path) = path.strip_prefix(root) {
                heard.signals.insert(path.to_owned(), signal);
            }
        }
        drop(heard);
        if is_reason_to_look {
            self.wake.notify_one();
        }
    }

    fn locked(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    /// Hears until `path` has the signal.
    async fn hears(events: &Events, path: &str, signal: Signal) {
        let mut all = HashMap::new();
        let heard = async {
            while all.get(Path::new(path)) != Some(&signal) {
                events.woken().await;
                all.extend(events.heard().signals);
            }
        };
        let heard = tokio::time::timeout(std::time::Duration::from_secs(60), heard).await;
        assert!(heard.is_ok(), "{path} was never {signal:?}: {all:?}");
    }

    #[tokio::test]
    async fn what_happens_to_a_file_is_told_by_its_path_in_new_folders_too() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().join("drop");
        fs::create_dir(&root).unwrap();
        let events = Events::default();
        events.watch(&root).unwrap();
        let mut file = fs::File::create(root.join("a.csv")).unwrap();
        hears(&events, "a.csv", Signal::Appeared).await;
        file.write_all(b"email\n").unwrap();
        drop(file);
        hears(&events, "a.csv", Signal::Closed).await;
        fs::write(folder.path().join("b.csv"), "email\n").unwrap();
        fs::rename(folder.path().join("b.csv"), root.join("b.csv")).unwrap();
        hears(&events, "b.csv", Signal::RenamedIn).await;
    }

    #[test]
    fn lost_events_are_known_to_be_lost() {
        let ears = Ears::default();
        let overflow = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        ears.hear(Ok(overflow), Path::new("/drop"));
        assert!(ears.locked().lost);
    }
}
