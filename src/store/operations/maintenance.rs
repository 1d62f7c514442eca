//! Maintenance: checks, sizes, truncation of the WAL, and backups.

use std::path::PathBuf;

use crate::store::engine::backup::{BackupFile, write_backup};
use crate::store::engine::maintenance::{self, DatabaseSize};
use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::tables::chunks::CHUNK_BYTES;

impl Store {
    /// Checks that a new file could be accepted now: the database is unchanged and undamaged, its disk has space, and a
    /// write reaches it. For that it writes the unused `user_version` field of the database header.
    ///
    /// # Errors
    /// What keeps a file from being accepted.
    pub async fn can_write(&self) -> Result<(), StoreError> {
        self.write("can_write", |tx| {
            Box::pin(async move {
                tx.budget.reserve_for_file(CHUNK_BYTES as u64)?;
                tx.write_header().await
            })
        })
        .await
    }

    /// Checks that there is space for `bytes` of Marketo's reports, before they are downloaded.
    ///
    /// # Errors
    /// [`StoreError::Full`], or another error of writing the database.
    pub async fn has_room_for_report(&self, bytes: u64) -> Result<(), StoreError> {
        self.write("has_room_for_report", move |tx| Box::pin(std::future::ready(tx.budget.reserve_for_report(bytes))))
            .await
    }

    /// Returns the path of the database, with symbolic links resolved.
    pub fn path(&self) -> PathBuf {
        self.shared.readers.connect_options().get_filename().to_owned()
    }

    /// Returns the sizes of the database's files.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn database_size(&self) -> Result<DatabaseSize, StoreError> {
        let mut conn = self.reader().await?;
        ReadTx::new(&mut conn).database_size(&self.path()).await
    }

    /// Copies the whole WAL into the database and truncates it. Returns false if a reader or writer was active: the
    /// caller has to try again. It uses a connection of its own with a short timeout, so that it does not block the
    /// writer.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn truncate_wal(&self) -> Result<bool, StoreError> {
        maintenance::truncate_wal(&self.path()).await
    }

    /// Returns at most `pages` unused pages to the file system, and returns how many are left.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn incremental_vacuum(&self, pages: u32) -> Result<u64, StoreError> {
        self.write("incremental_vacuum", move |tx| Box::pin(tx.incremental_vacuum(pages))).await
    }

    /// Makes a backup in the database's folder. It runs to its end also if the caller stops waiting.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if another backup is running, or there is no space for one.
    pub async fn backup(&self) -> Result<BackupFile, StoreError> {
        let store = self.clone();
        let task = tokio::spawn(async move {
            let busy = || StoreError::Refused("another backup is running: try again when it is complete".to_owned());
            let _guard = store.shared.backup.try_lock().map_err(|_| busy())?;
            write_backup(&store.path()).await
        });
        task.await.map_err(|_| StoreError::Closed)?
    }
}
