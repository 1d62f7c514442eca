//! Incomplete submissions: deletes files that never became jobs, a few chunks at a time.

use crate::domain::JobId;
use crate::store::Store;
use crate::store::engine::writer::StoreTx;
use crate::store::error::StoreError;

impl Store {
    /// Deletes what was received of a file that was rejected or interrupted. A complete job is not changed. Each transaction
    /// deletes a few chunks, so that a large file does not block the writer. The content stays in the WAL until
    /// [`Store::truncate_wal`].
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn abort_submission(&self, id: JobId) -> Result<(), StoreError> {
        while self.write("abort_submission", move |tx| Box::pin(erase_chunks(tx, id))).await? {}
        self.shared.submission_aborted.notify_one();
        Ok(())
    }

    /// Returns when an incomplete submission has been deleted since the last call returned.
    pub async fn wait_for_incomplete_submissions(&self) {
        self.shared.submission_aborted.notified().await;
    }

    /// Deletes incomplete submissions of an earlier process. None of them was acknowledged.
    pub(crate) async fn erase_incomplete_submissions(&self) -> Result<(), StoreError> {
        let left: Vec<i64> =
            sqlx::query_scalar("SELECT id FROM job WHERE state = 'receiving'").fetch_all(self.readers()).await?;
        for id in left {
            self.abort_submission(JobId(id)).await?;
        }
        Ok(())
    }
}

/// How many chunks of a file one transaction deletes.
const CHUNKS_PER_TRANSACTION: u32 = 8;

/// Deletes some chunks of an incomplete submission, or finally its row. Returns whether there is more.
async fn erase_chunks(tx: &mut StoreTx<'_>, id: JobId) -> Result<bool, StoreError> {
    let chunks = sqlx::query(
        "DELETE FROM chunk WHERE rowid IN
         (SELECT c.rowid FROM chunk c JOIN job j ON j.id = c.job_id
          WHERE c.job_id = ? AND j.state = 'receiving' LIMIT ?)",
    )
    .bind(id.0)
    .bind(CHUNKS_PER_TRANSACTION)
    .execute(&mut *tx.conn)
    .await?;
    if chunks.rows_affected() > 0 {
        return Ok(true);
    }
    sqlx::query("DELETE FROM job WHERE id = ? AND state = 'receiving'").bind(id.0).execute(&mut *tx.conn).await?;
    Ok(false)
}
