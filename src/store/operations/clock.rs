//! Observation of the clock.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::{Clock, ClockReading, ClockRecord, Observation};
use crate::store::error::StoreError;
use crate::store::handle::Store;

/// A reading of the clock, after which all stored times have been shifted to match it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedClock {
    /// Time of day and uptime.
    pub reading: ClockReading,
    /// What is known of the clock since.
    pub record: ClockRecord,
}

impl ObservedClock {
    /// Returns the time of day that was read.
    pub fn now(&self) -> Timestamp {
        self.reading.wall
    }

    /// Returns when the clock will have run evenly for `patience`; none where it has.
    pub fn steady_at(&self, patience: Duration) -> Option<Timestamp> {
        self.record.steady_at(&self.reading, patience)
    }
}

impl Store {
    /// Reads the clock. If it was set since the last observation, or the machine was restarted, the ends of unconfirmed
    /// imports are shifted, so that as much time is left of them as before. Otherwise nothing is written.
    ///
    /// # Errors
    /// An error of writing the database. Nothing is shifted then, and the next observation tries it again.
    pub async fn observe_clock(&self, clock: &Clock) -> Result<ObservedClock, StoreError> {
        self.observe(|| clock.reading()).await
    }

    /// See [`Store::observe_clock`]. The clock is read under the lock, so that observations are recorded in their
    /// order.
    pub(crate) async fn observe(&self, read: impl FnOnce() -> ClockReading) -> Result<ObservedClock, StoreError> {
        let mut known = self.shared.clock.lock().await;
        let reading = read();
        if let Some(known) = known.as_mut() {
            let Observation { record, shift_ms } = known.observe(&reading);
            let is_same = record.boot == known.boot && record.steady_since_up == known.steady_since_up;
            if shift_ms == 0 && is_same {
                *known = record.clone();
                return Ok(ObservedClock { reading, record });
            }
        }
        let observed = reading.clone();
        let written = self.write("observe", move |tx| Box::pin(tx.observe_clock(observed))).await?;
        let Observation { record, shift_ms } = written;
        if shift_ms.saturating_abs() >= 60_000 {
            tracing::warn!(
                seconds = shift_ms / 1000,
                "the clock was set or the machine was restarted: nothing expires by its age for an hour"
            );
        }
        *known = Some(record.clone());
        Ok(ObservedClock { reading, record })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{PATIENCE, Uptime, from_ms};
    use crate::domain::{BatchKey, Event, FailureScope};
    use crate::store::engine::transaction::ReadTx;
    use crate::store::test_util::{add, leads, store};

    const DAY: i64 = 86_400_000;

    fn reading(boot: &str, up: i64, wall: i64) -> ClockReading {
        ClockReading { wall: from_ms(wall), up: Uptime { boot: boot.into(), ms: up } }
    }

    async fn observe(store: &Store, boot: &str, up: i64, wall: i64) -> ObservedClock {
        store.observe(|| reading(boot, up, wall)).await.unwrap()
    }

    async fn record(store: &Store) -> Option<ClockRecord> {
        let mut conn = store.reader().await.unwrap();
        ReadTx::new(&mut conn).clock_record().await.unwrap()
    }

    /// Leaves an unconfirmed import that counts until 1,000 ms of a clock that shows 0 at uptime 0.
    async fn lose_an_answer(store: &Store) {
        let key = BatchKey { job: add(store, leads(), 1).await, part: 1 };
        store.record_event(key, Event::UploadBegan, None, from_ms(1)).await.unwrap();
        let held = Event::Held { reason: "cut".into(), unconfirmed_until: from_ms(1_000), scope: FailureScope::Batch };
        store.record_event(key, held, None, from_ms(2)).await.unwrap();
    }

    async fn held_until(store: &Store, now: i64) -> Vec<i64> {
        let held = store.occupied_slots("default", from_ms(now)).await.unwrap();
        held.unconfirmed_until.iter().map(|until| until.as_millisecond()).collect()
    }

    #[tokio::test]
    async fn unconfirmed_import_keeps_its_time_over_a_clock_jump() {
        let store = store().await;
        observe(&store, "a", 0, 0).await;
        lose_an_answer(&store).await;
        assert_eq!(held_until(&store, 1_000).await, [0; 0]);
        for (up, wall) in [(10, 8 * DAY), (20, -DAY), (30, -DAY)] {
            observe(&store, "a", up, wall + up).await;
            assert_eq!(held_until(&store, wall + 999).await, [wall + 1_000]);
            assert_eq!(held_until(&store, wall + 1_000).await, [0; 0]);
        }
    }

    #[tokio::test]
    async fn clock_jump_between_runs_is_detected_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.db");
        let store = Store::open(&path).await.unwrap();
        observe(&store, "a", 0, 0).await;
        lose_an_answer(&store).await;
        store.close().await;
        drop(store);
        for _ in 0..2 {
            let store = Store::open(&path).await.unwrap();
            let seen = observe(&store, "a", 500, 8 * DAY + 500).await;
            assert_eq!(held_until(&store, seen.reading.wall.as_millisecond()).await, [8 * DAY + 1_000]);
            assert!(seen.steady_at(PATIENCE).is_some());
            store.close().await;
        }
    }

    #[tokio::test]
    async fn another_boot_counts_from_the_last_call() {
        let store = store().await;
        observe(&store, "a", 0, 0).await;
        lose_an_answer(&store).await;
        let noted = store.write("note_call", |tx| {
            Box::pin(async move {
                tx.note_call(&reading("a", 600, 600)).await?;
                // The clock was set, and that was not observed yet.
                tx.note_call(&reading("a", 700, DAY)).await
            })
        });
        noted.await.unwrap();
        observe(&store, "b", 5, 3 * DAY).await;
        assert_eq!(held_until(&store, 3 * DAY).await, [3 * DAY + 400]);
    }

    #[tokio::test]
    async fn steady_clock_writes_nothing_and_stays_steady() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.db");
        let store = Store::open(&path).await.unwrap();
        assert_eq!(observe(&store, "a", 5, 5).await.steady_at(PATIENCE), None, "a new database has no ages");
        let before = record(&store).await;
        observe(&store, "a", 6_000, 6_000).await;
        assert_eq!(record(&store).await, before);
        store.close().await;
        drop(store);
        let store = Store::open(&path).await.unwrap();
        assert_eq!(observe(&store, "a", 9_000, 9_000).await.steady_at(PATIENCE), None);
        assert!(observe(&store, "b", 9_000, 9_000).await.steady_at(PATIENCE).is_some());
    }
}
