//! Outlook: what the reasons for waiting and the estimates of an instance's jobs are derived from, read in one
//! transaction.
//!
//! It has no candidates: they are searched among all pending batches, while an outlook reads only the first ones in the
//! order of priority and age. So its cost does not grow with the queue.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::json;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::clock::after;
use crate::domain::batch_rules::BatchRules;
use crate::domain::packing::ImportShape;
use crate::domain::{BatchKey, JobId};
use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::tables::batch_rules::read_rules;
use crate::store::tables::candidates::SnapshotQuery;
use crate::store::tables::instance_lists::{by_instance, list_parameter};
use crate::store::tables::job_columns::optional_shape;
use crate::store::tables::row_mapping::{size_column, time_column};
use crate::store::tables::snapshot::Snapshot;

/// The largest number of pending batches of an outlook. Marketo needs hours for as many, and an estimate of what comes
/// behind them would say little.
pub const MAX_QUEUED: u32 = 1_000;

/// What the waiting and the estimates of an instance's jobs are derived from.
#[derive(Clone, Debug, Default)]
pub struct QueueOutlook {
    /// The instance and its batches in flight. Candidates and what belongs to them are left out.
    pub snapshot: Snapshot,
    /// The first pending batches, at most [`MAX_QUEUED`], by priority and age of their jobs.
    pub queued: Vec<QueuedBatch>,
    /// Whether there are more pending batches than these.
    pub has_more: bool,
}

/// A pending batch, with what decides when it is uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedBatch {
    /// The batch.
    pub key: BatchKey,
    /// Its job's priority.
    pub priority: i64,
    /// Its job's group.
    pub group: Option<String>,
    /// The oldest unended job of that group.
    pub group_head: Option<JobId>,
    /// The static list that it imports into.
    pub list_id: Option<i64>,
    /// How the batches of its job depend on each other.
    pub batch_rules: BatchRules,
    /// How many rows it has.
    pub rows: u64,
    /// The size of its rows in bytes.
    pub bytes: u64,
    /// Batches of one shape may share an import; none for a batch that goes alone.
    pub pack_shape: Option<ImportShape>,
    /// It is not uploaded before this: its own delay, or its job's earliest time.
    pub not_before: Option<Timestamp>,
}

impl FromRow<'_, SqliteRow> for QueuedBatch {
    fn from_row(row: &SqliteRow) -> Result<QueuedBatch, sqlx::Error> {
        Ok(QueuedBatch {
            key: BatchKey { job: JobId(row.try_get("id")?), part: row.try_get("part")? },
            priority: row.try_get("priority")?,
            group: row.try_get("job_group")?,
            group_head: row.try_get::<Option<i64>, _>("group_head")?.map(JobId),
            list_id: row.try_get("list_id")?,
            batch_rules: read_rules(row)?,
            rows: size_column(row, "rows")?,
            bytes: size_column(row, "bytes")?,
            pack_shape: optional_shape(row)?,
            not_before: time_column(row, "not_before")?,
        })
    }
}

impl QueueOutlook {
    /// Sets the first pending batches. There are more if these are more than `limit`.
    pub(crate) fn set_queued(&mut self, queued: Vec<QueuedBatch>, limit: u32) {
        self.queued = queued;
        self.has_more = self.queued.len() > limit as usize;
        self.queued.truncate(limit as usize);
    }
}

/// The columns of a [`QueuedBatch`], of job `j` and batch `b`. A delay that ends after `$latest` began before the clock was
/// set back.
macro_rules! queued_columns {
    ($latest:literal) => {
        concat!(
            "j.id, j.priority, j.job_group, j.list_id, j.in_order, j.canary, j.max_failed_percent, b.part, b.rows,
             b.byte_to - b.byte_from AS bytes, iif(b.attempts = 0, j.pack_shape, NULL) AS pack_shape,
             nullif(max(coalesce(j.not_before, 0), iif(b.not_before <= ",
            $latest,
            ", b.not_before, 0)), 0) AS not_before,
             (SELECT min(o.id) FROM job o
              WHERE o.instance = j.instance AND o.job_group = j.job_group
                AND o.state IN ('pending', 'running')) AS group_head"
        )
    };
}

impl ReadTx<'_> {
    /// Returns the outlook of an instance.
    pub(crate) async fn outlook(&mut self, query: SnapshotQuery<'_>) -> Result<QueueOutlook, StoreError> {
        let name = query.instance;
        let snapshot = Snapshot {
            instance: self.instance(name).await?,
            in_flight: self.in_flight(name).await?,
            unconfirmed_until: self.unconfirmed_until(name, query.now).await?,
            busy_lists: self.busy_lists(&query).await?,
            ended_imports: self.ended_imports(&query).await?,
            ..Snapshot::default()
        };
        let mut outlook = QueueOutlook { snapshot, ..QueueOutlook::default() };
        outlook.set_queued(self.first_queued(&query, MAX_QUEUED + 1).await?, MAX_QUEUED);
        Ok(outlook)
    }

    /// Returns the first pending batches, at most `limit`.
    async fn first_queued(&mut self, query: &SnapshotQuery<'_>, limit: u32) -> Result<Vec<QueuedBatch>, StoreError> {
        // The index gives the jobs in this order, so the statement stops at its limit. A delay that is longer than the
        // longest one began before the clock was set back, and counts as over.
        let batches = sqlx::query_as(concat!(
            "SELECT ",
            queued_columns!("?1"),
            " FROM job j INDEXED BY job_queue CROSS JOIN batch b ON b.job_id = j.id AND b.state = 'pending'
             WHERE j.instance = ?2 AND j.state IN ('pending', 'running')
             ORDER BY j.priority DESC, j.id, b.byte_from LIMIT ?3",
        ))
        .bind(after(query.now, query.longest).as_millisecond())
        .bind(query.instance)
        .bind(limit)
        .fetch_all(&mut *self.conn)
        .await?;
        Ok(batches)
    }

    /// Returns the first pending batches of each of these instances, at most `limit` of each.
    pub(crate) async fn first_queued_of(
        &mut self,
        queries: &[SnapshotQuery<'_>],
        limit: u32,
    ) -> Result<HashMap<String, Vec<QueuedBatch>>, StoreError> {
        if queries.is_empty() {
            return Ok(HashMap::new());
        }
        let instances = queries
            .iter()
            .map(|query| json!({"name": query.instance, "latest": after(query.now, query.longest).as_millisecond()}));
        let rows = sqlx::query(concat!(
            "SELECT j.instance, ",
            queued_columns!("i.latest"),
            " FROM (SELECT value ->> 'name' AS name, value ->> 'latest' AS latest FROM json_each(?1)) i
             CROSS JOIN batch b ON (b.job_id, b.part) IN
                 (SELECT q.id, p.part
                  FROM job q INDEXED BY job_queue CROSS JOIN batch p ON p.job_id = q.id AND p.state = 'pending'
                  WHERE q.instance = i.name AND q.state IN ('pending', 'running')
                  ORDER BY q.priority DESC, q.id, p.byte_from LIMIT ?2)
             CROSS JOIN job j ON j.id = b.job_id
             ORDER BY j.priority DESC, j.id, b.byte_from",
        ))
        .bind(list_parameter(instances))
        .bind(limit)
        .fetch_all(&mut *self.conn)
        .await?;
        Ok(by_instance(&rows, |row| QueuedBatch::from_row(row))?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::from_ms;
    use crate::domain::{Event, RemoteStatus};
    use crate::store::handle::Store;
    use crate::store::new_job::NewJob;
    use crate::store::tables::ended_imports::EndedImport;
    use crate::store::test_util::{add, ended, leads, store};

    const SECOND: Duration = Duration::from_secs(1);

    async fn outlook(store: &Store, now: i64) -> QueueOutlook {
        store.outlook("default", from_ms(now), SECOND).await.unwrap()
    }

    #[tokio::test]
    async fn queue_is_by_priority_and_age_with_group_heads() {
        let store = store().await;
        add(&store, leads(), 2).await;
        add(&store, NewJob { group: Some("a".into()), ..leads() }, 1).await;
        add(&store, NewJob { group: Some("a".into()), priority: 5, ..leads() }, 1).await;
        add(&store, NewJob { instance: "other".into(), ..leads() }, 1).await;
        let outlook = outlook(&store, 2_000).await;
        let queued: Vec<_> =
            outlook.queued.iter().map(|batch| (batch.key.to_string(), batch.group_head.map(|job| job.0))).collect();
        let expected = [("3/1", Some(2)), ("1/1", None), ("1/2", None), ("2/1", Some(2))];
        assert_eq!(queued, expected.map(|(key, head)| (key.to_owned(), head)));
        assert!(!outlook.has_more);
    }

    #[tokio::test]
    async fn a_long_queue_is_cut() {
        let store = store().await;
        add(&store, leads(), MAX_QUEUED).await;
        assert!(!outlook(&store, 2_000).await.has_more);
        add(&store, leads(), 2).await;
        let outlook = outlook(&store, 2_000).await;
        assert_eq!((outlook.queued.len(), outlook.has_more), (MAX_QUEUED as usize, true));
        assert!(outlook.queued.iter().all(|batch| batch.key.job == JobId(1)));
    }

    #[tokio::test]
    async fn imports_that_ended_within_a_week_are_known() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 1).await, part: 1 };
        let accepted = Event::Accepted { marketo_batch_id: "1".into(), status: RemoteStatus::Queued };
        for (event, at) in
            [(Event::UploadBegan, 1_000), (accepted, 2_000), (ended(1, 0), 5_000), (Event::Collected, 6_000)]
        {
            store.record_event(key, event, None, from_ms(at)).await.unwrap();
        }
        let import = EndedImport { rows: 1, accepted_at: from_ms(2_000), ended_at: from_ms(5_000) };
        assert_eq!(outlook(&store, 7_000).await.snapshot.ended_imports, [import]);
        let week = 7 * 24 * 3_600_000;
        assert_eq!(outlook(&store, week + 5_999).await.snapshot.ended_imports, [import]);
        assert_eq!(outlook(&store, week + 6_000).await.snapshot.ended_imports, []);
    }
}
