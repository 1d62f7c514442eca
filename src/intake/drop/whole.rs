//! When is a file whole? As far as events and two looks can tell.
//!
//! Where the kernel tells of what happens to a file, it also tells of its end: a file that was renamed in is whole at
//! once, and one that is written is whole when its writer has closed it and no other has opened it for a while. A writer
//! that keeps it open may take all day over the next row. (So a file whose last event was a write waits for a close. The
//! one call that writes and does not close, `truncate` by path, can be helped with `touch`.)
//!
//! Of files on a network share that others write to, and of files that were there before the daemon, no event tells, and
//! it can't always be known who has them open (see [`super::writers`]). There, a file is whole when it has not changed from one look to another some seconds
//! later. Who writes to a share more slowly than that has to use another name and rename. Times are this process's own:
//! the share's clock may be another's.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::stamp::Stamp;

/// After a close: programs that append a row at a time open the file again for the next.
pub(super) const QUIET: Duration = Duration::from_secs(2);
/// Where no event told of an end.
pub(super) const SETTLED: Duration = Duration::from_secs(5);

/// The last that was heard of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Its name appeared, by which way does not show: opened to be written, or linked as it is.
    Appeared,
    Written,
    Closed,
    RenamedIn,
}

#[derive(Debug)]
struct Seen {
    stamp: Stamp,
    /// Since when it is as it is.
    since: Instant,
    signal: Option<Signal>,
}

/// What is known of each file that is there.
#[derive(Debug, Default)]
pub(super) struct Watched {
    files: HashMap<PathBuf, Seen>,
}

impl Watched {
    /// Takes in what a look found, and what was heard before it. A change that nothing was heard of ends what was known
    /// from earlier events: it came from somewhere that does not tell.
    pub(super) fn note(&mut self, found: &BTreeMap<PathBuf, Stamp>, heard: &HashMap<PathBuf, Signal>, now: Instant) {
        self.files.retain(|path, _| found.contains_key(path));
        for (path, stamp) in found {
            let signal = heard.get(path).copied();
            match self.files.get_mut(path) {
                Some(seen) => {
                    let unchanged = seen.stamp.is_unchanged(stamp);
                    if !unchanged || signal.is_some() {
                        seen.since = now;
                        seen.signal = signal.or(seen.signal.filter(|_| unchanged));
                    }
                    seen.stamp = *stamp;
                }
                None => {
                    self.files.insert(path.clone(), Seen { stamp: *stamp, since: now, signal });
                }
            }
        }
    }

    /// Events were lost: what they told last may not be true any more.
    pub(super) fn forget_signals(&mut self) {
        for seen in self.files.values_mut() {
            seen.signal = None;
        }
    }

    /// Whether an event told that the file is whole.
    pub(super) fn was_heard_to_end(&self, path: &Path) -> bool {
        self.files.get(path).is_some_and(|seen| matches!(seen.signal, Some(Signal::RenamedIn | Signal::Closed)))
    }

    /// When the file will be whole if nothing happens to it; none if that takes an event.
    pub(super) fn whole_at(&self, path: &Path) -> Option<Instant> {
        let seen = self.files.get(path)?;
        match seen.signal {
            Some(Signal::RenamedIn) => Some(seen.since),
            Some(Signal::Closed) => Some(seen.since + QUIET),
            Some(Signal::Written) => None,
            // Its writer has it open and thinks. A hard link to a file with nothing in it is not worth telling apart.
            Some(Signal::Appeared) if seen.stamp.bytes == 0 => None,
            Some(Signal::Appeared) | None => Some(seen.since + SETTLED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "default/leads/a.csv";

    /// What is known after looks: the second of each, the stamp found and what was heard before it. Gives the second from
    /// which on the file is whole.
    fn whole_from(looks: &[(u64, Stamp, Option<Signal>)]) -> Option<u64> {
        let begin = Instant::now();
        let mut watched = Watched::default();
        for &(second, stamp, signal) in looks {
            let heard = signal.map(|signal| (PathBuf::from(PATH), signal)).into_iter().collect();
            watched.note(&BTreeMap::from([(PATH.into(), stamp)]), &heard, begin + Duration::from_secs(second));
        }
        watched.whole_at(Path::new(PATH)).map(|at| (at - begin).as_secs())
    }

    #[test]
    fn a_file_is_whole_once_it_is_renamed_in_or_closed_and_quiet_or_settled() {
        let (empty, half, all) = (Stamp::made_up(1, 0, 1), Stamp::made_up(1, 10, 1), Stamp::made_up(1, 20, 2));
        let other = Stamp::made_up(2, 20, 2);
        use Signal::{Appeared, Closed, RenamedIn, Written};
        for (what, looks, from) in [
            ("renamed in", vec![(0, all, Some(RenamedIn))], Some(0)),
            ("renamed in, then written to", vec![(0, half, Some(RenamedIn)), (1, all, Some(Written))], None),
            ("renamed in, then changed from afar", vec![(0, half, Some(RenamedIn)), (1, all, None)], Some(6)),
            ("opened and nothing written", vec![(0, empty, Some(Appeared)), (99, empty, None)], None),
            ("opened, written, never closed", vec![(0, half, Some(Written)), (99, half, None)], None),
            ("closed", vec![(0, half, Some(Written)), (1, all, Some(Closed)), (2, all, None)], Some(3)),
            ("closed, then opened to append", vec![(0, half, Some(Closed)), (1, all, Some(Written))], None),
            ("closed twice", vec![(0, half, Some(Closed)), (1, half, Some(Closed))], Some(3)),
            ("linked", vec![(0, all, Some(Appeared))], Some(5)),
            ("found", vec![(0, all, None), (3, all, None)], Some(5)),
            ("grows from afar", vec![(0, half, None), (4, all, None), (6, all, None)], Some(9)),
            ("another one in its place", vec![(0, all, Some(RenamedIn)), (3, other, None)], Some(8)),
        ] {
            assert_eq!(whole_from(&looks), from, "{what}");
        }
    }

    #[test]
    fn what_was_heard_counts_no_more_when_events_were_lost_or_the_file_was_away() {
        let begin = Instant::now();
        let path = Path::new(PATH);
        let there = BTreeMap::from([(path.to_owned(), Stamp::made_up(1, 10, 1))]);
        let heard = HashMap::from([(path.to_owned(), Signal::Written)]);
        let mut watched = Watched::default();
        watched.note(&there, &heard, begin);
        assert_eq!(watched.whole_at(path), None);
        watched.forget_signals();
        assert_eq!(watched.whole_at(path), Some(begin + SETTLED));
        watched.note(&there, &heard, begin);
        watched.note(&BTreeMap::new(), &HashMap::new(), begin);
        watched.note(&there, &HashMap::new(), begin);
        assert_eq!(watched.whole_at(path), Some(begin + SETTLED));
    }
}
