//! Readiness: decides when a dropped file is complete, from events, times and open descriptors.
//!
//! There are three sources, and none is always available:
//!
//! - Open writers ([`crate::drop_folder::open_writers`]). While a visible program has the file open for writing, it is not
//!   complete; the caller checks that. Where all programs are visible, only a short wait is needed besides, for a writer
//!   that opens the file again.
//! - Events. They also come from programs that are not visible: a file that was written and not closed waits for its
//!   close, also after a rename. After a close it has to be unchanged for a while, because programs that append one row at
//!   a time open it again for the next.
//! - Times. Where not all programs are visible (other users' processes, a sandbox, a network share), a file has to be
//!   unchanged for `drop.settle`, whatever its events. A program that writes more slowly to a share has to use another
//!   name and rename the file after the close. Times are from this process's clock, because a share's clock may differ.
//!
//! Scanners, SMB and some SFTP clients create an empty file first and fill it later. So an empty file waits longer
//! before it counts as complete; then it is refused.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::drop_folder::file_stat::FileStat;

/// The wait after a close: programs that append one row at a time open the file again for the next.
pub(super) const MIN_UNCHANGED: Duration = Duration::from_secs(2);
/// How long an empty file waits for its content.
pub(super) const EMPTY_FILE_WAIT: Duration = Duration::from_secs(3 * 60);
/// The same for an empty file that was renamed in. It is rarely a placeholder, but a program that is not visible may
/// still have it open.
pub(super) const EMPTY_RENAMED_WAIT: Duration = Duration::from_secs(60);

/// The last event of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FsEvent {
    /// Its name appeared: it was created for writing or linked; the event does not show which.
    Appeared,
    /// Written and not closed since, under this name or the one before a rename.
    Written,
    Closed,
    RenamedIn,
}

/// Whether all programs that may have a file open are visible, and how long to wait where they are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Visibility {
    /// Every program that may have it open is visible.
    pub(super) is_full: bool,
    /// `drop.settle`: how long a file has to be unchanged where not all programs are visible.
    pub(super) settle: Duration,
}

#[derive(Debug)]
struct Observation {
    stat: FileStat,
    /// When it last changed.
    since: Instant,
    signal: Option<FsEvent>,
}

/// Tracks each existing file from scan to scan.
#[derive(Debug, Default)]
pub(super) struct FileTracker {
    files: HashMap<PathBuf, Observation>,
}

impl FileTracker {
    /// Records the files found by a scan and the events before it. A change without an event discards the file's
    /// earlier events: it was made from somewhere that gives no events, such as another machine.
    pub(super) fn observe(
        &mut self,
        found: &BTreeMap<PathBuf, FileStat>,
        events: &HashMap<PathBuf, FsEvent>,
        now: Instant,
    ) {
        self.files.retain(|path, _| found.contains_key(path));
        for (path, stat) in found {
            let signal = events.get(path).copied();
            match self.files.get_mut(path) {
                Some(observation) => {
                    let unchanged = observation.stat.is_unchanged(stat);
                    if !unchanged || signal.is_some() {
                        observation.since = now;
                        observation.signal = signal.or(observation.signal.filter(|_| unchanged));
                    }
                    observation.stat = *stat;
                }
                None => {
                    self.files.insert(path.clone(), Observation { stat: *stat, since: now, signal });
                }
            }
        }
    }

    /// Discards the events of all files, because some were lost.
    pub(super) fn forget_signals(&mut self) {
        for observation in self.files.values_mut() {
            observation.signal = None;
        }
    }

    /// Returns since when the file is unchanged.
    pub(super) fn unchanged_since(&self, path: &Path) -> Option<Instant> {
        self.files.get(path).map(|observation| observation.since)
    }

    /// Returns when the file will be complete, if it does not change and no visible program has it open for writing.
    /// `None` if it is complete only after a further event.
    pub(super) fn ready_at(&self, path: &Path, visibility: Visibility) -> Option<Instant> {
        let observation = self.files.get(path)?;
        let Visibility { is_full, settle } = visibility;
        let is_empty = observation.stat.bytes == 0;
        let wait = match observation.signal {
            // It was renamed as it is, and no writer is left.
            Some(FsEvent::RenamedIn) if is_full => Duration::ZERO,
            Some(FsEvent::Written | FsEvent::Appeared) if is_empty && !is_full => return None,
            Some(FsEvent::Written) if !is_full => return None,
            Some(FsEvent::RenamedIn) if is_empty => EMPTY_RENAMED_WAIT.max(settle),
            _ if is_empty => EMPTY_FILE_WAIT.max(settle),
            Some(FsEvent::Closed) if is_full => MIN_UNCHANGED,
            Some(FsEvent::Closed) => MIN_UNCHANGED.max(settle),
            // `truncate` by path writes without an open file, and so without a close.
            Some(FsEvent::RenamedIn | FsEvent::Written | FsEvent::Appeared) | None => settle,
        };
        Some(observation.since + wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "default/leads/a.csv";

    const SETTLE: Duration = Duration::from_secs(5);
    const ALL: Visibility = Visibility { is_full: true, settle: SETTLE };
    const SOME: Visibility = Visibility { is_full: false, settle: SETTLE };

    /// Observes scans, each given as its second, the state found and the event before it. Returns the second from which
    /// on the file is complete.
    fn ready_from(scans: &[(u64, FileStat, Option<FsEvent>)], visibility: Visibility) -> Option<u64> {
        let begin = Instant::now();
        let mut tracker = FileTracker::default();
        for &(second, stat, signal) in scans {
            let events = signal.map(|signal| (PathBuf::from(PATH), signal)).into_iter().collect();
            tracker.observe(&BTreeMap::from([(PATH.into(), stat)]), &events, begin + Duration::from_secs(second));
        }
        tracker.ready_at(Path::new(PATH), visibility).map(|at| (at - begin).as_secs())
    }

    #[test]
    fn readiness_follows_events_times_and_visibility() {
        let (empty, half, all) =
            (FileStat::fabricated(1, 0, 1), FileStat::fabricated(1, 10, 1), FileStat::fabricated(1, 20, 2));
        let other = FileStat::fabricated(2, 20, 2);
        use FsEvent::{Appeared, Closed, RenamedIn, Written};
        // The second from which it is complete where all programs can be seen, and where only some can.
        for (what, scans, of_all, of_some) in [
            ("renamed in", vec![(0, all, Some(RenamedIn))], Some(0), Some(5)),
            ("renamed in and written", vec![(0, half, Some(RenamedIn)), (1, all, Some(Written))], Some(6), None),
            ("renamed in, changed from afar", vec![(0, half, Some(RenamedIn)), (1, all, None)], Some(6), Some(6)),
            ("renamed in with nothing in it", vec![(0, empty, Some(RenamedIn))], Some(0), Some(60)),
            ("opened and nothing written", vec![(0, empty, Some(Appeared)), (99, empty, None)], Some(180), None),
            ("opened, written, never closed", vec![(0, half, Some(Written)), (99, half, None)], Some(5), None),
            ("closed", vec![(0, half, Some(Written)), (1, all, Some(Closed)), (2, all, None)], Some(3), Some(6)),
            ("closed, opened to append", vec![(0, half, Some(Closed)), (1, all, Some(Written))], Some(6), None),
            ("closed twice", vec![(0, half, Some(Closed)), (1, half, Some(Closed))], Some(3), Some(6)),
            ("a placeholder", vec![(0, empty, Some(Closed))], Some(180), Some(180)),
            ("a placeholder, filled", vec![(0, empty, Some(Closed)), (9, half, Some(Closed))], Some(11), Some(14)),
            ("a placeholder, found", vec![(0, empty, None)], Some(180), Some(180)),
            ("linked", vec![(0, all, Some(Appeared))], Some(5), Some(5)),
            ("found", vec![(0, all, None), (3, all, None)], Some(5), Some(5)),
            ("grows from afar", vec![(0, half, None), (4, all, None), (6, all, None)], Some(9), Some(9)),
            ("another one in its place", vec![(0, all, Some(RenamedIn)), (3, other, None)], Some(8), Some(8)),
        ] {
            assert_eq!((ready_from(&scans, ALL), ready_from(&scans, SOME)), (of_all, of_some), "{what}");
        }
    }

    #[test]
    fn lost_events_or_a_missing_file_reset_the_state() {
        let begin = Instant::now();
        let path = Path::new(PATH);
        let there = BTreeMap::from([(path.to_owned(), FileStat::fabricated(1, 10, 1))]);
        let events = HashMap::from([(path.to_owned(), FsEvent::Written)]);
        let mut tracker = FileTracker::default();
        tracker.observe(&there, &events, begin);
        assert_eq!(tracker.ready_at(path, SOME), None);
        tracker.forget_signals();
        assert_eq!(tracker.ready_at(path, SOME), Some(begin + SETTLE));
        tracker.observe(&there, &events, begin);
        tracker.observe(&BTreeMap::new(), &HashMap::new(), begin);
        tracker.observe(&there, &HashMap::new(), begin);
        assert_eq!(tracker.ready_at(path, SOME), Some(begin + SETTLE));
    }
}
