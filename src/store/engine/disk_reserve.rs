//! Disk reserve: a file beside the database that keeps space free, so that accepted jobs can finish on a full disk.
//!
//! New files are accepted only while the reserve is complete. When the disk is full, the reserve shrinks by a quarter
//! of its size at a time, so that another program that fills the disk does not get all of it at once. When there is
//! space again, the reserve is filled and new files are accepted.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use crate::disk::{free_bytes, parent_folder};
use crate::store::engine::database_paths::{reserve_path, wal_path};
use crate::store::error::StoreError;

/// The reserve shrinks when less than this is free on the disk, so that no write has to fail first. The limit is
/// smaller for a small reserve.
const MIN_FREE_BYTES: u64 = 4 << 20;

/// Space that a group of writes may need besides the content of files: pages of rows and indexes, both in the WAL and
/// in the database.
const OVERHEAD_BYTES: u64 = 1 << 20;

/// The reserve of one database.
pub(crate) struct DiskReserve {
    path: PathBuf,
    /// The WAL. Its content needs the same space again in the database.
    wal: PathBuf,
    /// Configured size in bytes; 0 for no reserve.
    size: u64,
    /// Present size in bytes.
    held: u64,
    /// The error with which the file system refused to allocate space although enough was free.
    alloc_error: Option<io::Error>,
}

/// Bytes that may be written before the disk is measured again.
#[derive(Debug)]
pub(crate) struct DiskBudget {
    /// For new files, or why none may be written.
    files: Result<u64, StoreError>,
    /// For Marketo's reports.
    reports: u64,
    /// Taken from both so far.
    reserved: u64,
}

impl DiskReserve {
    /// Opens the reserve of the database at path `database`, and fills it to `size` bytes as far as there is space.
    pub fn open(database: &Path, size: u64) -> DiskReserve {
        let path = reserve_path(database);
        let held = std::fs::metadata(&path).map_or(0, |file| file.len());
        let mut reserve = DiskReserve { path, wal: wal_path(database), size, held, alloc_error: None };
        if held > size {
            reserve.resize(size);
        }
        reserve.measure();
        if let Some(error) = &reserve.alloc_error {
            tracing::warn!(file = %reserve.path.display(), %error,
                "the file system can't allocate the disk reserve: on a full disk jobs can't finish");
        }
        reserve
    }

    /// Measures the disk, and shrinks or fills the reserve accordingly.
    pub fn measure(&mut self) -> DiskBudget {
        // Where the free space is unknown, the write itself shows whether there is any.
        let Ok(free) = self.free() else { return DiskBudget::unlimited() };
        let free = match self.held < self.size {
            // Twice the limit, or the next file would shrink it again.
            true if free >= self.size - self.held + 2 * self.low() => self.fill(free),
            _ if free < self.low() && self.held > 0 => {
                self.release();
                self.free().unwrap_or(0)
            }
            _ => free,
        };
        // Where the file system can't allocate the reserve, new files at least leave that much space free.
        let wal_bytes = std::fs::metadata(&self.wal).map_or(0, |file| file.len());
        let above = |kept| (free + self.held).saturating_sub(kept + OVERHEAD_BYTES);
        DiskBudget {
            files: if self.is_short() { Err(StoreError::Full) } else { Ok(above(self.size + self.low() + wal_bytes)) },
            // A quarter is kept for what is stored nowhere else. Marketo keeps its reports for some days.
            reports: above(self.size / 4).min(free),
            reserved: 0,
        }
    }

    /// Returns whether the reserve is smaller than configured and could be filled.
    pub fn is_short(&self) -> bool {
        self.held < self.size && self.alloc_error.is_none()
    }

    /// Shrinks the reserve after a write failed for lack of space.
    pub fn release(&mut self) {
        if self.held > 0 {
            self.resize(self.held.saturating_sub(self.size.div_ceil(4)));
            tracing::warn!(left_bytes = self.held, "disk full: the disk reserve was reduced");
        }
    }

    fn low(&self) -> u64 {
        MIN_FREE_BYTES.min(self.size / 4)
    }

    fn free(&self) -> io::Result<u64> {
        free_bytes(parent_folder(&self.path))
    }

    fn fill(&mut self, free: u64) -> u64 {
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&self.path);
        match file.and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, self.size)?)) {
            Ok(()) => {
                if self.held > 0 {
                    tracing::info!("the disk has free space again: the disk reserve is complete");
                }
                self.held = self.size;
                self.free().unwrap_or(0)
            }
            // Another program was faster. What was allocated is released.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.resize(self.held);
                free
            }
            Err(error) => {
                self.alloc_error = Some(error);
                free
            }
        }
    }

    fn resize(&mut self, bytes: u64) {
        match File::options().write(true).open(&self.path).and_then(|file| file.set_len(bytes)) {
            Ok(()) => self.held = bytes,
            // The file was deleted by another program.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.held = 0,
            Err(error) => tracing::error!(file = %self.path.display(), %error, "the disk reserve can't be resized"),
        }
    }
}

impl DiskBudget {
    /// Returns a budget with this room for files.
    #[cfg(test)]
    pub fn of_files(files: Result<u64, StoreError>) -> DiskBudget {
        DiskBudget { files, reports: u64::MAX, reserved: 0 }
    }

    /// Returns a budget without limits.
    pub fn unlimited() -> DiskBudget {
        DiskBudget { files: Ok(u64::MAX), reports: u64::MAX, reserved: 0 }
    }

    /// Forbids new files, for this reason.
    pub fn refuse(&mut self, error: StoreError) {
        self.files = Err(error);
    }

    /// Returns whether the disk has space for `bytes` of a new file. A file that is forbidden for another reason is no
    /// matter of space.
    pub fn has_room_for_file(&self, bytes: u64) -> bool {
        match &self.files {
            Ok(left) => *left >= with_wal_copy(bytes),
            Err(error) => !matches!(error, StoreError::Full),
        }
    }

    /// Takes `bytes` of a new file from the budget.
    ///
    /// # Errors
    /// [`StoreError::Full`], or the reason given to [`DiskBudget::refuse`].
    pub fn reserve_for_file(&mut self, bytes: u64) -> Result<(), StoreError> {
        let left = self.files.as_mut().map_err(|error| error.clone())?;
        *left = left.checked_sub(with_wal_copy(bytes)).ok_or(StoreError::Full)?;
        self.reserved += bytes;
        Ok(())
    }

    /// Takes `bytes` of a report from the budget.
    ///
    /// # Errors
    /// [`StoreError::Full`]
    pub fn reserve_for_report(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.reports = self.reports.checked_sub(with_wal_copy(bytes)).ok_or(StoreError::Full)?;
        self.reserved += bytes;
        Ok(())
    }

    /// Returns the bytes that were taken so far.
    pub fn reserved(&self) -> u64 {
        self.reserved
    }
}

/// Each page is written to the WAL and to the database.
fn with_wal_copy(bytes: u64) -> u64 {
    bytes.saturating_mul(2)
}
