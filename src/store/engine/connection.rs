//! Connections: options of the writing and the read-only connections, and the opening of the database.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};

use crate::store::engine::health::DatabaseHealth;
use crate::store::engine::schema;
use crate::store::error::StoreError;

/// Opens the writing connection and migrates the database to the newest schema.
///
/// # Errors
/// The error of SQLite or of a migration.
pub(crate) async fn connect(path: &Path, health: &DatabaseHealth) -> Result<SqliteConnection, StoreError> {
    let mut conn = write_options(path).create_if_missing(true).connect().await?;
    schema::migrator().run(&mut conn).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => StoreError::Refused(other.to_string()),
    })?;
    health.files.record_opened()?;
    Ok(conn)
}

/// Options of a read-only connection. Journal mode and page size are not among them: only a writer can set them, and
/// they are stored in the file.
pub(crate) fn read_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .pragma("cache_size", "-512")
        .busy_timeout(Duration::from_secs(10))
        .disable_statement_logging()
}

/// Options of the writing connection.
pub(crate) fn write_options(path: &Path) -> SqliteConnectOptions {
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
        .busy_timeout(Duration::from_secs(10))
        .disable_statement_logging()
}
