//! Incomplete submissions: deletes files that never became jobs, a few chunks at a time.

use crate::domain::JobId;
use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;

/// How many chunks of a file one transaction deletes.
const CHUNKS_PER_TRANSACTION: u32 = 8;

impl StoreTx<'_> {
    /// Deletes some chunks of an incomplete submission, or finally its row. Returns whether there is more.
    pub(crate) async fn abort_submission(&mut self, id: JobId) -> Result<bool, StoreError> {
        let chunks = sqlx::query(
            "DELETE FROM chunk WHERE rowid IN
             (SELECT c.rowid FROM chunk c JOIN job j ON j.id = c.job_id
              WHERE c.job_id = ? AND j.state = 'receiving' LIMIT ?)",
        )
        .bind(id.0)
        .bind(CHUNKS_PER_TRANSACTION)
        .execute(&mut *self.conn)
        .await?;
        if chunks.rows_affected() > 0 {
            return Ok(true);
        }
        sqlx::query("DELETE FROM job WHERE id = ? AND state = 'receiving'").bind(id.0).execute(&mut *self.conn).await?;
        Ok(false)
    }
}

impl ReadTx<'_> {
    /// Returns the submissions whose files are not complete.
    pub(crate) async fn incomplete_submissions(&mut self) -> Result<Vec<JobId>, StoreError> {
        let ids: Vec<i64> =
            sqlx::query_scalar("SELECT id FROM job WHERE state = 'receiving'").fetch_all(&mut *self.conn).await?;
        Ok(ids.into_iter().map(JobId).collect())
    }
}
