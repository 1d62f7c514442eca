//! Jobs: reads them, and erases their data.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use crate::domain::{BatchKey, JobId, JobState};
use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::job_filter::{JobFilter, JobPage};
use crate::store::models::{Batch, ErasableData, HistoryEntry, Job};
use crate::store::tables::retention::{DeletedRecords, EndedRange, RetentionCandidates};

impl Store {
    /// Returns a job with its batches.
    ///
    /// # Errors
    /// [`StoreError::NoJob`], or an error of reading the database.
    pub async fn job(&self, id: JobId) -> Result<Job, StoreError> {
        let mut conn = self.reader().await?;
        ReadTx::new(&mut conn).job(id).await
    }

    /// Returns these jobs, by id. Those that are not there are left out.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn jobs_by_id(&self, ids: &[JobId]) -> Result<Vec<Job>, StoreError> {
        let mut conn = self.read_transaction().await?;
        ReadTx::new(&mut conn).jobs_by_id(ids).await
    }

    /// Returns at most `limit` jobs, newest first, with ids below `before`; with `state`, only those in it.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn jobs(
        &self,
        state: Option<JobState>,
        limit: u32,
        before: Option<JobId>,
    ) -> Result<Vec<Job>, StoreError> {
        let filter = JobFilter { state, ..JobFilter::default() };
        self.find_jobs(&JobPage { filter, limit, before }).await
    }

    /// Returns the jobs of a page, newest first.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn find_jobs(&self, page: &JobPage) -> Result<Vec<Job>, StoreError> {
        let mut conn = self.read_transaction().await?;
        ReadTx::new(&mut conn).jobs(page).await
    }

    /// Returns the history of a job, oldest entry first.
    ///
    /// # Errors
    /// [`StoreError::NoJob`], or an error of reading the database.
    pub async fn history(&self, id: JobId) -> Result<Vec<HistoryEntry>, StoreError> {
        let mut conn = self.reader().await?;
        ReadTx::new(&mut conn).history(id).await
    }

    /// Returns the job of a batch, and the batch.
    ///
    /// # Errors
    /// [`StoreError::NoJob`] or [`StoreError::NoBatch`], or an error of reading the database.
    pub async fn batch(&self, key: BatchKey) -> Result<(Job, Batch), StoreError> {
        let mut conn = self.reader().await?;
        ReadTx::new(&mut conn).batch(key).await
    }

    /// Returns the oldest unended job of each of these groups of an instance.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn group_heads(&self, instance: &str, groups: Vec<String>) -> Result<HashMap<String, JobId>, StoreError> {
        let mut conn = self.reader().await?;
        let mut read = ReadTx::new(&mut conn);
        let mut heads = HashMap::new();
        for group in groups.into_iter().collect::<BTreeSet<_>>() {
            if let Some(head) = read.group_head(instance, &group).await? {
                heads.insert(group, head);
            }
        }
        Ok(heads)
    }

    /// Erases the content and the reports of an ended job, for `reason`. On return all their chunks are deleted;
    /// [`Store::truncate_wal`] then removes them from the WAL.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the job has not ended, or an error of writing the database.
    pub async fn erase(&self, id: JobId, reason: &'static str, now: Timestamp) -> Result<(), StoreError> {
        self.write("erase", move |tx| Box::pin(tx.mark_job_erased(id, reason, now))).await?;
        while self.erase_chunks(Some(id)).await? {}
        Ok(())
    }

    /// Deletes some chunks of data that is marked as erased, of one job or of all. Returns whether there is more.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn erase_chunks(&self, of: Option<JobId>) -> Result<bool, StoreError> {
        self.write("erase_chunks", move |tx| Box::pin(tx.erase_chunks(of))).await
    }

    /// Returns the jobs that ended in `ended` and whose content or reports are to be erased.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn find_expired(&self, what: ErasableData, ended: EndedRange) -> Result<RetentionCandidates, StoreError> {
        let mut conn = self.read_transaction().await?;
        ReadTx::new(&mut conn).find_expired(what, ended).await
    }

    /// Returns the jobs of an instance whose attempts were used up and whose content is kept for a retry; with
    /// `client_id` only those of that client.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn find_exhausted_jobs(
        &self,
        name: &str,
        client_id: Option<&str>,
    ) -> Result<RetentionCandidates, StoreError> {
        let mut conn = self.reader().await?;
        ReadTx::new(&mut conn).find_exhausted_jobs(name, client_id).await
    }

    /// Returns the jobs that ended in `ended` and whose records are to be deleted.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn find_expired_records(
        &self,
        ended: EndedRange,
        now: Timestamp,
    ) -> Result<RetentionCandidates, StoreError> {
        let mut conn = self.reader().await?;
        ReadTx::new(&mut conn).find_expired_records(ended, now).await
    }

    /// Marks some expired data as erased, for `reason`. Returns the number of jobs; 0 when there are no more.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn mark_expired(
        &self,
        what: ErasableData,
        ended: EndedRange,
        reason: &'static str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.write("mark_expired", move |tx| Box::pin(tx.mark_expired(what, ended, reason, now))).await
    }

    /// Deletes some expired records of jobs without stored chunks.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn delete_expired_records(
        &self,
        ended: EndedRange,
        now: Timestamp,
    ) -> Result<DeletedRecords, StoreError> {
        self.write("delete_expired_records", move |tx| Box::pin(tx.delete_expired_records(ended, now))).await
    }
}
