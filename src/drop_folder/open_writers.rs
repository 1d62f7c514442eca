//! Open writers: finds the files that a program of this machine has open for writing, as far as `/proc` shows them.
//!
//! `/proc` lists the descriptors of each process, and shared mappings that outlive their descriptor. It shows the
//! processes of the same user; to root it shows all. If some processes are not visible, the result says so: then a file
//! may be open without a trace, and the caller has to wait until it is unchanged for a while. Never shown are
//! descriptors in a socket's queue and descriptors held by the kernel alone (fixed files of io_uring).

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::drop_folder::file_stat::FileStat;

/// The number of the first process-id namespace (`PROC_PID_INIT_INO` in the kernel's sources). In any other one there
/// may be processes outside that share the file.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// The result of one scan of `/proc`.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    /// Files with a writer, as device and inode.
    open: HashSet<(u64, u64)>,
    /// Every process of this machine was visible.
    pub(super) all_seen: bool,
}

impl OpenFiles {
    pub(super) fn has(&self, stamp: &FileStat) -> bool {
        self.open.contains(&stamp.device_and_inode())
    }
}

/// A file to look for. The name helps where the inode's number differs between the kernel's lists and `stat`, as it can
/// on overlay file systems.
struct Wanted {
    inodes: HashSet<u64>,
    names: HashSet<OsString>,
    files: Vec<(FileStat, OsString)>,
}

/// Returns which of `files` are open for writing. Takes some milliseconds for each hundred processes. Processes that
/// end during the scan are left out.
pub(super) fn scan(files: Vec<(FileStat, OsString)>) -> OpenFiles {
    let wanted = Wanted {
        inodes: files.iter().map(|(stamp, _)| stamp.device_and_inode().1).collect(),
        names: files.iter().map(|(_, name)| name.clone()).collect(),
        files,
    };
    let mut found = OpenFiles { all_seen: sees_the_first_process(), ..OpenFiles::default() };
    let Ok(processes) = fs::read_dir("/proc") else { return OpenFiles::default() };
    for process in processes.flatten() {
        if !process.file_name().as_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let process = process.path();
        for part in [descriptors, mappings] {
            if let Err(error) = part(&process, &wanted, &mut found.open)
                && !has_ended(&error)
            {
                found.all_seen = false;
            }
        }
    }
    found
}

/// Returns whether a visible process has the file open for writing.
pub(super) fn is_open_for_writing(stamp: &FileStat, name: &OsStr) -> bool {
    scan(vec![(*stamp, name.to_owned())]).has(stamp)
}

/// A `/proc` that hides the processes of others (`hidepid`, `ProtectProc`) hides the first one too.
fn sees_the_first_process() -> bool {
    let is_first = fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link == Path::new(FIRST_PID_NAMESPACE));
    is_first && fs::read_dir("/proc/1/fdinfo").is_ok_and(|mut entries| entries.all(|entry| entry.is_ok()))
}

fn has_ended(error: &io::Error) -> bool {
    // ESRCH: the process ended between two steps.
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

fn descriptors(process: &Path, wanted: &Wanted, open: &mut HashSet<(u64, u64)>) -> io::Result<()> {
    for entry in fs::read_dir(process.join("fd"))? {
        let entry = entry?;
        match descriptor(process, &entry.file_name(), wanted) {
            Ok(file) => open.extend(file),
            // Closed meanwhile.
            Err(error) if has_ended(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns the file of this descriptor, if it is one of the wanted files and open for writing.
fn descriptor(process: &Path, number: &OsStr, wanted: &Wanted) -> io::Result<Option<(u64, u64)>> {
    let link = process.join("fd").join(number);
    let target = fs::read_link(&link)?;
    // Sockets, pipes and the like have no path.
    if !target.has_root() {
        return Ok(None);
    }
    let information = fs::read_to_string(process.join("fdinfo").join(number))?;
    if !is_for_writing(&information) {
        return Ok(None);
    }
    // Kernels before 5.14 do not report the inode.
    let inode = field(&information, "ino:").and_then(|inode| inode.parse().ok());
    if !inode.is_none_or(|inode| wanted.inodes.contains(&inode)) && !wanted.names.contains(name_of(&target)) {
        return Ok(None);
    }
    let file = FileStat::of_process_file(&link)?;
    Ok(file.is_file().then(|| file.device_and_inode()))
}

fn is_for_writing(information: &str) -> bool {
    const ACCESS: u32 = 0o3;
    let flags = field(information, "flags:").and_then(|flags| u32::from_str_radix(flags, 8).ok());
    flags.is_none_or(|flags| flags & ACCESS != 0)
}

fn field<'a>(information: &'a str, name: &str) -> Option<&'a str> {
    information.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The last name of a path as `/proc` shows it.
fn name_of(target: &Path) -> &OsStr {
    let name = target.file_name().unwrap_or_default().as_bytes();
    OsStr::from_bytes(name.strip_suffix(b" (deleted)").unwrap_or(name))
}

/// Returns files that are mapped shared and writable. A writer may have closed the descriptor and kept such a mapping.
fn mappings(process: &Path, wanted: &Wanted, open: &mut HashSet<(u64, u64)>) -> io::Result<()> {
    for line in fs::read(process.join("maps"))?.split(|byte| *byte == b'\n') {
        let Some(mapping) = Mapping::read(line) else { continue };
        if !mapping.is_shared || !wanted.inodes.contains(&mapping.inode) {
            continue;
        }
        let same = |(stamp, name): &&(FileStat, OsString)| {
            let (device, inode) = stamp.device_and_inode();
            inode == mapping.inode && (device == mapping.device || mapping.name == *name)
        };
        for (stamp, _) in wanted.files.iter().filter(same) {
            // How the file was opened shows in the link's permissions; a mapping for reading may become one for
            // writing.
            let link = process.join("map_files").join(&mapping.range);
            if fs::symlink_metadata(link).map_or(mapping.is_writable, |link| link.mode() & 0o200 != 0) {
                open.insert(stamp.device_and_inode());
            }
        }
    }
    Ok(())
}

/// One line of `/proc/PID/maps`.
struct Mapping {
    /// As its link in `map_files` is called.
    range: String,
    is_writable: bool,
    is_shared: bool,
    device: u64,
    inode: u64,
    name: OsString,
}

impl Mapping {
    fn read(line: &[u8]) -> Option<Mapping> {
        let mut fields = line.splitn(6, |byte| *byte == b' ');
        let mut text = || fields.next().and_then(|field| std::str::from_utf8(field).ok());
        let (range, rights, _offset, device, inode) = (text()?, text()?.as_bytes(), text()?, text()?, text()?);
        let number = |hex: &str| u64::from_str_radix(hex, 16).ok();
        let (from, to) = range.split_once('-')?;
        let (major, minor) = device.split_once(':')?;
        let path = fields.next().unwrap_or_default().trim_ascii_start();
        Some(Mapping {
            range: format!("{:x}-{:x}", number(from)?, number(to)?),
            is_writable: rights.get(1) == Some(&b'w'),
            is_shared: rights.get(3) == Some(&b's'),
            device: rustix::fs::makedev(u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
            inode: inode.parse().ok()?,
            name: name_of(Path::new(OsStr::from_bytes(path))).to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn stamp_of(path: &Path) -> (FileStat, OsString) {
        let folder = fs::File::open(path.parent().unwrap()).unwrap();
        let name = path.file_name().unwrap();
        (FileStat::of(folder, name).unwrap(), name.to_owned())
    }

    fn is_open(path: &Path) -> bool {
        let (stamp, name) = stamp_of(path);
        is_open_for_writing(&stamp, &name)
    }

    #[test]
    fn only_files_open_for_writing_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let file = fs::File::create(&path).unwrap();
        assert!(is_open(&path));
        // Its name now is not the one that it was opened under.
        let renamed = folder.path().join("b.csv");
        fs::rename(&path, &renamed).unwrap();
        assert!(is_open(&renamed));
        drop(file);
        let _reader = fs::File::open(&renamed).unwrap();
        assert!(!is_open(&renamed));
    }

    /// A program that maps the file, closes its descriptor and waits.
    const MAPS: &str = "#include <fcntl.h>\n#include <stdlib.h>\n#include <sys/mman.h>\n#include <unistd.h>\n\
        int main(int argc, char **argv) {\n\
            int file = open(argv[1], O_RDWR);\n\
            if (mmap(0, 4096, atoi(argv[2]), MAP_SHARED, file, 0) == MAP_FAILED) return 1;\n\
            close(file);\n\
            write(1, \"mapped\\n\", 7);\n\
            char end;\n\
            return (int)read(0, &end, 1);\n\
        }\n";

    #[test]
    fn a_mapping_that_outlives_its_descriptor_counts_as_a_writer() {
        use std::io::{BufRead, BufReader, Write};
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("maps");
        let mut compiler =
            Command::new("cc").args(["-x", "c", "-", "-o"]).arg(&program).stdin(Stdio::piped()).spawn().unwrap();
        compiler.stdin.take().unwrap().write_all(MAPS.as_bytes()).unwrap();
        assert!(compiler.wait().unwrap().success());
        let path = folder.path().join("a.csv");
        fs::write(&path, "email\na@example.com\n").unwrap();
        // Mapped for writing, and for reading from a descriptor that may write: that can be changed later.
        for rights in [libc_rights::WRITE, libc_rights::READ] {
            let mut mapper = Command::new(&program);
            let mapper = mapper.arg(&path).arg(rights).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut mapper = mapper.spawn().unwrap();
            let mut output = String::new();
            BufReader::new(mapper.stdout.take().unwrap()).read_line(&mut output).unwrap();
            assert_eq!(output, "mapped\n");
            assert!(is_open(&path), "{rights}");
            drop(mapper.stdin.take());
            assert!(mapper.wait().unwrap().success());
            assert!(!is_open(&path));
        }
    }

    /// `PROT_READ` and `PROT_WRITE`.
    mod libc_rights {
        pub const READ: &str = "1";
        pub const WRITE: &str = "2";
    }

    #[test]
    fn a_line_of_maps_is_read_with_blanks_in_its_path() {
        let line =
            b"00400000-7f00 rw-s 00000000 fd:01 131090                     /drop/default/leads/a b.csv (deleted)";
        let mapping = Mapping::read(line).unwrap();
        assert_eq!((mapping.range.as_str(), mapping.inode), ("400000-7f00", 131_090));
        assert_eq!(mapping.device, rustix::fs::makedev(0xfd, 1));
        assert!(mapping.is_shared && mapping.is_writable && mapping.name == "a b.csv");
        assert!(Mapping::read(b"").is_none());
    }
}
