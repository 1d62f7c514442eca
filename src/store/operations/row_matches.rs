//! Row matches: reads for each row of a report the row that was sent. They are written with the sizes of the reports.

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
}
