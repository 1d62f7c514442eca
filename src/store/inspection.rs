//! Inspection: reads the database without changing a byte, whether or not a daemon is running.
//!
//! A read-only connection is not enough, since SQLite creates a missing WAL and repairs its index. So an existing index
//! is only read (`readonly_shm`: without a daemon SQLite then builds its own in memory), and a database without a WAL
//! is opened as immutable.

use std::fs;
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use crate::store::engine::connection::reader_options;
use crate::store::engine::database_paths::{wal_index_path, wal_path};
use crate::store::engine::lock::resolve_path;
use crate::store::engine::schema;
use crate::store::engine::transaction::ReadTx;

/// What was found in a database that this program can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectionReport {
    /// Its schema version.
    pub schema: i64,
    /// The schema version to which this program migrates it.
    pub known: i64,
    /// Jobs that have not ended, by instance.
    pub unended: Vec<(String, u64)>,
}

/// Why a daemon could not use the database, or why that is unknown.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It is no database, or can't be read.
    #[error("it can't be read: {0}")]
    Sql(#[from] sqlx::Error),
    /// SQLite's check found damage.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Its schema is newer than this program.
    #[error("it was made by a newer marqueue (its schema is {found}, this program knows {known})")]
    Newer {
        /// The database's schema version.
        found: i64,
        /// This program's schema version.
        known: i64,
    },
    /// It has no table of migrations.
    #[error("it is a database of another program")]
    Foreign,
    /// There is a WAL without an index. It can't be read without writing, and without it the database is out of date.
    #[error("its write-ahead log is not merged yet: start the daemon once")]
    LogAlone,
}

/// Reads all of the database and writes nothing. Returns none where the file is missing or empty.
///
/// # Errors
/// [`InspectError`]
pub async fn inspect(path: &Path) -> Result<Option<InspectionReport>, InspectError> {
    if size(path) == 0 {
        return Ok(None);
    }
    let path = &resolve_path(path).map_err(sqlx::Error::from)?;
    let options = if wal_index_path(path).exists() {
        let path = percent_encode(path.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC);
        reader_options(Path::new(&format!("file:{path}?readonly_shm=1")))
    } else if size(&wal_path(path)) == 0 {
        reader_options(path).immutable(true)
    } else {
        return Err(InspectError::LogAlone);
    };
    let mut conn = options.connect().await?;
    let found = read_report(&mut conn).await;
    conn.close().await?;
    found.map(Some)
}

async fn read_report(conn: &mut SqliteConnection) -> Result<InspectionReport, InspectError> {
    let known = schema::newest();
    let schema = match schema::version_in(conn).await? {
        None => return Err(InspectError::Foreign),
        Some(found) if found > known => return Err(InspectError::Newer { found, known }),
        Some(found) => found,
    };
    let findings: Vec<String> = sqlx::query_scalar("PRAGMA quick_check(3)").fetch_all(&mut *conn).await?;
    if findings != ["ok"] {
        return Err(InspectError::Damaged(findings.join("; ")));
    }
    Ok(InspectionReport { schema, known, unended: ReadTx::new(conn).unended_by_instance().await? })
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::store::engine::connection::writer_options;
    use crate::store::handle::Store;
    use crate::store::test_util::{add, leads, store};

    fn bytes(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        files.map(|file| (file.clone(), fs::read(file).unwrap())).collect()
    }

    #[tokio::test]
    async fn content_of_the_wal_is_read_without_changing_a_byte() {
        let store = store().await;
        for _ in 0..3 {
            add(&store, leads(), 1).await;
        }
        let path = store.path();
        let folder = path.parent().unwrap();
        let before = bytes(folder);
        let found = inspect(&path).await.unwrap().unwrap();
        assert_eq!((found.schema, &found.unended[..]), (found.known, &[("default".to_owned(), 3)][..]));
        // Within one process all connections share one index, and the store's connection may write it.
        let without_index = |mut files: BTreeMap<PathBuf, Vec<u8>>| {
            files.retain(|name, _| !name.as_os_str().as_encoded_bytes().ends_with(b"-shm"));
            files
        };
        assert!(
            without_index(bytes(folder)) == without_index(before.clone()),
            "something was written while a daemon runs"
        );

        // As after a kill: WAL and index exist, and no process has them open.
        let killed = tempfile::tempdir().unwrap();
        for (file, content) in before {
            fs::write(killed.path().join(file.file_name().unwrap()), content).unwrap();
        }
        let path = killed.path().join(path.file_name().unwrap());
        let before = bytes(killed.path());
        assert_eq!(inspect(&path).await.unwrap().unwrap().unended, [("default".to_owned(), 3)]);
        assert!(bytes(killed.path()) == before, "something was written after a kill");

        let index = wal_index_path(&path);
        fs::remove_file(&index).unwrap();
        assert!(matches!(inspect(&path).await, Err(InspectError::LogAlone)));
        assert!(!index.exists());
    }

    #[tokio::test]
    async fn a_closed_database_is_read_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        // A name with characters that are special in a URI.
        let path = folder.path().join("q 1?%.db");
        assert_eq!(inspect(&path).await.unwrap(), None);
        let store = store().await;
        add(&store, leads(), 1).await;
        std::io::copy(&mut store.backup().await.unwrap().file, &mut fs::File::create(&path).unwrap()).unwrap();
        let before = bytes(folder.path());
        assert_eq!(inspect(&path).await.unwrap().unwrap().unended.len(), 1);
        assert!(bytes(folder.path()) == before);
    }

    #[tokio::test]
    async fn each_unusable_database_has_its_own_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.db");
        Store::open(&path).await.unwrap().close().await;
        let mut conn = writer_options(&path).connect().await.unwrap();
        sqlx::query("INSERT INTO _sqlx_migrations VALUES (9999, 'later', 0, 1, x'00', 0)")
            .execute(&mut conn)
            .await
            .unwrap();
        conn.close().await.unwrap();
        assert!(matches!(inspect(&path).await, Err(InspectError::Newer { found: 9999, .. })));

        let other = folder.path().join("other.db");
        let mut conn = writer_options(&other).create_if_missing(true).connect().await.unwrap();
        sqlx::query("CREATE TABLE theirs (x)").execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        assert!(matches!(inspect(&other).await, Err(InspectError::Foreign)));

        fs::write(&other, "no database at all, whatever its name may say ".repeat(300)).unwrap();
        assert!(matches!(inspect(&other).await, Err(InspectError::Sql(_))));
    }

    #[tokio::test]
    async fn damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.db");
        let store = Store::open(&path).await.unwrap();
        for _ in 0..200 {
            add(&store, leads(), 2).await;
        }
        store.close().await;
        drop(store);
        let mut file = fs::read(&path).unwrap();
        let pages = file.len() / 8192;
        for page in file.chunks_mut(8192).skip(pages / 2) {
            page[..64].fill(0xff);
        }
        fs::write(&path, file).unwrap();
        assert!(matches!(inspect(&path).await, Err(InspectError::Damaged(_) | InspectError::Sql(_))));
    }
}
