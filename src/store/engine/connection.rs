//! Connections: options of the writing and of the reading connections.

use std::path::Path;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::store::engine::checkpointer::MAX_PAGES;

/// Read connections. More bring nothing on a small machine, and each has a page cache of its own.
const MAX_READERS: u32 = 4;

/// Returns a pool of read-only connections, which are opened when they are needed.
pub(crate) fn reader_pool(path: &Path) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(MAX_READERS)
        .min_connections(0)
        .idle_timeout(Duration::from_secs(60))
        // A file is there or its reads fail: asking the connection's thread first would only double the shortest reads.
        .test_before_acquire(false)
        .connect_lazy_with(reader_options(path))
}

/// Options of a read-only connection. Journal mode and page size are not among them: only a writer can set them, and
/// they are stored in the file.
pub(crate) fn reader_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .pragma("cache_size", "-512")
        .busy_timeout(Duration::from_secs(10))
        .disable_statement_logging()
}

/// Options of the writing connection.
pub(crate) fn writer_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        // On a reconnect a missing file means that the database was moved. A new one must not take its place.
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        // An accepted file survives a power cut: the commit waits for the disk.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .page_size(8192)
        .pragma("secure_delete", "ON")
        // A WAL that has grown under load is truncated after its checkpoint.
        .pragma("journal_size_limit", "16777216")
        // The checkpointer comes before.
        .pragma("wal_autocheckpoint", MAX_PAGES)
        .busy_timeout(Duration::from_secs(10))
        .disable_statement_logging()
}
