//! Which files does a program on this machine have open for writing, as far as this process may know?
//!
//! Asked only of files that no event told of, such as those that were there before the daemon: a program may have been
//! writing all through the daemon's restart. The kernel shows the files of programs of the same user, and to root those
//! of all; of others, and of those on other machines, nothing can be known.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Files that are open for writing, as device and inode.
pub(super) type Written = HashSet<(u64, u64)>;

pub(super) fn written() -> Written {
    let mut written = Written::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit)) {
        let process = process.path();
        for open in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            if is_for_writing(&process.join("fdinfo").join(open.file_name()))
                && let Ok(file) = fs::metadata(open.path())
                && file.is_file()
            {
                written.insert((file.dev(), file.ino()));
            }
        }
    }
    written
}

fn is_for_writing(information: &Path) -> bool {
    const ACCESS: u32 = 0o3;
    let Ok(text) = fs::read_to_string(information) else { return false };
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & ACCESS != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_while_it_is_open_for_writing_and_not_while_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let file = fs::File::create(&path).unwrap();
        let found = file.metadata().unwrap();
        let is_written = || written().contains(&(found.dev(), found.ino()));
        assert!(is_written());
        drop(file);
        let _reader = fs::File::open(&path).unwrap();
        assert!(!is_written());
    }
}
