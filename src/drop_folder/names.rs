//! Names in the drop folder: which files are ingested, which are ignored, and which belong to the daemon.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::domain::Format;
use crate::drop_folder::file_stat::FileStat;

/// The top-level folder of refused files. The configuration does not allow an instance of this name.
pub(super) const REJECTED: &str = "rejected";
pub(super) const README: &str = "README.txt";
pub(super) const OPTIONS: &str = "job.toml";
pub(super) const OPTIONS_REASON: &str = "job.toml.reason.txt";

/// The longest file name, in bytes.
pub(super) const MAX_NAME: usize = 255;

/// Extensions of files that are still being written.
const UNFINISHED: [&str; 3] = ["part", "tmp", "filepart"];

/// The kind of a directory entry, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// Its extension is that of a format.
    Known,
    /// Its writer will rename it.
    Unfinished,
    Options,
    OptionsReason,
    /// The README that the daemon writes at the top level.
    Readme,
    /// Any other.
    Unknown,
}

impl EntryKind {
    /// Returns the kind of a file. `path` is relative to the drop folder. Extensions are case-insensitive, as on
    /// Windows, where many files come from.
    pub(super) fn of(path: &Path) -> EntryKind {
        let name = path.file_name().unwrap_or_default();
        if name == OPTIONS {
            return EntryKind::Options;
        }
        if name == OPTIONS_REASON {
            return EntryKind::OptionsReason;
        }
        if path == Path::new(README) {
            return EntryKind::Readme;
        }
        let name = name.to_string_lossy();
        if Format::from_filename(&name).is_some() {
            return EntryKind::Known;
        }
        let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
        if ending.is_some_and(|ending| UNFINISHED.contains(&ending.as_str())) {
            EntryKind::Unfinished
        } else {
            EntryKind::Unknown
        }
    }
}

/// Returns whether the name is that of a hidden file, which is left alone.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

/// Returns why the drop folder would leave a file of this name alone; none where it would take the file. Other readers
/// of folders follow the same rules.
pub fn reason_to_skip(name: &OsStr) -> Option<String> {
    if is_hidden(name) {
        return Some("its name begins with a dot".to_owned());
    }
    match EntryKind::of(Path::new(name)) {
        EntryKind::Known => None,
        EntryKind::Unfinished => Some("its name ends as that of a file which is still being written".to_owned()),
        EntryKind::Options => Some("it has options for the drop folder, and none here".to_owned()),
        EntryKind::OptionsReason | EntryKind::Readme | EntryKind::Unknown => Some(ignored_reason(Path::new(name))),
    }
}

/// Returns why a file of this name is not ingested, and what to do.
pub(super) fn ignored_reason(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.trim().to_ascii_lowercase()).unwrap_or_default();
    let advice = match ending.as_str() {
        "gz" | "zip" | "bz2" | "xz" | "zst" | "7z" | "rar" | "tar" | "tgz" => "unpack the archive",
        "xlsx" | "xls" | "xlsm" | "xlsb" | "ods" | "numbers" => "save the workbook as CSV in UTF-8",
        "crdownload" | "download" | "partial" | "upload" => "it looks like a download that has not ended",
        _ if name.trim_end() != name => "take the blank from the end of the name",
        _ => "rename it if it is to be imported",
    };
    format!("its name ends in none of .csv, .tsv and .ssv: {advice}")
}

/// The name of an ingested file between the commit of its job and its removal. It holds the file's name and state, so
/// that a later start recognizes whether the file was written to since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PendingRemoval {
    /// The original name, shortened if the new name would be too long.
    pub(super) original: OsString,
    mark: String,
}

const SET_ASIDE: &str = ".taken-";
const MARK_DIGITS: usize = 16;

impl PendingRemoval {
    pub(super) fn new(name: &OsStr, stat: &FileStat) -> PendingRemoval {
        let original = shortened(name, "", MAX_NAME - 1 - SET_ASIDE.len() - MARK_DIGITS);
        PendingRemoval { original, mark: mark(stat) }
    }

    /// Parses a name; `None` if it is not that of a set-aside file.
    pub(super) fn read(name: &OsStr) -> Option<PendingRemoval> {
        let name = name.as_bytes().strip_prefix(b".")?;
        let (before, mark) = name.split_at_checked(name.len().checked_sub(MARK_DIGITS)?)?;
        let original = before.strip_suffix(SET_ASIDE.as_bytes()).filter(|original| !original.is_empty())?;
        let mark = std::str::from_utf8(mark).ok()?;
        let is_hex = mark.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        is_hex.then(|| PendingRemoval { original: OsStr::from_bytes(original).to_owned(), mark: mark.to_owned() })
    }

    pub(super) fn name(&self) -> OsString {
        let mut name = OsString::from(".");
        name.push(&self.original);
        name.push(SET_ASIDE);
        name.push(&self.mark);
        name
    }

    /// Returns whether the file is unchanged since it was read.
    pub(super) fn is_of(&self, stat: &FileStat) -> bool {
        self.mark == mark(stat)
    }
}

fn mark(stat: &FileStat) -> String {
    let hash = Sha256::digest(stat.state());
    hex::encode(&hash[..MARK_DIGITS / 2])
}

/// Returns the name with `suffix` before its extension, in at most `room` bytes.
pub(super) fn shortened(name: &OsStr, suffix: &str, room: usize) -> OsString {
    let name = name.as_bytes();
    let ending = name.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0).unwrap_or(name.len());
    let (stem, ending) = name.split_at(ending);
    let mut length = stem.len().min(room.saturating_sub(suffix.len() + ending.len().min(100)));
    // Not within a UTF-8 sequence.
    while length < stem.len() && length > 0 && stem[length] & 0xC0 == 0x80 {
        length -= 1;
    }
    OsString::from_vec([&stem[..length], suffix.as_bytes(), ending].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_left_alone_have_a_reason() {
        for (name, part) in [
            (".a.csv", "begins with a dot"),
            ("a.csv.part", "still being written"),
            ("a.TMP", "still being written"),
            ("a.filepart", "still being written"),
            ("job.toml", "options for the drop folder"),
            ("a.csv.gz", "unpack the archive"),
            ("README.txt", "ends in none of .csv, .tsv and .ssv"),
        ] {
            let reason = reason_to_skip(OsStr::new(name)).unwrap_or_default();
            assert!(reason.contains(part), "{name}: {reason}");
        }
        for name in ["a.csv", "B.TSV", "c.ssv"] {
            assert_eq!(reason_to_skip(OsStr::new(name)), None, "{name}");
        }
    }

    #[test]
    fn extensions_decide_and_are_case_insensitive() {
        for (path, name) in [
            ("default/leads/a.csv", EntryKind::Known),
            ("default/leads/A.CSV", EntryKind::Known),
            ("default/leads/a.Tsv", EntryKind::Known),
            ("default/leads/a.csv.part", EntryKind::Unfinished),
            ("default/leads/a.TMP", EntryKind::Unfinished),
            ("default/leads/a.csv.filepart", EntryKind::Unfinished),
            ("default/leads/part", EntryKind::Unknown),
            ("default/leads/a.csv.gz", EntryKind::Unknown),
            ("default/leads/a.csv.txt", EntryKind::Unknown),
            ("default/leads/a.csv ", EntryKind::Unknown),
            ("default/leads/people", EntryKind::Unknown),
            ("default/leads/job.toml", EntryKind::Options),
            ("default/leads/job.toml.reason.txt", EntryKind::OptionsReason),
            ("README.txt", EntryKind::Readme),
            ("default/leads/README.txt", EntryKind::Unknown),
        ] {
            assert_eq!(EntryKind::of(Path::new(path)), name, "{path}");
        }
    }

    #[test]
    fn an_ignored_file_is_reported_with_advice() {
        for (name, advice) in [
            ("a.csv.GZ", "unpack the archive"),
            ("a.xlsx", "save the workbook as CSV"),
            ("a.csv ", "take the blank from the end"),
            ("a.csv.crdownload", "a download that has not ended"),
            ("a", "rename it"),
        ] {
            assert!(ignored_reason(Path::new(name)).contains(advice), "{name}");
        }
    }

    #[test]
    fn a_set_aside_name_gives_the_original_name_and_state() {
        let stat = FileStat::fabricated(7, 100, 5);
        for name in ["a.csv", "a b.c.SSV", "ü.taken-x.csv"] {
            let aside = PendingRemoval::new(OsStr::new(name), &stat);
            let read = PendingRemoval::read(&aside.name()).unwrap();
            assert_eq!((read.original.as_os_str(), read.clone()), (OsStr::new(name), aside));
            assert!(read.is_of(&stat) && !read.is_of(&FileStat::fabricated(7, 101, 5)));
        }
        let long = format!("{}.csv", "ü".repeat(125));
        let aside = PendingRemoval::new(OsStr::new(&long), &stat);
        assert!(aside.name().len() <= MAX_NAME && aside.original.as_bytes().ends_with("ü.csv".as_bytes()));
        for other in [".a.csv", "a.csv.taken-0123456789abcdef", ".taken-0123456789abcdef", ".a.taken-0123456789abcdeX"]
        {
            assert_eq!(PendingRemoval::read(OsStr::new(other)), None, "{other}");
        }
    }
}
