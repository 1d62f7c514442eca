//! File identity: the attributes by which a changed or replaced file is recognized.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags, StatxTimestamp, statx};

/// The attributes of a file at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileStat {
    device: (u32, u32),
    inode: u64,
    pub(super) bytes: u64,
    /// Seconds and nanoseconds since 1970, as are the other times. Only for comparing: the share's clock is its own.
    pub(super) modified: (i64, u32),
    changed: (i64, u32),
    /// When the inode was created; not every file system records it.
    born: Option<(i64, u32)>,
    links: u32,
    kind: FileType,
}

impl FileStat {
    /// Reads the attributes of `name` in `folder`. Symbolic links are not followed.
    pub(super) fn of(folder: impl AsFd, name: &OsStr) -> io::Result<FileStat> {
        FileStat::ask(folder, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Reads the attributes of an open file or folder, independent of its path.
    pub(super) fn of_open(file: impl AsFd) -> io::Result<FileStat> {
        FileStat::ask(file, b"", AtFlags::EMPTY_PATH)
    }

    /// Reads the attributes of the file behind a link in `/proc/PID/fd`, from the kernel's cache only, so that a server
    /// that does not answer is not waited for.
    pub(super) fn of_process_file(link: &Path) -> io::Result<FileStat> {
        let found = statx(CWD, link, AtFlags::STATX_DONT_SYNC, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
        Ok(FileStat::from(&found))
    }

    fn ask(at: impl AsFd, path: &[u8], flags: AtFlags) -> io::Result<FileStat> {
        let found = statx(at, path, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
        Ok(FileStat::from(&found))
    }

    pub(super) fn is_file(&self) -> bool {
        self.kind.is_file()
    }

    pub(super) fn kind(&self) -> FileType {
        self.kind
    }

    /// Returns whether both are the same inode on the same device.
    pub(super) fn is_same_inode(&self, other: &FileStat) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    pub(super) fn device_and_inode(&self) -> (u64, u64) {
        (rustix::fs::makedev(self.device.0, self.device.1), self.inode)
    }

    pub(super) fn is_same_device(&self, other: &FileStat) -> bool {
        self.device == other.device
    }

    /// Returns whether both are the same inode, not written to in between.
    pub(super) fn is_unchanged(&self, other: &FileStat) -> bool {
        self.is_same_inode(other) && (self.bytes, self.modified) == (other.bytes, other.modified)
    }

    /// Returns the numbers that [`FileStat::is_unchanged`] compares, without the device, whose number may change at a
    /// boot.
    pub(super) fn state(&self) -> Vec<u8> {
        let numbers = [self.inode.cast_signed(), self.bytes.cast_signed(), self.modified.0, self.modified.1.into()];
        numbers.into_iter().flat_map(i64::to_be_bytes).collect()
    }

    /// Returns the part of the idempotency key of a file at `path` that does not depend on its content. It is the same
    /// as long as the file is the same drop, and differs for a second drop of the same content under the same name.
    ///
    /// Inode numbers are soon reused, and `cp -p` and `rsync` keep the modification time. So inode, modification time
    /// and content can all equal those of the last drop; only the inode's creation time differs then. The change time
    /// (ctime) would differ too, but a `chown -R`, which many containers run at their start, alters it: after a crash
    /// between commit and removal, that would give a second job. So ctime is used only where there is no creation time,
    /// and for hard links, of which the same inode can be dropped twice. The device is left out, because its number may
    /// change at a boot.
    pub(super) fn identity(&self, path: &Path) -> Vec<u8> {
        let since = self.born.filter(|_| self.links == 1).unwrap_or(self.changed);
        let mut identity = path.as_os_str().as_bytes().to_vec();
        let numbers = [self.inode.cast_signed(), self.bytes.cast_signed(), self.modified.0, since.0];
        identity.push(0);
        identity.extend(numbers.into_iter().flat_map(i64::to_be_bytes));
        identity.extend([self.modified.1, since.1].into_iter().flat_map(u32::to_be_bytes));
        identity
    }
}

impl From<&Statx> for FileStat {
    fn from(found: &Statx) -> FileStat {
        let time = |time: &StatxTimestamp| (time.tv_sec, time.tv_nsec);
        let has_birth = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
        FileStat {
            device: (found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            bytes: found.stx_size,
            modified: time(&found.stx_mtime),
            changed: time(&found.stx_ctime),
            born: has_birth.then(|| time(&found.stx_btime)),
            links: found.stx_nlink,
            kind: FileType::from_raw_mode(found.stx_mode.into()),
        }
    }
}

#[cfg(test)]
impl FileStat {
    /// A made-up one.
    pub(super) fn fabricated(inode: u64, bytes: u64, modified: i64) -> FileStat {
        FileStat {
            device: (8, 1),
            inode,
            bytes,
            modified: (modified, 0),
            changed: (modified, 0),
            born: Some((1, 0)),
            links: 1,
            kind: FileType::RegularFile,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_drop_changes_the_identity_and_chown_does_not() {
        let first = FileStat::fabricated(7, 100, 5);
        let of = |stat: FileStat| stat.identity(Path::new("default/leads/a.csv"));
        for (what, other, differs) in [
            ("another inode", FileStat { inode: 8, ..first }, true),
            ("its number used again", FileStat { born: Some((2, 0)), ..first }, true),
            ("written to", FileStat { modified: (5, 1), ..first }, true),
            ("grown", FileStat { bytes: 101, ..first }, true),
            ("chown", FileStat { changed: (9, 0), ..first }, false),
            ("the device's number at another boot", FileStat { device: (8, 2), ..first }, false),
        ] {
            assert_eq!(of(first) != of(other), differs, "{what}");
        }
        assert_ne!(of(first), first.identity(Path::new("eu/leads/a.csv")));
    }

    #[test]
    fn without_a_creation_time_ctime_distinguishes_drops() {
        let path = Path::new("a.csv");
        for stat in [
            FileStat { links: 2, ..FileStat::fabricated(7, 1, 1) },
            FileStat { born: None, ..FileStat::fabricated(7, 1, 1) },
        ] {
            assert_ne!(stat.identity(path), FileStat { changed: (9, 9), ..stat }.identity(path));
        }
    }
}
