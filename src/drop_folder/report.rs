//! Drop folder report: whether each part can be scanned, which files are ignored, and which folders have an invalid
//! `job.toml`. Shown in the status; the first two in the metrics too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// A scan that takes longer is reported as stuck: a share does not answer, or a disk fails.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(30);

/// The state of the drop folder. Clones share it.
#[derive(Clone, Default)]
pub struct DropReport {
    parts: Arc<Mutex<BTreeMap<String, PartReport>>>,
}

#[derive(Debug, Default)]
struct PartReport {
    /// When the scan under way began.
    looking_since: Option<Instant>,
    /// The error of the last scan.
    fault: Option<String>,
    ignored: BTreeMap<PathBuf, String>,
    /// The folders whose `job.toml` is not valid.
    invalid_options: BTreeSet<PathBuf>,
}

/// The state of one part of the drop folder: an instance's folder, or everything outside of those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartState {
    /// The last scan succeeded.
    Fine,
    /// The last scan failed; it is tried again.
    Failed(String),
    /// A scan does not end.
    Stuck(String),
}

impl DropReport {
    /// By the part's folder; `.` is the top level.
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

    /// Returns the ignored files, relative to the drop folder, each with the reason.
    pub fn ignored_files(&self) -> BTreeMap<PathBuf, String> {
        self.locked().values().flat_map(|part| part.ignored.clone()).collect()
    }

    /// Returns the folders whose files wait because their `job.toml` is not valid, relative to the drop folder.
    pub fn folders_with_invalid_options(&self) -> BTreeSet<PathBuf> {
        self.locked().values().flat_map(|part| part.invalid_options.clone()).collect()
    }

    pub(super) fn set_invalid_options(&self, part: &str, folders: BTreeSet<PathBuf>) {
        self.locked().entry(part.to_owned()).or_default().invalid_options = folders;
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

    /// Removes ignored files for which `is_there` returns false.
    pub(super) fn retain_ignored(&self, part: &str, is_there: impl Fn(&Path) -> bool) {
        self.locked().entry(part.to_owned()).or_default().ignored.retain(|path, _| is_there(path));
    }

    /// Returns whether the file was not known yet.
    pub(super) fn record_ignored(&self, part: &str, path: &Path, why: &str) -> bool {
        let mut parts = self.locked();
        let ignored = &mut parts.entry(part.to_owned()).or_default().ignored;
        ignored.insert(path.to_owned(), why.to_owned()).is_none()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, PartReport>> {
        self.parts.lock()
    }

    /// Awaits a scan of `part`. Logs if it takes longer than `patience`, and when it ends after that.
    pub(super) async fn watch_scan<T>(&self, part: &str, patience: Duration, scan: impl Future<Output = T>) -> T {
        self.scan_started(part);
        let mut scan = std::pin::pin!(scan);
        let result = match tokio::time::timeout(patience, &mut scan).await {
            Ok(result) => result,
            Err(_) => {
                tracing::error!(
                    part,
                    seconds = patience.as_secs(),
                    "drop folder scan stuck; its files wait, other folders are not affected"
                );
                let result = scan.await;
                tracing::info!(part, "stuck drop folder scan ended");
                result
            }
        };
        self.scan_ended(part);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stuck_scan_is_reported_until_it_ends() {
        let report = DropReport::default();
        let (end, ended) = tokio::sync::oneshot::channel();
        let watching = report.clone();
        let scan = tokio::spawn(async move { watching.watch_scan("eu", Duration::from_millis(1), ended).await });
        while report.states().is_empty() {
            tokio::task::yield_now().await;
        }
        report.scan_started("default");
        report.scan_ended("default");
        // As if the scan had begun long ago.
        let long_ago = Instant::now().checked_sub(STUCK_AFTER).unwrap();
        report.locked().get_mut("eu").unwrap().looking_since = Some(long_ago);
        let stuck = PartState::Stuck("looking at its folder has not ended for 30 s".to_owned());
        assert_eq!(report.states(), BTreeMap::from([("default".into(), PartState::Fine), ("eu".into(), stuck)]));
        end.send(7).unwrap();
        assert_eq!(scan.await.unwrap(), Ok(7));
        assert_eq!(report.states()["eu"], PartState::Fine);
    }

    #[test]
    fn an_ignored_file_is_new_once_until_it_is_removed() {
        let report = DropReport::default();
        let path = Path::new("eu/leads/a.zip");
        assert!(report.record_ignored("eu", path, "unpack it"));
        assert!(!report.record_ignored("eu", path, "unpack it"));
        report.retain_ignored("eu", |_| false);
        assert!(report.ignored_files().is_empty());
        assert!(report.record_ignored("eu", path, "unpack it"));
    }
}
