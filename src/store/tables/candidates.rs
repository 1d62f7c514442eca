//! Candidates: the pending batches of an instance that may be uploaded next.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::clock::{after, from_ms};
use crate::domain::instance::InstanceState;
use crate::domain::packing::ImportShape;
use crate::domain::{BatchKey, JobId};
use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::tables::batch_rules::no_batch_before;
use crate::store::tables::job_columns::optional_shape;
use crate::store::tables::row_mapping::optional_size_column;

/// The largest number of pending batches in a snapshot.
///
/// A plan starts at most ten uploads. Of the first twenty jobs in the order of priority and age at most ten have
/// batches in flight, so the ten that are next in fair order are always among them; each brings at most ten batches.
pub(crate) const MAX_CANDIDATES: u32 = 200;

/// A batch that waits to be uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingBatch {
    /// The batch.
    pub key: BatchKey,
    /// Its job's priority.
    pub priority: i64,
    /// Its job's group.
    pub group: Option<String>,
    /// The static list that it imports into.
    pub list_id: Option<i64>,
    /// The number of its last upload in the instance's order of uploads.
    pub last_upload: Option<u64>,
    /// Candidates of one shape may share an import; none for a batch that goes alone.
    pub pack_shape: Option<ImportShape>,
}

/// What a snapshot is read for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotQuery<'a> {
    /// The name of the instance.
    pub instance: &'a str,
    /// The time of day.
    pub now: Timestamp,
    /// The largest number of batches of one job that a plan uses.
    pub parts: u32,
    /// The longest delay of a batch. A longer one began before the clock was set back, and counts as over.
    pub longest: Duration,
}

impl FromRow<'_, SqliteRow> for PendingBatch {
    fn from_row(row: &SqliteRow) -> Result<PendingBatch, sqlx::Error> {
        Ok(PendingBatch {
            key: BatchKey { job: JobId(row.try_get("id")?), part: row.try_get("part")? },
            priority: row.try_get("priority")?,
            group: row.try_get("job_group")?,
            list_id: row.try_get("list_id")?,
            last_upload: optional_size_column(row, "last_upload")?,
            pack_shape: optional_shape(row)?,
        })
    }
}

/// The statement of [`ReadTx::candidates`], with the terms that come before the usual order of the parts of a job, and
/// of the candidates.
macro_rules! candidates_sql {
    ($part_order:literal, $order:literal) => {
        concat!(
            "SELECT j.id, j.priority, j.job_group, j.list_id, iif(b.attempts = 0, j.pack_shape, NULL) AS pack_shape,
                    b.part, b.last_upload
             FROM job j INDEXED BY job_queue CROSS JOIN batch b ON b.job_id = j.id AND b.state = 'pending'
             WHERE j.instance = ?1 AND j.state IN ('pending', 'running')
               AND (j.not_before IS NULL OR j.not_before <= ?2)
               AND (b.not_before IS NULL OR b.not_before <= ?2 OR b.not_before > ?5)
               AND b.part IN (SELECT p.part FROM batch p WHERE p.job_id = j.id AND p.state = 'pending' AND ",
            no_batch_before!("p"),
            "
                              ORDER BY ",
            $part_order,
            "p.byte_from LIMIT ?3)
               AND (j.job_group IS NULL
                    OR NOT EXISTS (SELECT 1 FROM job o
                                   WHERE o.instance = j.instance AND o.job_group = j.job_group AND o.id < j.id
                                     AND o.state IN ('pending', 'running')))
               AND (j.list_id IS NULL
                    OR NOT EXISTS (SELECT 1 FROM batch f JOIN job o ON o.id = f.job_id
                                   WHERE f.state IN ('uploading', 'queued', 'importing', 'collecting', 'held')
                                     AND f.leads_import = 1
                                     AND f.state NOT IN ('collecting', 'held')
                                     AND f.instance = ?1 AND o.list_id = j.list_id)
                      AND j.list_id NOT IN (SELECT o.list_id FROM batch f JOIN job o ON o.id = f.job_id
                                            WHERE f.not_before > ?2 AND f.not_before <= ?5 AND f.state = 'pending'
                                              AND f.wait = 'list-busy' AND f.instance = ?1 AND o.list_id IS NOT NULL))
             ORDER BY ",
            $order,
            "j.priority DESC, j.id, b.byte_from LIMIT ?4",
        )
    };
}

impl ReadTx<'_> {
    /// Returns the pending batches that may be next. While uploads fail in a row, batches that were not tried since the
    /// last success come first, then those with the oldest last upload. So each attempt takes another batch, and
    /// failing batches do not hide one that would succeed.
    pub(crate) async fn candidates(
        &mut self,
        query: &SnapshotQuery<'_>,
        instance: &InstanceState,
    ) -> Result<Vec<PendingBatch>, StoreError> {
        // In the order of the index the statement stops at its limit, however long the queue is.
        let candidates = if instance.service_failures > 0 {
            sqlx::query_as(candidates_sql!(
                "iif(p.last_upload > ?6, p.last_upload, 0), ",
                "iif(b.last_upload > ?6, b.last_upload, 0), "
            ))
        } else {
            sqlx::query_as(candidates_sql!("", ""))
        };
        let candidates = candidates
            .bind(query.instance)
            .bind(query.now.as_millisecond())
            .bind(query.parts)
            .bind(MAX_CANDIDATES)
            .bind(after(query.now, query.longest).as_millisecond())
            .bind(instance.last_success.cast_signed())
            .fetch_all(&mut *self.conn)
            .await?;
        Ok(candidates)
    }

    /// Returns whether a batch is pending, due or deferred, that waits neither for its group nor for its job's earliest
    /// time. Each of [`ReadTx::candidates`] is such a batch.
    pub(crate) async fn has_untried_batch(&mut self, query: &SnapshotQuery<'_>) -> Result<bool, StoreError> {
        let waiting = sqlx::query_scalar(concat!(
            "SELECT EXISTS (SELECT 1 FROM batch b JOIN job j ON j.id = b.job_id
                            WHERE b.state = 'pending' AND b.instance = ?1 AND j.state IN ('pending', 'running')
                              AND (j.not_before IS NULL OR j.not_before <= ?2)
                              AND ",
            no_batch_before!("b"),
            "
                              AND (j.job_group IS NULL
                                   OR NOT EXISTS (SELECT 1 FROM job o
                                                  WHERE o.instance = j.instance AND o.job_group = j.job_group
                                                    AND o.id < j.id AND o.state IN ('pending', 'running'))))",
        ))
        .bind(query.instance)
        .bind(query.now.as_millisecond())
        .fetch_one(&mut *self.conn)
        .await?;
        Ok(waiting)
    }

    /// Returns when the next batch may be uploaded that is deferred, or whose job has an earliest time.
    pub(crate) async fn next_due(&mut self, query: &SnapshotQuery<'_>) -> Result<Option<Timestamp>, StoreError> {
        let due: Option<i64> = sqlx::query_scalar(
            "SELECT min(due) FROM (
                 SELECT (SELECT not_before FROM batch
                         WHERE not_before > ?1 AND not_before <= ?2 AND state = 'pending' AND instance = ?3
                         ORDER BY not_before LIMIT 1) AS due
                 UNION ALL
                 SELECT (SELECT not_before FROM job
                         WHERE instance = ?3 AND not_before > ?1 AND not_before IS NOT NULL
                           AND state IN ('pending', 'running')
                         ORDER BY not_before LIMIT 1))",
        )
        .bind(query.now.as_millisecond())
        .bind(after(query.now, query.longest).as_millisecond())
        .bind(query.instance)
        .fetch_one(&mut *self.conn)
        .await?;
        Ok(due.map(from_ms))
    }

    /// Returns the static lists that are busy with another integration's import, and when each is tried again.
    pub(crate) async fn busy_lists(&mut self, query: &SnapshotQuery<'_>) -> Result<Vec<(i64, Timestamp)>, StoreError> {
        let rows = sqlx::query(
            "SELECT j.list_id, max(b.not_before) AS until FROM batch b JOIN job j ON j.id = b.job_id
             WHERE b.not_before > ? AND b.not_before <= ? AND b.state = 'pending' AND b.wait = 'list-busy'
               AND j.list_id IS NOT NULL AND b.instance = ?
             GROUP BY j.list_id",
        )
        .bind(query.now.as_millisecond())
        .bind(after(query.now, query.longest).as_millisecond())
        .bind(query.instance)
        .fetch_all(&mut *self.conn)
        .await?;
        rows.iter().map(|row| Ok((row.try_get("list_id")?, from_ms(row.try_get("until")?)))).collect()
    }
}
