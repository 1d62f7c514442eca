//! Table `clock`: the last observation of the clock, and the shift of stored times when the clock was set.

use sqlx::Row;

use crate::clock::{ClockReading, ClockRecord, Observation, from_ms};
use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;

impl StoreTx<'_> {
    /// Shifts the stored times and writes the row, in one transaction. The shift is computed from the stored row, so a
    /// kill before the commit shifts nothing, and a kill after it shifts nothing twice.
    pub(crate) async fn observe_clock(&mut self, reading: ClockReading) -> Result<Observation, StoreError> {
        let observation = match self.clock_record().await? {
            Some(record) => record.observe(&reading),
            None => {
                let is_new: bool = sqlx::query_scalar(
                    "SELECT NOT EXISTS (SELECT 1 FROM job) AND NOT EXISTS (SELECT 1 FROM api_call_day)
                            AND NOT EXISTS (SELECT 1 FROM instance WHERE pause_until IS NOT NULL)",
                )
                .fetch_one(&mut *self.conn)
                .await?;
                let begin = if is_new { ClockRecord::begin_steady } else { ClockRecord::begin_unsteady };
                Observation { record: begin(&reading), shift_ms: 0 }
            }
        };
        if observation.shift_ms != 0 {
            for sql in [
                "UPDATE batch SET unconfirmed_until = unconfirmed_until + ? WHERE unconfirmed_until IS NOT NULL",
                "UPDATE abandoned SET until = until + ?",
            ] {
                sqlx::query(sql).bind(observation.shift_ms).execute(&mut *self.conn).await?;
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
        .execute(&mut *self.conn)
        .await?;
        Ok(observation)
    }

    /// Records the moment of a call in the call's transaction, so that after a reboot as little time as possible is
    /// unknown. A reading that does not match the row is from a clock that was set and not observed yet, and is
    /// ignored.
    pub(crate) async fn note_call(&mut self, reading: &ClockReading) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE clock SET seen_up = ?1, seen_wall = ?2
             WHERE boot = ?3 AND seen_up <= ?1 AND abs(?2 - ?1 - offset_ms) < 1000",
        )
        .bind(reading.up.ms)
        .bind(reading.wall.as_millisecond())
        .bind(&reading.up.boot)
        .execute(&mut *self.conn)
        .await?;
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns what is known of the clock; none before its first observation.
    pub(crate) async fn clock_record(&mut self) -> Result<Option<ClockRecord>, StoreError> {
        let row = sqlx::query("SELECT boot, offset_ms, steady_since_up, seen_up, seen_wall FROM clock")
            .fetch_optional(&mut *self.conn)
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
}
