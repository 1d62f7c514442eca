//! What becomes of a file that never became a job? It is erased a few pieces at a time.

use crate::domain::JobId;
use crate::store::Store;
use crate::store::engine::writer::StoreTx;
use crate::store::error::StoreError;

impl Store {
    /// Drops what streamed in of a file that was refused or cut off. A job that was finished is not touched. A few pieces
    /// at a time, so that a large one holds nobody up. It then still stands in the log, until [`Store::scrub`].
    pub async fn abort_submission(&self, id: JobId) -> Result<(), StoreError> {
        while self.shared.writer.write(move |w| Box::pin(erase_chunks(w, id))).await? {}
        self.shared.swept.notify_one();
        Ok(())
    }

    /// Returns when something was dropped that never became a job, since the last time that this returned.
    pub async fn wait_for_incomplete_submissions(&self) {
        self.shared.swept.notified().await;
    }

    /// Drops what a daemon that died left half received. None of it was acknowledged.
    pub(crate) async fn erase_incomplete_submissions(&self) -> Result<(), StoreError> {
        let left: Vec<i64> =
            sqlx::query_scalar("SELECT id FROM job WHERE state = 'receiving'").fetch_all(self.readers()).await?;
        for id in left {
            self.abort_submission(JobId(id)).await?;
        }
        Ok(())
    }
}

/// How many pieces of a file one transaction erases.
const CHUNKS_AT_ONCE: u32 = 8;

/// Erases some pieces of a half-received file, or the last of it. True while there is more.
async fn erase_chunks(w: &mut StoreTx<'_>, id: JobId) -> Result<bool, StoreError> {
    let pieces = sqlx::query(
        "DELETE FROM chunk WHERE rowid IN
         (SELECT c.rowid FROM chunk c JOIN job j ON j.id = c.job_id
          WHERE c.job_id = ? AND j.state = 'receiving' LIMIT ?)",
    )
    .bind(id.0)
    .bind(CHUNKS_AT_ONCE)
    .execute(&mut *w.conn)
    .await?;
    if pieces.rows_affected() > 0 {
        return Ok(true);
    }
    sqlx::query("DELETE FROM job WHERE id = ? AND state = 'receiving'").bind(id.0).execute(&mut *w.conn).await?;
    Ok(false)
}
