//! Files of a folder that is given as an argument: those that the drop folder would take, in the order of their names.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::exit_status::CliError;
use crate::drop_folder::reason_to_skip;

/// The files of one folder. Its subfolders are not read.
#[derive(Debug, Default)]
pub struct FolderFiles {
    /// The files to import, in the order of their names' bytes.
    pub taken: Vec<PathBuf>,
    /// Everything else in the folder, in the same order.
    pub skipped: Vec<SkippedFile>,
}

/// A file of a folder that is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedFile {
    /// The folder, as it was typed, and the name.
    pub path: PathBuf,
    /// Why, as a sentence about the file.
    pub reason: String,
}

impl FolderFiles {
    /// Lists a folder.
    ///
    /// # Errors
    /// [`CliError::Input`] if it can't be read, or has no file to import.
    pub fn list(folder: &Path) -> Result<FolderFiles, CliError> {
        let unreadable = |error| CliError::Input(format!("the folder can't be read: {error}"));
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            names.push(entry.map_err(unreadable)?.file_name());
        }
        names.sort_unstable();
        let mut files = FolderFiles::default();
        for name in names {
            let path = folder.join(&name);
            match reason_of_kind(&path).or_else(|| reason_to_skip(&name)) {
                None => files.taken.push(path),
                Some(reason) => files.skipped.push(SkippedFile { path, reason }),
            }
        }
        if files.taken.is_empty() {
            let skipped = match files.skipped.len() {
                0 => "it is empty".to_owned(),
                number => format!("other entries: {number}"),
            };
            let text = format!("the folder has no file that ends in .csv, .tsv or .ssv ({skipped})");
            return Err(CliError::Input(text));
        }
        Ok(files)
    }
}

/// Returns why an entry is no data file, whatever its name. One that can't be examined counts as a file: the error is
/// reported when it is opened.
fn reason_of_kind(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    if metadata.is_dir() {
        Some("it is a folder, and only the files of the given one are taken".to_owned())
    } else if !metadata.is_file() {
        Some("it is not a regular file".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_data_files_are_taken_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["b.csv", "B.tsv", "10.ssv", ".hidden.csv", "c.csv.part", "notes.txt"] {
            fs::write(path(name), "").unwrap();
        }
        fs::create_dir(path("old.csv")).unwrap();
        let files = FolderFiles::list(folder.path()).unwrap();
        assert_eq!(files.taken, [path("10.ssv"), path("B.tsv"), path("b.csv")]);
        let skipped: Vec<_> = files.skipped.iter().map(|skipped| skipped.path.clone()).collect();
        assert_eq!(skipped, [path(".hidden.csv"), path("c.csv.part"), path("notes.txt"), path("old.csv")]);
        assert!(files.skipped[3].reason.contains("it is a folder"));
    }

    #[test]
    fn a_folder_without_data_files_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = |folder: &Path| FolderFiles::list(folder).unwrap_err().to_string();
        assert_eq!(error(folder.path()), "the folder has no file that ends in .csv, .tsv or .ssv (it is empty)");
        fs::write(folder.path().join("a.txt"), "").unwrap();
        assert!(error(folder.path()).ends_with("(other entries: 1)"));
        assert!(error(&folder.path().join("none")).contains("No such file or directory"));
    }
}
