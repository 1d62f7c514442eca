//! Occupied slots: batches in flight, and imports that are unconfirmed or abandoned.

use std::collections::HashMap;
use std::iter::repeat_n;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::clock::from_ms;
use crate::domain::{BatchKey, BatchState, JobId};
use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::tables::instance_lists::{by_instance, names_parameter};
use crate::store::tables::row_mapping::{parse_column, size_column, time_column};

/// A batch in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlightBatch {
    /// The batch.
    pub key: BatchKey,
    /// Its stored state.
    pub state: BatchState,
    /// Its job's group.
    pub group: Option<String>,
    /// The static list that it imports into.
    pub list_id: Option<i64>,
    /// How many rows its import has.
    pub rows: u64,
    /// How many of them Marketo had processed at the last poll.
    pub rows_done: u64,
    /// The next poll or download is not before this.
    pub not_before: Option<Timestamp>,
    /// When Marketo accepted the upload.
    pub accepted_at: Option<Timestamp>,
    /// When a poll first found the import in progress.
    pub importing_at: Option<Timestamp>,
    /// When the import's status was last queried.
    pub polled_at: Option<Timestamp>,
    /// It is held because Marketo has not ended its import in time. It is still polled, and keeps its slot.
    pub is_overdue: bool,
}

/// The slots of Marketo's queue that an instance occupies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OccupiedSlots {
    /// Batches that are `uploading`, `queued` or `importing`.
    pub in_flight: u32,
    /// See [`crate::store::Snapshot::unconfirmed_until`].
    pub unconfirmed_until: Vec<Timestamp>,
}

impl FromRow<'_, SqliteRow> for InFlightBatch {
    fn from_row(row: &SqliteRow) -> Result<InFlightBatch, sqlx::Error> {
        Ok(InFlightBatch {
            key: BatchKey { job: JobId(row.try_get("job_id")?), part: row.try_get("part")? },
            state: parse_column(row, "state")?,
            group: row.try_get("job_group")?,
            list_id: row.try_get("list_id")?,
            rows: size_column(row, "rows")?,
            rows_done: size_column(row, "rows_done")?,
            not_before: time_column(row, "not_before")?,
            accepted_at: time_column(row, "accepted_at")?,
            importing_at: time_column(row, "importing_at")?,
            polled_at: time_column(row, "polled_at")?,
            is_overdue: time_column(row, "overdue_at")?.is_some(),
        })
    }
}

impl ReadTx<'_> {
    /// Returns the slots that an instance occupies at `now`.
    pub(crate) async fn occupied_slots(&mut self, name: &str, now: Timestamp) -> Result<OccupiedSlots, StoreError> {
        let in_flight = self.count_occupied_slots(name).await?;
        Ok(OccupiedSlots { in_flight, unconfirmed_until: self.unconfirmed_until(name, now).await? })
    }

    /// Returns how many batches of an instance occupy a slot.
    pub(crate) async fn count_occupied_slots(&mut self, name: &str) -> Result<u32, StoreError> {
        // The first condition is that of an index.
        let batches = sqlx::query_scalar(
            "SELECT count(*) FROM batch
             WHERE state IN ('uploading', 'queued', 'importing', 'collecting', 'held')
               AND state NOT IN ('collecting', 'held') AND leads_import = 1 AND instance = ?",
        )
        .bind(name)
        .fetch_one(&mut *self.conn)
        .await?;
        Ok(batches)
    }

    /// Returns the batches of an instance that are in flight.
    pub(crate) async fn in_flight(&mut self, name: &str) -> Result<Vec<InFlightBatch>, StoreError> {
        Ok(self.in_flight_of(&names_parameter([name])).await?.remove(name).unwrap_or_default())
    }

    /// Returns the batches in flight of each instance that has any; `names` is a [`names_parameter`].
    pub(crate) async fn in_flight_of(
        &mut self,
        names: &str,
    ) -> Result<HashMap<String, Vec<InFlightBatch>>, StoreError> {
        let rows = sqlx::query(
            "SELECT b.instance, b.job_id, b.part, b.state, coalesce(b.import_rows, b.rows) AS rows,
                    coalesce(b.processed, 0) + coalesce(b.failed, 0) AS rows_done, b.not_before, b.accepted_at,
                    b.importing_at, b.polled_at, b.overdue_at, j.job_group, j.list_id
             FROM batch b JOIN job j ON j.id = b.job_id
             WHERE b.state IN ('uploading', 'queued', 'importing', 'collecting', 'held') AND b.leads_import = 1
               AND b.instance IN (SELECT value FROM json_each(?))
             ORDER BY b.job_id, b.part",
        )
        .bind(names)
        .fetch_all(&mut *self.conn)
        .await?;
        Ok(by_instance(&rows, |row| InFlightBatch::from_row(row))?)
    }

    /// Returns for each unconfirmed or abandoned import of an instance until when it occupies a slot.
    pub(crate) async fn unconfirmed_until(&mut self, name: &str, now: Timestamp) -> Result<Vec<Timestamp>, StoreError> {
        Ok(self.unconfirmed_until_of(&names_parameter([name]), now).await?.remove(name).unwrap_or_default())
    }

    /// Returns the same for each instance that has such imports; `names` is a [`names_parameter`].
    pub(crate) async fn unconfirmed_until_of(
        &mut self,
        names: &str,
        now: Timestamp,
    ) -> Result<HashMap<String, Vec<Timestamp>>, StoreError> {
        // Also those of batches that were cancelled or have failed: that does not change Marketo's queue.
        let rows = sqlx::query(
            "SELECT instance, unconfirmed_until, unconfirmed_imports FROM batch
             WHERE unconfirmed_until > ?1 AND instance IN (SELECT value FROM json_each(?2))
             UNION ALL SELECT instance, until, 1 FROM abandoned
             WHERE until > ?1 AND instance IN (SELECT value FROM json_each(?2))",
        )
        .bind(now.as_millisecond())
        .bind(names)
        .fetch_all(&mut *self.conn)
        .await?;
        let ends = by_instance(&rows, |row| {
            let imports = row.try_get::<u32, _>("unconfirmed_imports")? as usize;
            Ok(repeat_n(from_ms(row.try_get("unconfirmed_until")?), imports))
        })?;
        Ok(ends.into_iter().map(|(name, ends)| (name, ends.into_iter().flatten().collect())).collect())
    }
}
