//! Ended imports: the imports of an instance that ended last, from which durations are estimated.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::clock::from_ms;
use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::tables::candidates::SnapshotQuery;
use crate::store::tables::row_mapping::size_column;

/// How many ended imports durations are estimated from, and among how many of the last ones they are searched.
const ENDED_IMPORTS: u32 = 20;
const ENDED_IMPORTS_SEARCHED: u32 = 1_000;

/// The largest age of such an import: Marketo's speed changes.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// An import that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedImport {
    /// How many rows it had.
    pub rows: u64,
    /// When Marketo accepted the upload.
    pub accepted_at: Timestamp,
    /// When a poll found that it had ended.
    pub ended_at: Timestamp,
}

impl FromRow<'_, SqliteRow> for EndedImport {
    fn from_row(row: &SqliteRow) -> Result<EndedImport, sqlx::Error> {
        Ok(EndedImport {
            rows: size_column(row, "rows")?,
            accepted_at: from_ms(row.try_get("accepted_at")?),
            ended_at: from_ms(row.try_get("polled_at")?),
        })
    }
}

impl ReadTx<'_> {
    /// Returns the imports of an instance that ended last, the latest first.
    pub(crate) async fn ended_imports(&mut self, query: &SnapshotQuery<'_>) -> Result<Vec<EndedImport>, StoreError> {
        let oldest = query.now.as_millisecond().saturating_sub(i64::try_from(MAX_AGE.as_millis()).unwrap_or(i64::MAX));
        let imports = sqlx::query_as(
            "SELECT rows, accepted_at, polled_at
             FROM (SELECT coalesce(import_rows, rows) AS rows, accepted_at, polled_at, ended_at FROM batch
                   WHERE instance = ? AND state = 'complete' AND leads_import = 1 AND ended_at > ?
                   ORDER BY ended_at DESC LIMIT ?) recent
             WHERE polled_at >= accepted_at
             ORDER BY ended_at DESC LIMIT ?",
        )
        .bind(query.instance)
        .bind(oldest)
        .bind(ENDED_IMPORTS_SEARCHED)
        .bind(ENDED_IMPORTS)
        .fetch_all(&mut *self.conn)
        .await?;
        Ok(imports)
    }
}
