//! Row matches: reads for each row of a report the row that was sent, and which rows are unknown. They are written with
//! the sizes of the reports.

use crate::domain::{BatchKey, ReportKind};
use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::tables::row_matches::StoredRowMatch;

impl Store {
    /// Returns the match of the rows of a batch's report; none where it was not made.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn row_match(&self, key: BatchKey, kind: ReportKind) -> Result<Option<StoredRowMatch>, StoreError> {
        let read = async {
            let mut conn = self.reader().await?;
            ReadTx::new(&mut conn).row_match(key, kind).await
        };
        self.verified(read).await
    }
    /// Returns the rows of a batch whose outcome is unknown, as
    /// [`encode_rows`](crate::delimited::encode_rows) gives them: each other row is known, although the batch may have
    /// no counts. None where the outcome follows from the batch's counts and reports.
    ///
    /// # Errors
    /// [`StoreError::NoBatch`], or an error of reading the database.
    pub async fn unknown_rows(&self, key: BatchKey) -> Result<Option<Vec<u8>>, StoreError> {
        let read = async {
            let mut conn = self.reader().await?;
            ReadTx::new(&mut conn).unknown_rows(key).await
        };
        self.verified(read).await
    }
}
