//! Backup: copies the database while the daemon runs, and verifies a copy.
//!
//! `VACUUM INTO` copies a snapshot of one moment. It blocks no writer; only the WAL can't be truncated in the meantime.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use crate::store::engine::file_identity::parent_folder;
use crate::store::engine::schema;
use crate::store::error::StoreError;
use crate::store::{Store, reading};

/// Space that a backup leaves free on the disk.
const MIN_FREE_BYTES: u64 = 64 << 20;

/// A backup in an unlinked file, which the kernel deletes when the file is closed, also after a crash.
pub struct BackupFile {
    /// The open file, positioned at its beginning.
    pub file: File,
    /// Its size in bytes.
    pub bytes: u64,
}

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

impl Store {
    /// Makes a backup in the database's folder. It runs to its end also if the caller stops waiting.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if another backup is running, or there is no space for one.
    pub async fn backup(&self) -> Result<BackupFile, StoreError> {
        let store = self.clone();
        let task = tokio::spawn(async move {
            let busy = || StoreError::Refused("another backup is running: try again when it is complete".to_owned());
            let _guard = store.shared.backup.try_lock().map_err(|_| busy())?;
            store.write_backup().await
        });
        task.await.map_err(|_| StoreError::Closed)?
    }

    async fn write_backup(&self) -> Result<BackupFile, StoreError> {
        let path = self.path();
        let io = |error: std::io::Error| StoreError::Sql(std::sync::Arc::new(error.into()));
        let mut conn = reading(&path).connect().await?;
        let used: i64 = sqlx::query_scalar(
            "SELECT (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size)",
        )
        .fetch_one(&mut conn)
        .await?;
        let needed = used.cast_unsigned() + MIN_FREE_BYTES;
        let disk = rustix::fs::statvfs(parent_folder(&path)).map_err(|error| io(error.into()))?;
        let free = disk.f_bavail * disk.f_frsize;
        if free < needed {
            let text = format!("a backup needs {needed} bytes on the disk of the database, and {free} are free");
            return Err(StoreError::Refused(text));
        }
        // Readable only by its owner, like the database.
        let temp_file = tempfile::Builder::new()
            .prefix(&temp_file_prefix(&path))
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(parent_folder(&path))
            .map_err(io)?;
        sqlx::query("VACUUM INTO ?").bind(temp_file.path().to_string_lossy()).execute(&mut conn).await?;
        conn.close().await?;
        let file = temp_file.reopen().map_err(io)?;
        temp_file.close().map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        Ok(BackupFile { file, bytes })
    }
}

/// Removes temporary files of backups that a crash interrupted. The caller has to hold the database's lock.
pub(crate) fn remove_stale_temp_files(path: &Path) -> std::io::Result<()> {
    let prefix = temp_file_prefix(path);
    for entry in fs::read_dir(parent_folder(path))? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn temp_file_prefix(path: &Path) -> OsString {
    let mut prefix = path.file_name().unwrap_or_default().to_owned();
    prefix.push(".copy-");
    prefix
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
    verified.map(|(jobs, schema)| BackupInfo { bytes, jobs, schema })
}

async fn verify(conn: &mut SqliteConnection) -> Result<(u64, i64), BackupError> {
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
    let jobs: i64 =
        sqlx::query_scalar("SELECT count(*) FROM job WHERE state <> 'receiving'").fetch_one(&mut *conn).await?;
    Ok((jobs.cast_unsigned(), schema::newest()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::path::PathBuf;

    use super::*;
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
    async fn a_copy_has_what_was_there_and_opens_as_a_store() {
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
        parent_folder(&store.path())
    }

    #[tokio::test]
    async fn a_copy_that_is_not_whole_is_not_good() {
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
    async fn what_a_dead_daemon_left_of_a_copy_goes_at_the_next_start() {
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
