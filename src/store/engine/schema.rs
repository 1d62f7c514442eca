//! Schema: the migrations, compiled into the program, and the version of a database.

use std::borrow::Cow;
use std::path::Path;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{ConnectOptions, Connection, SqlSafeStr, SqliteConnection};

use crate::store::engine::connection::{reader_options, writer_options};
use crate::store::engine::health::DatabaseHealth;
use crate::store::error::StoreError;

/// Version, name and SQL. A released migration never changes: sqlx compares it with the checksum in the database.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "queue", include_str!("../../../migrations/0001_queue.sql")),
    (2, "lost answers and pauses", include_str!("../../../migrations/0002_lost_answers_and_pauses.sql")),
    (3, "sources", include_str!("../../../migrations/0003_sources.sql")),
    (4, "retention", include_str!("../../../migrations/0004_retention.sql")),
    (5, "refused questions", include_str!("../../../migrations/0005_refused_questions.sql")),
    (6, "outages", include_str!("../../../migrations/0006_outages.sql")),
    (7, "call uptimes", include_str!("../../../migrations/0007_call_uptimes.sql")),
    (8, "stuck imports", include_str!("../../../migrations/0008_stuck_imports.sql")),
    (11, "api tokens", include_str!("../../../migrations/0011_api_tokens.sql")),
    (12, "clock", include_str!("../../../migrations/0012_clock.sql")),
    (13, "plain names", include_str!("../../../migrations/0013_plain_names.sql")),
    (14, "not before", include_str!("../../../migrations/0014_not_before.sql")),
    (15, "alerts", include_str!("../../../migrations/0015_alerts.sql")),
    (18, "row matches", include_str!("../../../migrations/0018_row_matches.sql")),
    (19, "batch rules", include_str!("../../../migrations/0019_batch_rules.sql")),
    (20, "shared imports", include_str!("../../../migrations/0020_shared_imports.sql")),
    (21, "instance of batches", include_str!("../../../migrations/0021_instance_of_batches.sql")),
    (22, "activity", include_str!("../../../migrations/0022_activity.sql")),
];

/// Opens the writing connection and brings the database to the newest schema.
pub(crate) async fn open_newest(path: &Path, health: &DatabaseHealth) -> Result<SqliteConnection, StoreError> {
    let mut conn = writer_options(path).create_if_missing(true).connect().await?;
    migrator().run(&mut conn).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => StoreError::Refused(other.to_string()),
    })?;
    health.files.record_opened()?;
    Ok(conn)
}

/// Returns a migrator to the newest version.
fn migrator() -> Migrator {
    migrator_to(i64::MAX)
}

/// Returns a migrator to the version `newest`, for tests with databases of older versions.
fn migrator_to(newest: i64) -> Migrator {
    Migrator::with_migrations(
        MIGRATIONS
            .iter()
            .filter(|&&(version, ..)| version <= newest)
            .map(|&(version, name, sql)| {
                Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
            })
            .collect(),
    )
}

/// Returns the version to which this program migrates a database.
pub(crate) fn newest() -> i64 {
    MIGRATIONS.iter().map(|&(version, ..)| version).max().unwrap_or(0)
}

/// Returns the version of the database at `path`; none where the file is missing or empty.
pub(crate) async fn version_of(path: &Path) -> Result<Option<i64>, sqlx::Error> {
    if std::fs::metadata(path).map_or(0, |file| file.len()) == 0 {
        return Ok(None);
    }
    let mut connection = reader_options(path).connect().await?;
    let version = version_in(&mut connection).await?;
    connection.close().await?;
    Ok(version)
}

/// Returns the version of the connection's database; none where it belongs to another program.
pub(crate) async fn version_in(connection: &mut SqliteConnection) -> Result<Option<i64>, sqlx::Error> {
    let migrated: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations')")
            .fetch_one(&mut *connection)
            .await?;
    match migrated {
        true => sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(connection).await,
        false => Ok(None),
    }
}

#[cfg(test)]
mod tests;
