//! Access tokens of the API's clients.

use jiff::Timestamp;

use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::tables::api_tokens::StoredToken;

impl Store {
    /// Returns all stored tokens, expired ones included.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn api_tokens(&self) -> Result<Vec<StoredToken>, StoreError> {
        let mut conn = self.reader().await?;
        ReadTx::new(&mut conn).api_tokens().await
    }

    /// Stores a token, and deletes those that were issued before `issued_before`.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn insert_api_token(&self, token: StoredToken, issued_before: Timestamp) -> Result<(), StoreError> {
        self.write("insert_api_token", move |tx| Box::pin(tx.insert_api_token(token, issued_before))).await
    }

    /// Deletes the tokens with these hashes.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn delete_api_tokens(&self, hashes: Vec<[u8; 32]>) -> Result<(), StoreError> {
        self.write("delete_api_tokens", move |tx| Box::pin(tx.delete_api_tokens(hashes))).await
    }
}
