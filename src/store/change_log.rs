//! Change log: the latest changes with their sequence numbers, so that a follower whose connection broke can catch up.

use std::collections::VecDeque;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::clock::Clock;
use crate::store::events::ChangeEvent;

/// The changes that are kept for followers who come back.
const MAX_KEPT_CHANGES: usize = 10_000;

/// Changes that a slow follower may fall behind by.
const MAX_BUFFERED_CHANGES: usize = 4096;

/// A change and its place in the order of all changes since the store was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequencedChange {
    /// Counted from 1.
    pub number: u64,
    /// When the change was committed.
    pub at: Timestamp,
    /// What changed.
    pub change: ChangeEvent,
}

/// A subscription to all changes after a known one.
#[derive(Debug)]
pub struct ChangeSubscription {
    /// The number of the latest change before the subscription; 0 if there was none.
    pub latest: u64,
    /// The changes after the known one, oldest first; none where some of them are no longer kept.
    pub missed: Option<Vec<SequencedChange>>,
    /// The changes from now on.
    pub receiver: broadcast::Receiver<SequencedChange>,
}

/// Numbers changes and keeps the latest ones.
pub(super) struct ChangeLog {
    state: Mutex<State>,
}

struct State {
    latest: u64,
    kept: VecDeque<SequencedChange>,
    followers: broadcast::Sender<SequencedChange>,
}

impl Default for ChangeLog {
    fn default() -> ChangeLog {
        let followers = broadcast::channel(MAX_BUFFERED_CHANGES).0;
        ChangeLog { state: Mutex::new(State { latest: 0, kept: VecDeque::new(), followers }) }
    }
}

impl ChangeLog {
    /// Numbers a change, keeps it and sends it to the followers.
    pub fn append(&self, change: ChangeEvent) {
        let mut state = self.state.lock();
        state.latest += 1;
        let change = SequencedChange { number: state.latest, at: Clock::System.now(), change };
        if state.kept.len() == MAX_KEPT_CHANGES {
            state.kept.pop_front();
        }
        state.kept.push_back(change.clone());
        // To have no follower is no error.
        let _ = state.followers.send(change);
    }

    /// Subscribes to the changes after number `known`; none for those from now on.
    pub fn subscribe_after(&self, known: Option<u64>) -> ChangeSubscription {
        let state = self.state.lock();
        let latest = state.latest;
        let known = known.unwrap_or(latest);
        let first_kept = state.kept.front().map_or(latest + 1, |change| change.number);
        // A number that was not given out yet is of another store.
        let missed = (known <= latest && known + 1 >= first_kept)
            .then(|| state.kept.iter().filter(|change| change.number > known).cloned().collect());
        ChangeSubscription { latest, missed, receiver: state.followers.subscribe() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::JobId;

    fn numbers(missed: Option<Vec<SequencedChange>>) -> Option<Vec<u64>> {
        missed.map(|changes| changes.iter().map(|change| change.number).collect())
    }

    #[test]
    fn changes_after_a_known_one_are_replayed() {
        let log = ChangeLog::default();
        assert_eq!(numbers(log.subscribe_after(None).missed), Some(vec![]));
        for id in 1..=3 {
            log.append(ChangeEvent::Job(JobId(id)));
        }
        assert_eq!(numbers(log.subscribe_after(Some(1)).missed), Some(vec![2, 3]));
        assert_eq!(numbers(log.subscribe_after(Some(0)).missed), Some(vec![1, 2, 3]));
        assert_eq!(numbers(log.subscribe_after(Some(3)).missed), Some(vec![]));
        assert_eq!(numbers(log.subscribe_after(Some(4)).missed), None);
        let mut subscription = log.subscribe_after(None);
        assert_eq!(subscription.latest, 3);
        log.append(ChangeEvent::Job(JobId(9)));
        assert_eq!(subscription.receiver.try_recv().map(|change| change.number), Ok(4));
    }

    #[test]
    fn changes_that_are_no_longer_kept_are_missed() {
        let log = ChangeLog::default();
        for _ in 0..MAX_KEPT_CHANGES + 2 {
            log.append(ChangeEvent::Job(JobId(1)));
        }
        assert!(log.subscribe_after(Some(1)).missed.is_none());
        assert_eq!(log.subscribe_after(Some(2)).missed.map(|changes| changes.len()), Some(MAX_KEPT_CHANGES));
    }
}
