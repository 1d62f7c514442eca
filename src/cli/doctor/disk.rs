//! Checks of the database's disk: permissions, kind of file system and free space.

use std::path::Path;

use rustix::fs::{Access, access, statfs};
use rustix::process::geteuid;

use crate::cli::doctor::finding::Finding;
use crate::config::Config;
use crate::disk::{free_bytes, parent_folder};
use crate::store::{reserve_path, resolve_path};

/// Advice for a refused access: the current user is usually not the service's.
pub const AS_SERVICE: &str = "run the check as the service does (sudo marqueue-service doctor; without systemd: as its user), or give that user the rights (chown, chmod)";

/// Minimum of free bytes beside the reserve. With less, the next files may be refused.
const MIN_FREE: u64 = 16 << 20;

/// Warns if the user is root: root has all permissions, so the checks do not cover the service's user.
pub fn user() -> Option<Finding> {
    const ADVICE: &str = "if the service has its own user, run the check as the service does (sudo marqueue-service doctor; without systemd: as its user)";
    geteuid()
        .is_root()
        .then(|| Finding::warning("user", "root has all permissions, so no permission is tested", ADVICE))
}

/// Returns a finding of `check` if this user can't create and delete files in `folder`.
pub fn check_folder_access(check: &str, folder: &Path) -> Option<Finding> {
    let shown = folder.display();
    if let Err(error) = std::fs::metadata(folder) {
        let advice = match error.kind() {
            std::io::ErrorKind::NotFound => format!("make it, for the service's user (install -d -o marqueue {shown})"),
            _ => AS_SERVICE.to_owned(),
        };
        return Some(Finding::error(check, format!("the folder {shown} can't be read: {error}"), advice));
    }
    if !folder.is_dir() {
        return Some(Finding::error(check, format!("{shown} is no folder"), "move it away, or name another path"));
    }
    check_access(check, folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
}

/// Returns a finding of `check` if this user lacks that kind of access.
pub fn check_access(check: &str, path: &Path, kind: Access) -> Option<Finding> {
    let error = access(path, kind).err()?;
    let error = std::io::Error::from(error);
    let detail = format!("user {} lacks permissions on {}: {error}", geteuid().as_raw(), path.display());
    let advice = match error.kind() {
        std::io::ErrorKind::ReadOnlyFilesystem => "mount it for writing, or name another path",
        _ => AS_SERVICE,
    };
    Some(Finding::error(check, detail, advice))
}

/// Checks the kind and the free space of the database's disk. Returns nothing if the folder can't be read, which
/// another check reports.
pub fn check_disk(config: &Config) -> Vec<Finding> {
    let database = resolve_path(&config.store.path).unwrap_or_else(|_| config.store.path.clone());
    let folder = parent_folder(&database).to_owned();
    let kind = statfs(&folder).ok().map(|disk| kind(disk.f_type as u64, &folder));
    let room = free_bytes(&folder).ok().map(|free| {
        // The bytes of the reserve are not free any more, but count as free here.
        let held = std::fs::metadata(reserve_path(&database)).map_or(0, |file| file.len());
        room(free.saturating_add(held).saturating_sub(config.store.reserve_bytes), config.api.max_file_bytes, &folder)
    });
    kind.into_iter().chain(room).collect()
}

/// Checks the kind of file system by the magic numbers of `statfs(2)`.
fn kind(magic: u64, folder: &Path) -> Finding {
    const CHECK: &str = "file system";
    let shown = folder.display();
    // Some are given as negative numbers of 32 bits.
    let network = match magic & 0xffff_ffff {
        0x6969 => Some("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Some("SMB"),
        0x00c3_6400 => Some("Ceph"),
        0x5346_414f | 0x6b41_4653 => Some("AFS"),
        0x0102_1997 => Some("9P"),
        0x7375_7245 => Some("Coda"),
        _ => None,
    };
    if let Some(name) = network {
        let detail =
            format!("{shown} is on {name}, where locks and flushes can't be relied on, and the database breaks");
        return Finding::error(CHECK, detail, "move the database (store.path) to a disk of this machine");
    }
    match magic & 0xffff_ffff {
        0x0102_1994 | 0x8584_58f6 => Finding::warning(
            CHECK,
            format!("{shown} is in memory, and what is accepted is lost when the machine stops"),
            "move the database (store.path) to a disk",
        ),
        0x794c_7630 => Finding::warning(
            CHECK,
            format!("{shown} is a layer of a container, and what is accepted goes when the container does"),
            "put the database (store.path) on a volume",
        ),
        0x6573_5546 => Finding::warning(
            CHECK,
            format!("{shown} is on FUSE, which may be a network"),
            "make sure that it is a disk of this machine",
        ),
        _ => Finding::ok(CHECK, format!("{shown} is on a disk of this machine")),
    }
}

/// Checks the free space. `free` is in bytes, without the reserve for accepted files.
fn room(free: u64, largest: u64, folder: &Path) -> Finding {
    const CHECK: &str = "space";
    let detail = format!("{} MB are free for new files on the disk of {}", free / 1_000_000, folder.display());
    if free < MIN_FREE {
        return Finding::error(CHECK, detail, "make room, or new files are refused (507); accepted ones go on");
    }
    if free < largest {
        let detail = format!("{detail}, and one file may have {} MB (api.max_file_bytes)", largest / 1_000_000);
        return Finding::warning(CHECK, detail, "make room, or lower api.max_file_bytes");
    }
    Finding::ok(CHECK, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::State;

    #[test]
    fn network_disk_is_a_fault_and_temporary_disk_a_warning() {
        for (magic, state) in [
            (0xef53, State::Fine),
            (0x5846_5342, State::Fine),
            (0x6969, State::Fault),
            (0xffff_ffff_ff53_4d42, State::Fault),
            (0xff53_4d42, State::Fault),
            (0x0102_1994, State::Warning),
            (0x794c_7630, State::Warning),
            (0x6573_5546, State::Warning),
        ] {
            assert_eq!(kind(magic, Path::new("/x")).state, state, "{magic:x}");
        }
    }

    #[test]
    fn a_full_disk_is_a_fault_and_a_small_one_a_warning() {
        for (free, largest, state) in [
            (0, 1, State::Fault),
            (MIN_FREE - 1, 1, State::Fault),
            (MIN_FREE, MIN_FREE, State::Fine),
            (MIN_FREE, MIN_FREE + 1, State::Warning),
        ] {
            assert_eq!(room(free, largest, Path::new("/x")).state, state, "{free}");
        }
        let finding = room(1_000_000, 1, Path::new("/x"));
        assert_eq!(finding.detail, "1 MB are free for new files on the disk of /x");
    }
}
