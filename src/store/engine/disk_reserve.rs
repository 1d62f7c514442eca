//! How do accepted jobs come to their end on a full disk? A file beside the database keeps room for them.
//!
//! New files are taken only while all of that room is there. Whoever fills the disk, we or another program, the file then
//! gives a quarter of its room back at a time, so that one that goes on filling does not get all of it at once. When there
//! is room again it is filled up again, and files are taken.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::store::engine::file_identity::{DatabaseFiles, parent_folder};
use crate::store::error::StoreError;

/// Some room is given back while this much of the disk is still free, so that no write of ours has to fail first. It is
/// less for a reserve that is small itself.
const MIN_FREE_BYTES: u64 = 4 << 20;

/// Room for what a group of writes may need beside the content of files: pages of rows and indexes, and all of it twice,
/// in the log and in the database.
const OVERHEAD_BYTES: u64 = 1 << 20;

/// The reserve of one database.
pub(crate) struct DiskReserve {
    path: PathBuf,
    /// What is in the log has to go into the database as well, some time.
    log: PathBuf,
    /// Bytes; zero if there is to be none.
    size: u64,
    /// Bytes of it that are there.
    held: u64,
    /// Why a disk with room enough does not give it.
    refused: Option<io::Error>,
}

/// What may be written before somebody looks again.
#[derive(Debug)]
pub(crate) struct DiskBudget {
    /// Bytes for new files, or why there are none.
    files: Result<u64, StoreError>,
    /// Bytes for files that Marketo gives.
    reports: u64,
}

impl DiskReserve {
    /// Fills the reserve, as far as there is room. `database` is the path of the database.
    pub fn open(database: &Path, size: u64) -> DiskReserve {
        let path = DatabaseFiles::with_suffix(database, "-reserve");
        let held = std::fs::metadata(&path).map_or(0, |file| file.len());
        let mut reserve =
            DiskReserve { path, log: DatabaseFiles::with_suffix(database, "-wal"), size, held, refused: None };
        if held > size {
            reserve.resize(size);
        }
        reserve.measure();
        if let Some(error) = &reserve.refused {
            tracing::warn!(file = %reserve.path.display(), %error,
                "the disk's file system keeps no room: on a full disk jobs have to wait where they are");
        }
        reserve
    }

    /// Looks at the disk, gives room back if it is full, and takes it again if it is not.
    pub fn measure(&mut self) -> DiskBudget {
        // A disk that can't be asked is met as it is when it is written to.
        let Ok(free) = self.free() else { return DiskBudget::unlimited() };
        let free = match self.held < self.size {
            // Twice that, or the next file would take it back.
            true if free >= self.size - self.held + 2 * self.low() => self.fill(free),
            _ if free < self.low() && self.held > 0 => {
                self.release();
                self.free().unwrap_or(0)
            }
            _ => free,
        };
        // Where no file can keep the reserve, we at least keep off it ourselves.
        let logged = std::fs::metadata(&self.log).map_or(0, |file| file.len());
        let above = |kept| (free + self.held).saturating_sub(kept + OVERHEAD_BYTES);
        DiskBudget {
            files: if self.is_short() { Err(StoreError::Full) } else { Ok(above(self.size + self.low() + logged)) },
            // A quarter is for what is known nowhere else; Marketo keeps its files for some days.
            reports: above(self.size / 4).min(free),
        }
    }

    /// Whether some of it is missing, so that it is worth while to look again.
    pub fn is_short(&self) -> bool {
        self.held < self.size && self.refused.is_none()
    }

    /// Gives a part back: something could not be written.
    pub fn release(&mut self) {
        if self.held > 0 {
            self.resize(self.held.saturating_sub(self.size.div_ceil(4)));
            tracing::warn!(left = self.held, "the disk of the database is full: some of the reserve is given back");
        }
    }

    fn low(&self) -> u64 {
        MIN_FREE_BYTES.min(self.size / 4)
    }

    fn free(&self) -> io::Result<u64> {
        let disk = statvfs(parent_folder(&self.path))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn fill(&mut self, free: u64) -> u64 {
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&self.path);
        match file.and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, self.size)?)) {
            Ok(()) => {
                if self.held > 0 {
                    tracing::info!("the disk of the database has room again");
                }
                self.held = self.size;
                self.free().unwrap_or(0)
            }
            // Somebody was faster. What was got of it is given back.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.resize(self.held);
                free
            }
            Err(error) => {
                self.refused = Some(error);
                free
            }
        }
    }

    fn resize(&mut self, bytes: u64) {
        match File::options().write(true).open(&self.path).and_then(|file| file.set_len(bytes)) {
            Ok(()) => self.held = bytes,
            // Somebody else has given it back.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.held = 0,
            Err(error) => tracing::error!(file = %self.path.display(), %error, "the reserve can't be given back"),
        }
    }
}

impl DiskBudget {
    pub fn unlimited() -> DiskBudget {
        DiskBudget { files: Ok(u64::MAX), reports: u64::MAX }
    }

    /// No new files, for this reason.
    pub fn refuse(&mut self, error: StoreError) {
        self.files = Err(error);
    }

    /// Takes room for `bytes` of a new file.
    ///
    /// # Errors
    /// Why there is none.
    pub fn reserve_for_file(&mut self, bytes: u64) -> Result<(), StoreError> {
        let room = self.files.as_mut().map_err(|error| error.clone())?;
        *room = room.checked_sub(with_wal_copy(bytes)).ok_or(StoreError::Full)?;
        Ok(())
    }

    /// Takes room for `bytes` of a file that Marketo gives.
    ///
    /// # Errors
    /// [`StoreError::Full`]
    pub fn reserve_for_report(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.reports = self.reports.checked_sub(with_wal_copy(bytes)).ok_or(StoreError::Full)?;
        Ok(())
    }
}

/// In the log, and in the database.
fn with_wal_copy(bytes: u64) -> u64 {
    bytes.saturating_mul(2)
}
