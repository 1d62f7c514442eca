//! Retention: finds data of ended jobs that has expired, and marks or deletes it.
//!
//! Search and change are one transaction, so that a job that is retried in between is not found.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::Row;

use crate::domain::JobId;
use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;
use crate::store::models::ErasableData;
use crate::store::tables::instance_lists::names_parameter;
use crate::store::tables::row_mapping::size_column;

/// Selects jobs by their end: after `after`, and not after `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedRange {
    /// The end is later than this.
    pub after: Timestamp,
    /// The end is not later than this.
    pub until: Timestamp,
    /// Replaces `until` for the content of jobs whose attempts were used up; not later than `until`.
    pub exhausted_until: Timestamp,
}

/// Jobs whose data is to be erased, or that wait for an operator, and the size of that data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionCandidates {
    /// How many jobs.
    pub jobs: u64,
    /// Size in bytes before compression; 0 for records.
    pub bytes: u64,
    /// The jobs that ended first, at most [`MAX_LISTED`].
    pub first: Vec<JobId>,
}

/// How many candidates are listed by their ids.
pub const MAX_LISTED: u32 = 100;

/// How many jobs one transaction marks, or how many records it deletes.
const JOBS_PER_TRANSACTION: u32 = 32;

/// How many history entries one transaction deletes; the last job may add to it.
const HISTORY_ENTRIES_PER_TRANSACTION: u64 = 500;

/// The content of a job whose attempts were used up is kept longer, so that an operator can retry it.
macro_rules! content_expired {
    () => {
        "finished_at > ?1 AND finished_at <= ?2 AND content_erased_at IS NULL
         AND (finished_at <= ?3 OR NOT EXISTS (SELECT 1 FROM batch b WHERE b.job_id = job.id AND b.given_up = 1))"
    };
}

/// The record of a job stays while it has an unconfirmed import, or a pending notification or alert.
macro_rules! record_expired {
    () => {
        "finished_at > ?1 AND finished_at <= ?2
         AND NOT EXISTS (SELECT 1 FROM batch b WHERE b.job_id = job.id AND b.unconfirmed_until > ?3)
         AND NOT EXISTS (SELECT 1 FROM pending_notification n WHERE n.job_id = job.id)
         AND NOT EXISTS (SELECT 1 FROM pending_alert a WHERE a.job_id = job.id)"
    };
}

/// What [`crate::store::Store::delete_expired_records`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeletedRecords {
    /// How many jobs were deleted.
    pub jobs: u64,
    /// Whether there may be more.
    pub has_more: bool,
}

impl ReadTx<'_> {
    /// Returns the jobs that ended in `ended` and whose content or reports are to be erased.
    pub(crate) async fn find_expired(
        &mut self,
        what: ErasableData,
        ended: EndedRange,
    ) -> Result<RetentionCandidates, StoreError> {
        let sql = match what {
            ErasableData::Content => {
                concat!("SELECT count(*) AS jobs, coalesce(sum(bytes), 0) AS bytes FROM job WHERE ", content_expired!())
            }
            ErasableData::Reports => {
                "SELECT count(*) AS jobs,
                        coalesce(sum((SELECT sum(coalesce(failures_bytes, 0) + coalesce(warnings_bytes, 0))
                                      FROM batch WHERE job_id = job.id)), 0) AS bytes FROM job
                 WHERE finished_at > ?1 AND finished_at <= ?2 AND reports_erased_at IS NULL"
            }
        };
        let row = sqlx::query(sql)
            .bind(ended.after.as_millisecond())
            .bind(ended.until.as_millisecond())
            .bind(ended.exhausted_until.as_millisecond())
            .fetch_one(&mut *self.conn)
            .await?;
        let first = self.expired_ids(what, ended, MAX_LISTED).await?;
        Ok(RetentionCandidates { jobs: size_column(&row, "jobs")?, bytes: size_column(&row, "bytes")?, first })
    }

    /// Returns the jobs of an instance whose attempts were used up and whose content is kept for a retry; with
    /// `client_id` only those of that client.
    pub(crate) async fn find_exhausted_jobs(
        &mut self,
        name: &str,
        client_id: Option<&str>,
    ) -> Result<RetentionCandidates, StoreError> {
        Ok(self.exhausted_jobs_of(&names_parameter([name]), client_id).await?.remove(name).unwrap_or_default())
    }

    /// Returns the same for each instance that has such jobs; `names` is a [`names_parameter`].
    pub(crate) async fn exhausted_jobs_of(
        &mut self,
        names: &str,
        client_id: Option<&str>,
    ) -> Result<HashMap<String, RetentionCandidates>, StoreError> {
        let rows = sqlx::query(
            "SELECT instance, id, bytes FROM job
             WHERE id IN (SELECT job_id FROM batch
                          WHERE given_up = 1 AND instance IN (SELECT value FROM json_each(?1))) AND state = 'failed'
               AND content_erased_at IS NULL AND (?2 IS NULL OR (source = 'client' AND source_name = ?2))
             ORDER BY finished_at",
        )
        .bind(names)
        .bind(client_id)
        .fetch_all(&mut *self.conn)
        .await?;
        let mut all = HashMap::<String, RetentionCandidates>::new();
        for row in &rows {
            let exhausted = all.entry(row.try_get("instance")?).or_default();
            exhausted.jobs += 1;
            exhausted.bytes += size_column(row, "bytes")?;
            if exhausted.first.len() < MAX_LISTED as usize {
                exhausted.first.push(JobId(row.try_get("id")?));
            }
        }
        Ok(all)
    }

    /// Returns the jobs that ended in `ended` and whose records are to be deleted.
    pub(crate) async fn find_expired_records(
        &mut self,
        ended: EndedRange,
        now: Timestamp,
    ) -> Result<RetentionCandidates, StoreError> {
        let jobs: i64 = sqlx::query_scalar(concat!("SELECT count(*) FROM job WHERE ", record_expired!()))
            .bind(ended.after.as_millisecond())
            .bind(ended.until.as_millisecond())
            .bind(now.as_millisecond())
            .fetch_one(&mut *self.conn)
            .await?;
        let first: Vec<i64> = sqlx::query_scalar(concat!(
            "SELECT id FROM job WHERE ",
            record_expired!(),
            " ORDER BY finished_at LIMIT ?4"
        ))
        .bind(ended.after.as_millisecond())
        .bind(ended.until.as_millisecond())
        .bind(now.as_millisecond())
        .bind(MAX_LISTED)
        .fetch_all(&mut *self.conn)
        .await?;
        Ok(RetentionCandidates { jobs: jobs.cast_unsigned(), bytes: 0, first: first.into_iter().map(JobId).collect() })
    }

    async fn expired_ids(
        &mut self,
        what: ErasableData,
        ended: EndedRange,
        limit: u32,
    ) -> Result<Vec<JobId>, StoreError> {
        let sql = match what {
            ErasableData::Content => {
                concat!("SELECT id FROM job WHERE ", content_expired!(), " ORDER BY finished_at LIMIT ?4")
            }
            ErasableData::Reports => {
                "SELECT id FROM job WHERE finished_at > ?1 AND finished_at <= ?2 AND reports_erased_at IS NULL
                 ORDER BY finished_at LIMIT ?4"
            }
        };
        let ids: Vec<i64> = sqlx::query_scalar(sql)
            .bind(ended.after.as_millisecond())
            .bind(ended.until.as_millisecond())
            .bind(ended.exhausted_until.as_millisecond())
            .bind(limit)
            .fetch_all(&mut *self.conn)
            .await?;
        Ok(ids.into_iter().map(JobId).collect())
    }
}

impl StoreTx<'_> {
    /// Marks some expired data as erased, for `reason`. Returns the number of jobs; 0 when there are no more.
    pub(crate) async fn mark_expired(
        &mut self,
        what: ErasableData,
        ended: EndedRange,
        reason: &'static str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut marked = 0;
        for id in self.expired_ids(what, ended, JOBS_PER_TRANSACTION).await? {
            marked += u64::from(self.mark_erased(id, what, reason, now).await?);
        }
        Ok(marked)
    }

    /// Deletes some expired records of jobs without stored chunks.
    pub(crate) async fn delete_expired_records(
        &mut self,
        ended: EndedRange,
        now: Timestamp,
    ) -> Result<DeletedRecords, StoreError> {
        let expired = sqlx::query(concat!(
            "SELECT id FROM job WHERE ",
            record_expired!(),
            " AND NOT EXISTS (SELECT 1 FROM chunk c WHERE c.job_id = job.id) ORDER BY finished_at LIMIT ?4"
        ))
        .bind(ended.after.as_millisecond())
        .bind(ended.until.as_millisecond())
        .bind(now.as_millisecond())
        .bind(JOBS_PER_TRANSACTION)
        .fetch_all(&mut *self.conn)
        .await?;
        let (mut deleted, mut entries) = (0, 0);
        for row in &expired {
            let id: i64 = row.try_get("id")?;
            let done = sqlx::query("DELETE FROM history WHERE id IN (SELECT id FROM history WHERE job_id = ? LIMIT ?)")
                .bind(id)
                .bind(HISTORY_ENTRIES_PER_TRANSACTION.cast_signed())
                .execute(&mut *self.conn)
                .await?;
            entries += done.rows_affected();
            if done.rows_affected() < HISTORY_ENTRIES_PER_TRANSACTION {
                sqlx::query("DELETE FROM job WHERE id = ?").bind(id).execute(&mut *self.conn).await?;
                deleted += 1;
            }
            if entries >= HISTORY_ENTRIES_PER_TRANSACTION {
                return Ok(DeletedRecords { jobs: deleted, has_more: true });
            }
        }
        Ok(DeletedRecords { jobs: deleted, has_more: expired.len() == JOBS_PER_TRANSACTION as usize })
    }
}
