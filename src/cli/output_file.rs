//! Output file: a file that gets its name only when it is complete, and that replaces another one only on request.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use tempfile::{Builder, NamedTempFile};

use crate::cli::exit_status::CliError;
use crate::disk::parent_folder;

/// What happens to a file that has the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the command fails.
    Keep,
    /// It is replaced.
    Replace,
}

/// The option of commands that write a file.
#[derive(Args, Clone, Copy, Debug)]
pub struct ForceOption {
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

impl ForceOption {
    /// Returns what happens to an existing file.
    pub fn existing(self) -> Existing {
        if self.force { Existing::Replace } else { Existing::Keep }
    }
}

/// Who may read the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Only its owner.
    Owner,
    /// Those whom the user's umask allows.
    Umask,
}

/// A file that is being written.
pub struct OutputFile {
    path: PathBuf,
    existing: Existing,
    content: Content,
}

enum Content {
    /// A temporary file beside the path.
    Temporary(NamedTempFile),
    /// A device, a pipe or a terminal, which is written to as it is.
    Special(File),
}

impl OutputFile {
    /// Checks that the path may be written, and creates nothing.
    ///
    /// # Errors
    /// [`CliError::Input`] if the path is a folder, or a file that must stay.
    pub fn check(path: &Path, existing: Existing) -> Result<(), CliError> {
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => {
                Err(CliError::Input(format!("{} is a folder: name a file in it", path.display())))
            }
            Ok(there) if there.is_file() && existing == Existing::Keep => Err(already_exists(path)),
            _ => Ok(()),
        }
    }

    /// Creates the file under a temporary name.
    ///
    /// # Errors
    /// [`CliError::Input`] as of [`OutputFile::check`], or if the folder is not writable.
    pub fn create(path: &Path, existing: Existing, readers: Readers) -> Result<OutputFile, CliError> {
        OutputFile::check(path, existing)?;
        let unwritable = |error| unwritable(path, &error);
        // A link is followed, so that the file that it names is replaced and not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&path).is_ok_and(|there| !there.is_file()) {
            let file = File::options().write(true).open(&path).map_err(unwritable)?;
            return Ok(OutputFile { path, existing, content: Content::Special(file) });
        }
        let mode = match readers {
            Readers::Owner => 0o600,
            Readers::Umask => 0o666,
        };
        let mut builder = Builder::new();
        builder.prefix(".marqueue-").permissions(Permissions::from_mode(mode));
        let file = builder.tempfile_in(parent_folder(&path)).map_err(unwritable)?;
        Ok(OutputFile { path, existing, content: Content::Temporary(file) })
    }

    /// Returns the file that is written, to look at its kind.
    pub fn as_file(&self) -> &File {
        match &self.content {
            Content::Temporary(file) => file.as_file(),
            Content::Special(file) => file,
        }
    }

    /// Returns the path of the temporary file; that of the file itself if it has none.
    pub fn temporary_path(&self) -> &Path {
        match &self.content {
            Content::Temporary(file) => file.path(),
            Content::Special(_) => &self.path,
        }
    }

    /// Flushes the file to the disk, and gives it its name.
    ///
    /// # Errors
    /// [`CliError::Input`] if that fails, or if a file of that name has been made meanwhile and must stay.
    pub fn finish(self) -> Result<(), CliError> {
        let OutputFile { path, existing, content } = self;
        let unwritable = |error| unwritable(&path, &error);
        let file = match content {
            Content::Special(mut file) => return file.flush().map_err(unwritable),
            Content::Temporary(file) => file,
        };
        file.as_file().sync_all().map_err(unwritable)?;
        let named = match existing {
            Existing::Replace => file.persist(&path),
            Existing::Keep => file.persist_noclobber(&path),
        };
        named.map_err(|error| match error.error.kind() {
            ErrorKind::AlreadyExists => already_exists(&path),
            _ => unwritable(error.error),
        })?;
        File::open(parent_folder(&path)).and_then(|folder| folder.sync_all()).map_err(unwritable)
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.content {
            Content::Temporary(file) => file.write(bytes),
            Content::Special(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.content {
            Content::Temporary(file) => file.flush(),
            Content::Special(file) => file.flush(),
        }
    }
}

/// Makes the error of a path that can't be written.
pub fn unwritable(path: &Path, error: &io::Error) -> CliError {
    CliError::Input(format!("{} can't be written: {error}", path.display()))
}

fn already_exists(path: &Path) -> CliError {
    CliError::Input(format!("{} exists already: name another file, or replace it with --force", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: &Path, existing: Existing) -> Result<(), String> {
        let mut file = OutputFile::create(path, existing, Readers::Owner).map_err(|error| error.to_string())?;
        file.write_all(b"new").unwrap();
        file.finish().map_err(|error| error.to_string())
    }

    #[test]
    fn an_existing_file_is_replaced_only_on_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        write(&path, Existing::Keep).unwrap();
        fs::write(&path, "old").unwrap();
        assert_eq!(
            write(&path, Existing::Keep).unwrap_err(),
            format!("{} exists already: name another file, or replace it with --force", path.display())
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write(&path, Existing::Replace).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(write(folder.path(), Existing::Replace).unwrap_err().ends_with(" is a folder: name a file in it"));
    }

    #[test]
    fn a_symbolic_link_is_kept_and_its_target_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a.csv"), folder.path().join("link"));
        fs::write(&path, "old").unwrap();
        symlink("a.csv", &link).unwrap();
        write(&link, Existing::Replace).unwrap();
        assert_eq!(
            (fs::read(&path).unwrap().as_slice(), fs::symlink_metadata(&link).unwrap().is_symlink()),
            (&b"new"[..], true)
        );
    }

    #[test]
    fn a_file_created_meanwhile_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let file = OutputFile::create(&path, Existing::Keep, Readers::Umask).unwrap();
        fs::write(&path, "other").unwrap();
        assert!(file.finish().is_err());
        assert_eq!(fs::read(&path).unwrap(), b"other");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the temporary file is removed");
    }

    #[test]
    fn an_existing_device_is_written_to() {
        write(Path::new("/dev/null"), Existing::Keep).unwrap();
    }
}
