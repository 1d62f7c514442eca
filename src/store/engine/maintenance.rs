//! Maintenance: the size of the database, truncation of the WAL, and incremental vacuum.
//!
//! `secure_delete` overwrites deleted data with zeros, but the WAL keeps old pages until it is overwritten. So erased
//! data is gone from all files only after the WAL was truncated.

use std::path::Path;
use std::time::Duration;

use sqlx::{ConnectOptions, Connection, Row};

use crate::store::engine::connection::writer_options;
use crate::store::engine::database_paths::wal_path;
use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;

/// How long a truncation waits for a lock, and so the longest time for which it may block the writer.
const BUSY_TIMEOUT: Duration = Duration::from_millis(50);

/// Sizes in bytes of the database's files and of its unused pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatabaseSize {
    /// The database file.
    pub database: u64,
    /// The WAL.
    pub log: u64,
    /// Unused pages of the database file.
    pub free: u64,
}

impl ReadTx<'_> {
    /// Returns the sizes of the files of the database at `path`.
    pub(crate) async fn database_size(&mut self, path: &Path) -> Result<DatabaseSize, StoreError> {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let free: i64 = sqlx::query_scalar(
            "SELECT (SELECT freelist_count FROM pragma_freelist_count) * (SELECT page_size FROM pragma_page_size)",
        )
        .fetch_one(&mut *self.conn)
        .await?;
        Ok(DatabaseSize { database: size(path), log: size(&wal_path(path)), free: free.cast_unsigned() })
    }
}

impl StoreTx<'_> {
    /// Writes the unused `user_version` field of the database header, as the smallest write that reaches the disk.
    pub(crate) async fn write_header(&mut self) -> Result<(), StoreError> {
        sqlx::query("PRAGMA user_version = 1").execute(&mut *self.conn).await?;
        Ok(())
    }

    /// Returns at most `pages` unused pages to the file system, and returns how many are left.
    pub(crate) async fn incremental_vacuum(&mut self, pages: u32) -> Result<u64, StoreError> {
        // A pragma takes no bound value. The number can contain no SQL.
        let sql = sqlx::AssertSqlSafe(format!("PRAGMA incremental_vacuum({pages})"));
        sqlx::query(sql).fetch_all(&mut *self.conn).await?;
        let left: i64 = sqlx::query_scalar("PRAGMA freelist_count").fetch_one(&mut *self.conn).await?;
        Ok(left.cast_unsigned())
    }
}

/// Copies the whole WAL of the database at `path` into the database and truncates it. Returns false if a reader or
/// writer was active. It uses a connection of its own with a short timeout, so that it does not block the writer.
pub(crate) async fn truncate_wal(path: &Path) -> Result<bool, StoreError> {
    match checkpoint_truncate(path).await {
        Err(error) if is_busy(&error) => Ok(false),
        done => Ok(done?),
    }
}

async fn checkpoint_truncate(path: &Path) -> Result<bool, sqlx::Error> {
    let mut conn = writer_options(path).busy_timeout(BUSY_TIMEOUT).connect().await?;
    // Most of it first with a passive checkpoint, which blocks no writer.
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut conn).await?;
    let busy: i64 = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut conn).await?.try_get(0)?;
    conn.close().await?;
    Ok(busy == 0)
}

fn is_busy(error: &sqlx::Error) -> bool {
    const SQLITE_BUSY: &str = "5";
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == SQLITE_BUSY)
}

#[cfg(test)]
mod tests {
    use crate::store::test_util::{add, leads, store};

    #[tokio::test]
    async fn the_log_is_truncated_unless_a_reader_uses_it() {
        let store = store().await;
        add(&store, leads(), 1).await;
        assert!(store.database_size().await.unwrap().log > 0);
        let mut reader = store.shared.readers.begin().await.unwrap();
        sqlx::query("SELECT count(*) FROM job").fetch_one(&mut *reader).await.unwrap();
        add(&store, leads(), 1).await;
        assert!(!store.truncate_wal().await.unwrap());
        assert!(store.database_size().await.unwrap().log > 0);
        drop(reader);
        // A dropped transaction is rolled back later by its connection's thread.
        while !store.truncate_wal().await.unwrap() {
            tokio::task::yield_now().await;
        }
        assert_eq!(store.database_size().await.unwrap().log, 0);
        assert_eq!(store.jobs(None, 9, None).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn free_pages_are_released_in_small_steps() {
        let store = store().await;
        let id = add(&store, leads(), 1).await;
        let noise: Vec<u8> = (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        store
            .insert_chunks(
                id,
                vec![crate::store::tables::chunks::CompressedChunk::compress(1_000_000, &noise).unwrap()],
            )
            .await
            .unwrap();
        store.cancel(id, crate::clock::from_ms(2_000)).await.unwrap();
        store.erase(id, "test", crate::clock::from_ms(3_000)).await.unwrap();
        let free = store.database_size().await.unwrap().free;
        assert!(free > 10 * 8192, "{free}");
        let left = store.incremental_vacuum(4).await.unwrap();
        assert_eq!(left, free / 8192 - 4);
        while store.incremental_vacuum(64).await.unwrap() > 0 {}
        assert_eq!(store.database_size().await.unwrap().free, 0);
    }
}
