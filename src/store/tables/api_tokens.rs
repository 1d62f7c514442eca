//! Access tokens of the API's clients, stored as hashes.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::clock::from_ms;
use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;

/// The record of an access token; the token itself is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredToken {
    /// The hash by which the token is found.
    pub token_sha256: [u8; 32],
    /// The client; empty for users of the socket.
    pub client_id: String,
    /// A hash of the client's secret with the token as its key, which shows whether the secret has changed.
    pub secret_check: [u8; 32],
    /// When the token was issued.
    pub issued_at: Timestamp,
}

impl FromRow<'_, SqliteRow> for StoredToken {
    fn from_row(row: &SqliteRow) -> Result<StoredToken, sqlx::Error> {
        let hash = |column| {
            let bytes: Vec<u8> = row.try_get(column)?;
            bytes.try_into().map_err(|_| sqlx::Error::Decode(format!("{column} has not 32 bytes").into()))
        };
        Ok(StoredToken {
            token_sha256: hash("token_sha256")?,
            client_id: row.try_get("client_id")?,
            secret_check: hash("secret_check")?,
            issued_at: from_ms(row.try_get("issued_at")?),
        })
    }
}

impl ReadTx<'_> {
    /// Returns all stored tokens, expired ones included.
    pub(crate) async fn api_tokens(&mut self) -> Result<Vec<StoredToken>, StoreError> {
        let tokens = sqlx::query_as("SELECT token_sha256, client_id, secret_check, issued_at FROM api_token")
            .fetch_all(&mut *self.conn)
            .await?;
        Ok(tokens)
    }
}

impl StoreTx<'_> {
    /// Stores a token, and deletes those that were issued before `issued_before`.
    pub(crate) async fn insert_api_token(
        &mut self,
        token: StoredToken,
        issued_before: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM api_token WHERE issued_at < ?")
            .bind(issued_before.as_millisecond())
            .execute(&mut *self.conn)
            .await?;
        sqlx::query(
            "INSERT OR IGNORE INTO api_token (token_sha256, client_id, secret_check, issued_at) VALUES (?, ?, ?, ?)",
        )
        .bind(token.token_sha256.as_slice())
        .bind(token.client_id)
        .bind(token.secret_check.as_slice())
        .bind(token.issued_at.as_millisecond())
        .execute(&mut *self.conn)
        .await?;
        Ok(())
    }

    /// Deletes the tokens with these hashes.
    pub(crate) async fn delete_api_tokens(&mut self, hashes: Vec<[u8; 32]>) -> Result<(), StoreError> {
        for hash in hashes {
            sqlx::query("DELETE FROM api_token WHERE token_sha256 = ?")
                .bind(hash.to_vec())
                .execute(&mut *self.conn)
                .await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::handle::Store;

    #[tokio::test]
    async fn tokens_are_kept_until_they_expire_or_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("q.db")).await.unwrap();
        let token = |n: u8, at| StoredToken {
            token_sha256: [n; 32],
            client_id: format!("client-{n}"),
            secret_check: [n + 1; 32],
            issued_at: from_ms(at),
        };
        for (n, at) in [(1, 1_000), (2, 2_000), (2, 2_000), (3, 3_000)] {
            store.insert_api_token(token(n, at), from_ms(0)).await.unwrap();
        }
        assert_eq!(store.api_tokens().await.unwrap(), [token(1, 1_000), token(2, 2_000), token(3, 3_000)]);
        store.insert_api_token(token(4, 4_000), from_ms(2_000)).await.unwrap();
        store.delete_api_tokens(vec![[3; 32], [9; 32]]).await.unwrap();
        assert_eq!(store.api_tokens().await.unwrap(), [token(2, 2_000), token(4, 4_000)]);
    }
}
