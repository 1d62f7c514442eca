//! Folders and free space of paths.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;

/// Returns the folder of a file; `.` for a bare name.
pub fn parent_folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Returns the bytes that a user other than root can still write to the disk of `folder`.
///
/// # Errors
/// The folder cannot be read.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_folder_is_in_the_working_directory() {
        for (path, folder) in [("a", "."), ("./a", "."), ("b/a", "b"), ("/a", "/"), ("/b/a", "/b")] {
            assert_eq!(parent_folder(Path::new(path)), Path::new(folder));
        }
    }

    #[test]
    fn free_space_of_a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(folder.path()).is_ok());
        assert!(free_bytes(&folder.path().join("none")).is_err());
    }
}
