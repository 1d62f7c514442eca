//! Verification of a backup: its integrity, its version, and what it contains.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use crate::store::engine::schema;
use crate::store::engine::transaction::ReadTx;

/// What a verified backup contains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupInfo {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its jobs, without incomplete submissions.
    pub jobs: u64,
    /// Its schema version.
    pub schema: i64,
}

/// Why a backup can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It is no database, or can't be read.
    #[error("the backup can't be read: {0}")]
    Sql(#[from] sqlx::Error),
    /// SQLite's checks found damage.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// It has another schema version than this program.
    #[error("the backup is of another version: its schema is {0:?}, this program's is {1}")]
    Version(Option<i64>, i64),
}

/// Verifies a backup by reading all of it, and returns what it contains. Writes nothing and creates no file.
///
/// # Errors
/// [`BackupError`]
pub async fn verify_backup(path: &Path) -> Result<BackupInfo, BackupError> {
    let mut conn = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .immutable(true)
        .disable_statement_logging()
        .connect()
        .await?;
    let verified = verify(&mut conn).await;
    conn.close().await?;
    let bytes = fs::metadata(path).map_err(sqlx::Error::from)?.len();
    verified.map(|jobs| BackupInfo { bytes, jobs, schema: schema::newest() })
}

/// Checks a backup and returns the number of its jobs.
async fn verify(conn: &mut SqliteConnection) -> Result<u64, BackupError> {
    let findings: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check(3)").fetch_all(&mut *conn).await?;
    if findings != ["ok"] {
        return Err(BackupError::Damaged(findings.join("; ")));
    }
    let orphans = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut *conn).await?;
    if !orphans.is_empty() {
        return Err(BackupError::Damaged(format!("{} rows belong to no job", orphans.len())));
    }
    let version: Option<i64> =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut *conn).await?;
    if version != Some(schema::newest()) {
        return Err(BackupError::Version(version, schema::newest()));
    }
    Ok(ReadTx::new(conn).count_jobs().await?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::path::PathBuf;

    use super::*;
    use crate::disk::parent_folder;
    use crate::store::handle::Store;
    use crate::store::test_util::{add, leads, store};

    async fn copied(store: &Store, to: &Path) -> Vec<u8> {
        let mut copy = store.backup().await.unwrap();
        let mut bytes = Vec::new();
        copy.file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, copy.bytes);
        fs::write(to, &bytes).unwrap();
        bytes
    }

    #[tokio::test]
    async fn a_copy_is_complete_and_opens_as_a_store() {
        let store = store().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy.db");
        for _ in 0..3 {
            add(&store, leads(), 2).await;
        }
        copied(&store, &path).await;
        assert_eq!(verify_backup(&path).await.unwrap().jobs, 3);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no file is created beside it");
        let names = fs::read_dir(folder_of(&store)).unwrap().map(|file| file.unwrap().file_name());
        assert!(names.map(|name| name.into_string().unwrap()).all(|name| !name.contains(".copy-")));
        let again = Store::open(&path).await.unwrap();
        assert_eq!(again.jobs(None, 9, None).await.unwrap(), store.jobs(None, 9, None).await.unwrap());
        add(&again, leads(), 1).await;
    }

    fn folder_of(store: &Store) -> PathBuf {
        parent_folder(&store.path()).to_owned()
    }

    #[tokio::test]
    async fn an_incomplete_copy_fails_verification() {
        let store = store().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy.db");
        for _ in 0..200 {
            add(&store, leads(), 2).await;
        }
        let bytes = copied(&store, &path).await;
        for damage in [bytes.len() / 2, 8192, 100, 0] {
            fs::write(&path, &bytes[..damage]).unwrap();
            assert!(verify_backup(&path).await.is_err(), "{damage} bytes of {}", bytes.len());
        }
        let mut file = File::create(&path).unwrap();
        file.write_all(&bytes).unwrap();
        drop(file);
        assert!(verify_backup(&path).await.is_ok());
        let mut garbled = bytes.clone();
        for page in garbled.chunks_mut(8192).skip(2) {
            page[..64].fill(0xff);
        }
        fs::write(&path, garbled).unwrap();
        assert!(matches!(verify_backup(&path).await, Err(BackupError::Damaged(_) | BackupError::Sql(_))));
    }

    #[tokio::test]
    async fn unfinished_copies_are_removed_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.db");
        drop(Store::open(&path).await.unwrap());
        let (left, other) = (folder.path().join("q.db.copy-x1"), folder.path().join("r.db.copy-x1"));
        for file in [&left, &other] {
            fs::write(file, "half").unwrap();
        }
        let store = Store::open(&path).await.unwrap();
        assert!(!left.exists() && other.exists());
        store.close().await;
    }
}
