//! Report on the drop folder for those who ask the daemon: whether its parts can be looked at, and which files lie there
//! that are not for the queue.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A look that takes longer hangs: on a share that does not answer, or on a disk in trouble.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(30);

/// How the drop folder stands. Clones are the same.
#[derive(Clone, Default)]
pub struct DropReport {
    parts: Arc<Mutex<BTreeMap<String, PartReport>>>,
}

#[derive(Debug, Default)]
struct PartReport {
    /// Since when a look is under way.
    looking_since: Option<Instant>,
    /// Why the last look failed.
    fault: Option<String>,
    left_alone: BTreeMap<PathBuf, String>,
}

/// How one part of the drop folder stands: an instance's folder, or what is outside of those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartState {
    /// It is looked at.
    Fine,
    /// The last look failed; it is tried again.
    Failed(String),
    /// A look does not end.
    Stuck(String),
}

impl DropReport {
    /// By the part's folder, `.` being the top.
    pub fn states(&self) -> BTreeMap<String, PartState> {
        let state = |part: &PartReport| match (part.looking_since.map(|since| since.elapsed()), &part.fault) {
            (Some(time), _) if time >= STUCK_AFTER => {
                PartState::Stuck(format!("looking at its folder has not ended for {} s", time.as_secs()))
            }
            (_, Some(fault)) => PartState::Failed(fault.clone()),
            _ => PartState::Fine,
        };
        self.locked().iter().map(|(name, part)| (name.clone(), state(part))).collect()
    }

    /// The files that are left alone because of their names, from the drop folder on, and why each is.
    pub fn ignored_files(&self) -> BTreeMap<PathBuf, String> {
        self.locked().values().flat_map(|part| part.left_alone.clone()).collect()
    }

    pub(super) fn scan_started(&self, part: &str) {
        self.locked().entry(part.to_owned()).or_default().looking_since = Some(Instant::now());
    }

    pub(super) fn scan_ended(&self, part: &str) {
        self.locked().entry(part.to_owned()).or_default().looking_since = None;
    }

    pub(super) fn scan_finished(&self, part: &str, fault: Option<String>) {
        self.locked().entry(part.to_owned()).or_default().fault = fault;
    }

    /// Keeps of the files left alone those that `is_there`.
    pub(super) fn retain_ignored(&self, part: &str, is_there: impl Fn(&Path) -> bool) {
        self.locked().entry(part.to_owned()).or_default().left_alone.retain(|path, _| is_there(path));
    }

    /// Whether the file was not known yet.
    pub(super) fn record_ignored(&self, part: &str, path: &Path, why: &str) -> bool {
        let mut parts = self.locked();
        let left_alone = &mut parts.entry(part.to_owned()).or_default().left_alone;
        left_alone.insert(path.to_owned(), why.to_owned()).is_none()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, PartReport>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Awaits a look at `part`, and says in the log if it takes longer than `patience`, and when it has ended after all.
    pub(super) async fn watch_scan<T>(&self, part: &str, patience: Duration, look: impl Future<Output = T>) -> T {
        self.scan_started(part);
        let mut look = std::pin::pin!(look);
        let looked = match tokio::time::timeout(patience, &mut look).await {
            Ok(looked) => looked,
            Err(_) => {
                tracing::error!(
                    part,
                    seconds = patience.as_secs(),
                    "looking at a folder of the drop folder does not end; its files wait, those of others do not"
                );
                let looked = look.await;
                tracing::info!(part, "looking at a folder of the drop folder has ended after all");
                looked
            }
        };
        self.scan_ended(part);
        looked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_look_that_does_not_end_is_reported_until_it_has() {
        let report = DropReport::default();
        let (end, ended) = tokio::sync::oneshot::channel();
        let watching = report.clone();
        let look = tokio::spawn(async move { watching.watch_scan("eu", Duration::from_millis(1), ended).await });
        while report.states().is_empty() {
            tokio::task::yield_now().await;
        }
        report.scan_started("default");
        report.scan_ended("default");
        // As if it had begun long ago.
        let long_ago = Instant::now().checked_sub(STUCK_AFTER).unwrap();
        report.locked().get_mut("eu").unwrap().looking_since = Some(long_ago);
        let stuck = PartState::Stuck("looking at its folder has not ended for 30 s".to_owned());
        assert_eq!(report.states(), BTreeMap::from([("default".into(), PartState::Fine), ("eu".into(), stuck)]));
        end.send(7).unwrap();
        assert_eq!(look.await.unwrap(), Ok(7));
        assert_eq!(report.states()["eu"], PartState::Fine);
    }

    #[test]
    fn a_file_left_alone_is_new_once_until_it_is_away() {
        let report = DropReport::default();
        let path = Path::new("eu/leads/a.zip");
        assert!(report.record_ignored("eu", path, "unpack it"));
        assert!(!report.record_ignored("eu", path, "unpack it"));
        report.retain_ignored("eu", |_| false);
        assert!(report.ignored_files().is_empty());
        assert!(report.record_ignored("eu", path, "unpack it"));
    }
}
