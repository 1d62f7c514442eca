//! What has been kept for long enough? Looked for and dealt with in one transaction each, so that a job that is sent
//! again meanwhile is no longer found.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection};

use crate::domain::JobId;
use crate::store::Store;
use crate::store::engine::writer::StoreTx;
use crate::store::error::StoreError;
use crate::store::models::ErasableData;
use crate::store::tables::erase::mark_erased;
use crate::store::tables::row_mapping::size_column;

/// Which ended jobs: those whose end is after `after` and not after `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedRange {
    pub after: Timestamp,
    pub until: Timestamp,
    /// In place of `until` for the content of jobs that failed by their attempts; not after it.
    pub given_up_until: Timestamp,
}

/// Jobs of which something is to be erased, or that wait for someone, and what is stored of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetentionCandidates {
    pub jobs: u64,
    /// Before compression; of records 0.
    pub bytes: u64,
    /// The jobs that ended first, [`MAX_LISTED`] at most.
    pub first: Vec<JobId>,
}

/// How many jobs are named of those that are due.
pub const MAX_LISTED: u32 = 100;

/// How many jobs one transaction marks, or records it drops.
const JOBS_PER_TRANSACTION: u32 = 32;

/// How many lines of history one transaction drops beyond the last of its jobs.
const HISTORY_LINES_PER_TRANSACTION: u64 = 500;

/// The content of a job that failed by its attempts stays longer: someone may still send it again.
macro_rules! content_due {
    () => {
        "finished_at > ?1 AND finished_at <= ?2 AND content_erased_at IS NULL
         AND (finished_at <= ?3 OR NOT EXISTS (SELECT 1 FROM batch b WHERE b.job_id = job.id AND b.given_up = 1))"
    };
}

/// The record of a job stays while an import that nobody can see may count for it, or somebody is to be told of it.
macro_rules! droppable {
    () => {
        "finished_at > ?1 AND finished_at <= ?2
         AND NOT EXISTS (SELECT 1 FROM batch b WHERE b.job_id = job.id AND b.unconfirmed_until > ?3)
         AND NOT EXISTS (SELECT 1 FROM pending_notification n WHERE n.job_id = job.id)"
    };
}

impl Store {
    /// What there is to erase of jobs that ended then.
    pub async fn find_expired(&self, what: ErasableData, ended: EndedRange) -> Result<RetentionCandidates, StoreError> {
        let mut snapshot = self.readers().begin().await?;
        let sql = match what {
            ErasableData::Content => {
                concat!("SELECT count(*) AS jobs, coalesce(sum(bytes), 0) AS bytes FROM job WHERE ", content_due!())
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
            .bind(ended.given_up_until.as_millisecond())
            .fetch_one(&mut *snapshot)
            .await?;
        let first = select_expired(&mut snapshot, what, ended, MAX_LISTED).await?;
        Ok(RetentionCandidates { jobs: size_column(&row, "jobs")?, bytes: size_column(&row, "bytes")?, first })
    }

    /// The jobs of an instance that failed by their attempts and whose content is kept for someone to send them again;
    /// with `client_id` only those of that client.
    pub async fn find_exhausted_jobs(
        &self,
        name: &str,
        client_id: Option<&str>,
    ) -> Result<RetentionCandidates, StoreError> {
        let rows = sqlx::query(
            "SELECT id, bytes FROM job
             WHERE id IN (SELECT job_id FROM batch WHERE given_up = 1) AND instance = ?1 AND state = 'failed'
               AND content_erased_at IS NULL AND (?2 IS NULL OR (source = 'client' AND source_name = ?2))
             ORDER BY finished_at",
        )
        .bind(name)
        .bind(client_id)
        .fetch_all(self.readers())
        .await?;
        let mut waiting = RetentionCandidates { jobs: rows.len() as u64, ..RetentionCandidates::default() };
        for row in &rows {
            waiting.bytes += size_column(row, "bytes")?;
            if waiting.first.len() < MAX_LISTED as usize {
                waiting.first.push(JobId(row.try_get("id")?));
            }
        }
        Ok(waiting)
    }

    /// The records that are to be dropped of jobs that ended then.
    pub async fn find_expired_records(
        &self,
        ended: EndedRange,
        now: Timestamp,
    ) -> Result<RetentionCandidates, StoreError> {
        let (after, until) = (ended.after.as_millisecond(), ended.until.as_millisecond());
        let jobs: i64 = sqlx::query_scalar(concat!("SELECT count(*) FROM job WHERE ", droppable!()))
            .bind(after)
            .bind(until)
            .bind(now.as_millisecond())
            .fetch_one(self.readers())
            .await?;
        let first: Vec<i64> =
            sqlx::query_scalar(concat!("SELECT id FROM job WHERE ", droppable!(), " ORDER BY finished_at LIMIT ?4"))
                .bind(after)
                .bind(until)
                .bind(now.as_millisecond())
                .bind(MAX_LISTED)
                .fetch_all(self.readers())
                .await?;
        Ok(RetentionCandidates { jobs: jobs.cast_unsigned(), bytes: 0, first: first.into_iter().map(JobId).collect() })
    }

    /// Marks some of what is due as erased, for `reason`. Returns how many jobs; 0: there are no more.
    pub async fn mark_expired(
        &self,
        what: ErasableData,
        ended: EndedRange,
        reason: &'static str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.shared
            .writer
            .write(move |w| {
                Box::pin(async move {
                    let mut marked = 0;
                    for id in select_expired(&mut *w.conn, what, ended, JOBS_PER_TRANSACTION).await? {
                        marked += u64::from(mark_erased(w, id, what, reason, now).await?);
                    }
                    Ok(marked)
                })
            })
            .await
    }

    /// Drops some records that are due and of which nothing is stored any more. Returns how many, and whether there may
    /// be more.
    pub async fn delete_expired_records(&self, ended: EndedRange, now: Timestamp) -> Result<(u64, bool), StoreError> {
        self.shared.writer.write(move |w| Box::pin(delete_records(w, ended, now))).await
    }
}

async fn select_expired(
    conn: &mut SqliteConnection,
    what: ErasableData,
    ended: EndedRange,
    limit: u32,
) -> Result<Vec<JobId>, StoreError> {
    let sql = match what {
        ErasableData::Content => concat!("SELECT id FROM job WHERE ", content_due!(), " ORDER BY finished_at LIMIT ?4"),
        ErasableData::Reports => {
            "SELECT id FROM job WHERE finished_at > ?1 AND finished_at <= ?2 AND reports_erased_at IS NULL
             ORDER BY finished_at LIMIT ?4"
        }
    };
    let ids: Vec<i64> = sqlx::query_scalar(sql)
        .bind(ended.after.as_millisecond())
        .bind(ended.until.as_millisecond())
        .bind(ended.given_up_until.as_millisecond())
        .bind(limit)
        .fetch_all(conn)
        .await?;
    Ok(ids.into_iter().map(JobId).collect())
}

async fn delete_records(w: &mut StoreTx<'_>, ended: EndedRange, now: Timestamp) -> Result<(u64, bool), StoreError> {
    let due = sqlx::query(concat!(
        "SELECT id FROM job WHERE ",
        droppable!(),
        " AND NOT EXISTS (SELECT 1 FROM chunk c WHERE c.job_id = job.id) ORDER BY finished_at LIMIT ?4"
    ))
    .bind(ended.after.as_millisecond())
    .bind(ended.until.as_millisecond())
    .bind(now.as_millisecond())
    .bind(JOBS_PER_TRANSACTION)
    .fetch_all(&mut *w.conn)
    .await?;
    let (mut dropped, mut lines) = (0, 0);
    for row in &due {
        let id: i64 = row.try_get("id")?;
        let done = sqlx::query("DELETE FROM history WHERE id IN (SELECT id FROM history WHERE job_id = ? LIMIT ?)")
            .bind(id)
            .bind(HISTORY_LINES_PER_TRANSACTION.cast_signed())
            .execute(&mut *w.conn)
            .await?;
        lines += done.rows_affected();
        if done.rows_affected() < HISTORY_LINES_PER_TRANSACTION {
            sqlx::query("DELETE FROM job WHERE id = ?").bind(id).execute(&mut *w.conn).await?;
            dropped += 1;
        }
        if lines >= HISTORY_LINES_PER_TRANSACTION {
            return Ok((dropped, true));
        }
    }
    Ok((dropped, due.len() == JOBS_PER_TRANSACTION as usize))
}
