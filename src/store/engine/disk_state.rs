//! Disk state: whether the database's disk is full. Between full and not full lies a margin, so that a disk at the
//! limit is one occurrence and not many.

use jiff::Timestamp;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::store::engine::disk_reserve::DiskBudget;

/// The disk is full where there is less space for a new file: one piece of it could not be stored.
const MIN_FILE_BYTES: u64 = 256 << 10;

/// The disk is no longer full where there is so much space for a new file.
const ROOM_BYTES: u64 = 4 << 20;

/// The space for new files that a measurement found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskRoom {
    /// The disk is full.
    None,
    /// A small file could be stored. A disk that was full counts as full.
    Little,
    /// The disk is not full.
    Enough,
}

impl DiskRoom {
    /// Returns the space that a budget has.
    pub fn of(budget: &DiskBudget) -> DiskRoom {
        match budget.has_room_for_file(MIN_FILE_BYTES) {
            false => DiskRoom::None,
            true if budget.has_room_for_file(ROOM_BYTES) => DiskRoom::Enough,
            true => DiskRoom::Little,
        }
    }
}

/// The state of the disk of one database. It is kept in memory only: on a full disk it could not be stored.
pub(crate) struct DiskState {
    full_since: watch::Sender<Option<Timestamp>>,
}

impl Default for DiskState {
    fn default() -> DiskState {
        DiskState { full_since: watch::Sender::new(None) }
    }
}

impl DiskState {
    /// Returns since when the disk is full, now and after each change.
    pub fn watch(&self) -> watch::Receiver<Option<Timestamp>> {
        self.full_since.subscribe()
    }

    /// Records a measurement before a write.
    pub fn record_measurement(&self, room: DiskRoom) {
        if room == DiskRoom::None {
            self.record_full();
        }
    }

    /// Records that a write failed for lack of space.
    pub fn record_full(&self) {
        self.full_since.send_if_modified(|since| {
            let begins = since.is_none();
            since.get_or_insert_with(|| Clock::System.now());
            begins
        });
    }

    /// Records that a write succeeded after this measurement. Success alone is not enough: a small write succeeds on a
    /// full disk too.
    pub fn record_success(&self, room: DiskRoom) {
        if room == DiskRoom::Enough {
            self.full_since.send_if_modified(|since| since.take().is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::error::StoreError;

    #[test]
    fn a_full_disk_is_one_occurrence_until_there_is_room_again() {
        let state = DiskState::default();
        let mut watch = state.watch();
        let mut changes_with = |budget: &DiskBudget| {
            state.record_measurement(DiskRoom::of(budget));
            state.record_success(DiskRoom::of(budget));
            let has_changed = watch.has_changed().unwrap();
            (has_changed, watch.borrow_and_update().is_some())
        };
        let free = |bytes| DiskBudget::of_files(Ok(2 * bytes));
        for (budget, expected) in [
            (free(ROOM_BYTES), (false, false)),
            (free(MIN_FILE_BYTES), (false, false)),
            (free(MIN_FILE_BYTES - 1), (true, true)),
            (DiskBudget::of_files(Err(StoreError::Full)), (false, true)),
            (free(MIN_FILE_BYTES), (false, true)),
            (free(ROOM_BYTES), (true, false)),
            (DiskBudget::of_files(Err(StoreError::Full)), (true, true)),
            (DiskBudget::unlimited(), (true, false)),
            // Not a fault of the disk's size.
            (DiskBudget::of_files(Err(StoreError::Damaged("page 7".into()))), (false, false)),
        ] {
            assert_eq!(changes_with(&budget), expected, "{budget:?}");
        }
    }
}
