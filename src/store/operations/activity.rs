//! Activity: counts of what happened, for plots.

use jiff::Timestamp;

use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::tables::activity::{ActivityQuery, ActivityStep};

impl Store {
    /// Returns the steps of a time in which something happened, in their order.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn activity(&self, query: ActivityQuery) -> Result<Vec<ActivityStep>, StoreError> {
        let mut conn = self.reader().await?;
        ReadTx::new(&mut conn).activity(&query).await
    }

    /// Deletes the counts of what happened before `until`.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn delete_activity(&self, until: Timestamp) -> Result<(), StoreError> {
        self.write("delete_activity", move |tx| Box::pin(tx.delete_activity(until))).await
    }
}
