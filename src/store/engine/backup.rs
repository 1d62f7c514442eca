//! Backup: copies the database while the daemon runs.
//!
//! `VACUUM INTO` copies a snapshot of one moment. It blocks no writer; only the WAL can't be truncated in the meantime.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use sqlx::{ConnectOptions, Connection};

use crate::disk::{free_bytes, parent_folder};
use crate::store::engine::connection::reader_options;
use crate::store::error::StoreError;

/// Space that a backup leaves free on the disk.
const MIN_FREE_BYTES: u64 = 64 << 20;

/// A backup in an unlinked file, which the kernel deletes when the file is closed, also after a crash.
pub struct BackupFile {
    /// The open file, positioned at its beginning.
    pub file: File,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Copies the database at `path` into its folder.
///
/// # Errors
/// [`StoreError::Refused`] if there is no space for a copy, or an error of reading or of the disk.
pub(crate) async fn write_backup(path: &Path) -> Result<BackupFile, StoreError> {
    let io = |error: io::Error| StoreError::Sql(Arc::new(error.into()));
    let mut conn = reader_options(path).connect().await?;
    let used: i64 = sqlx::query_scalar(
        "SELECT (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size)",
    )
    .fetch_one(&mut conn)
    .await?;
    let needed = used.cast_unsigned() + MIN_FREE_BYTES;
    let free = free_bytes(parent_folder(path)).map_err(io)?;
    if free < needed {
        let text = format!("a backup needs {needed} bytes on the disk of the database, and {free} are free");
        return Err(StoreError::Refused(text));
    }
    // Readable only by its owner, like the database.
    let temp_file = tempfile::Builder::new()
        .prefix(&temp_file_prefix(path))
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(parent_folder(path))
        .map_err(io)?;
    sqlx::query("VACUUM INTO ?").bind(temp_file.path().to_string_lossy()).execute(&mut conn).await?;
    conn.close().await?;
    let file = temp_file.reopen().map_err(io)?;
    temp_file.close().map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    Ok(BackupFile { file, bytes })
}

/// Removes temporary files of backups that a crash interrupted. The caller has to hold the database's lock.
pub(crate) fn remove_stale_temp_files(path: &Path) -> io::Result<()> {
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
