//! Table `clock`: the last observation of the clock, and the shift of stored times when the clock was set.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{Row, SqliteConnection};

use crate::clock::{Clock, ClockReading, ClockRecord, Observation, from_ms};
use crate::store::Store;
use crate::store::engine::writer::StoreTx;
use crate::store::error::StoreError;

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

    /// See [`Store::observe_clock`]. The clock is read under the lock, so that observations are recorded in their order.
    async fn observe(&self, read: impl FnOnce() -> ClockReading) -> Result<ObservedClock, StoreError> {
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
        let written = self.write("observe", move |tx| Box::pin(async move { record_reading(tx, &observed).await }));
        let Observation { record, shift_ms } = written.await?;
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

/// Shifts the stored times and writes the row, in one transaction. The shift is computed from the stored row, so a kill
/// before the commit shifts nothing, and a kill after it shifts nothing twice.
async fn record_reading(tx: &mut StoreTx<'_>, reading: &ClockReading) -> Result<Observation, StoreError> {
    let observation = match load(&mut *tx.conn).await? {
        Some(record) => record.observe(reading),
        None => {
            let is_new: bool = sqlx::query_scalar(
                "SELECT NOT EXISTS (SELECT 1 FROM job) AND NOT EXISTS (SELECT 1 FROM api_call_day)
                        AND NOT EXISTS (SELECT 1 FROM instance WHERE pause_until IS NOT NULL)",
            )
            .fetch_one(&mut *tx.conn)
            .await?;
            Observation { record: ClockRecord::begin(reading, is_new), shift_ms: 0 }
        }
    };
    if observation.shift_ms != 0 {
        for sql in [
            "UPDATE batch SET unconfirmed_until = unconfirmed_until + ? WHERE unconfirmed_until IS NOT NULL",
            "UPDATE abandoned SET until = until + ?",
        ] {
            sqlx::query(sql).bind(observation.shift_ms).execute(&mut *tx.conn).await?;
        }
    }
    let record = &observation.record;
    sqlx::query(
        "INSERT INTO clock (id, boot, offset_ms, steady_since_up, seen_up, seen_wall) VALUES (1, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE
         SET boot = excluded.boot, offset_ms = excluded.offset_ms, steady_since_up = excluded.steady_since_up,
             seen_up = excluded.seen_up, seen_wall = excluded.seen_wall",
    )
    .bind(&record.boot)
    .bind(record.offset_ms)
    .bind(record.steady_since_up)
    .bind(record.seen_up)
    .bind(record.seen_wall.as_millisecond())
    .execute(&mut *tx.conn)
    .await?;
    Ok(observation)
}

async fn load(conn: &mut SqliteConnection) -> Result<Option<ClockRecord>, StoreError> {
    let row = sqlx::query("SELECT boot, offset_ms, steady_since_up, seen_up, seen_wall FROM clock")
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(ClockRecord {
        boot: row.try_get("boot")?,
        offset_ms: row.try_get("offset_ms")?,
        steady_since_up: row.try_get("steady_since_up")?,
        seen_up: row.try_get("seen_up")?,
        seen_wall: from_ms(row.try_get("seen_wall")?),
    }))
}

/// Records the moment of a call in the call's transaction, so that after a reboot as little time as possible is unknown. A
/// reading that does not match the row is from a clock that was set and not observed yet, and is ignored.
pub(super) async fn note_call(tx: &mut StoreTx<'_>, reading: &ClockReading) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE clock SET seen_up = ?1, seen_wall = ?2
         WHERE boot = ?3 AND seen_up <= ?1 AND abs(?2 - ?1 - offset_ms) < 1000",
    )
    .bind(reading.up.ms)
    .bind(reading.wall.as_millisecond())
    .bind(&reading.up.boot)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{PATIENCE, Uptime};
    use crate::domain::{BatchKey, Event, FailureScope};
    use crate::store::test_util::{add, leads, store};

    const DAY: i64 = 86_400_000;

    fn reading(boot: &str, up: i64, wall: i64) -> ClockReading {
        ClockReading { wall: from_ms(wall), up: Uptime { boot: boot.into(), ms: up } }
    }

    async fn observe(store: &Store, boot: &str, up: i64, wall: i64) -> ObservedClock {
        store.observe(|| reading(boot, up, wall)).await.unwrap()
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
    async fn unconfirmed_import_keeps_its_time_over_a_leap() {
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
    async fn leap_while_no_daemon_runs_is_seen_at_the_start() {
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
        let noted = store.shared.writer.write(|tx| {
            Box::pin(async move {
                note_call(tx, &reading("a", 600, 600)).await?;
                // The clock was set, and that was not observed yet.
                note_call(tx, &reading("a", 700, DAY)).await
            })
        });
        noted.await.unwrap();
        observe(&store, "b", 5, 3 * DAY).await;
        assert_eq!(held_until(&store, 3 * DAY).await, [3 * DAY + 400]);
    }

    #[tokio::test]
    async fn even_clock_writes_nothing_and_trust_outlasts_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.db");
        let store = Store::open(&path).await.unwrap();
        assert_eq!(observe(&store, "a", 5, 5).await.steady_at(PATIENCE), None, "a new database has no ages");
        let before = load(&mut store.readers().acquire().await.unwrap()).await.unwrap();
        observe(&store, "a", 6_000, 6_000).await;
        assert_eq!(load(&mut store.readers().acquire().await.unwrap()).await.unwrap(), before);
        store.close().await;
        drop(store);
        let store = Store::open(&path).await.unwrap();
        assert_eq!(observe(&store, "a", 9_000, 9_000).await.steady_at(PATIENCE), None);
        assert!(observe(&store, "b", 9_000, 9_000).await.steady_at(PATIENCE).is_some());
    }
}
