//! The `backup` command: receives a copy of the database from the running daemon, verifies it, and only then gives it
//! its name.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::format::count;
use crate::cli::global::GlobalArgs;
use crate::cli::output;
use crate::cli::progress::Progress;
use crate::disk::parent_folder;
use crate::store::{BackupInfo, verify_backup};

/// Write a consistent copy of the database to a file, while the daemon runs
///
/// All of the copy is checked before the file gets its name. It holds what the database holds, personal data too: only its owner may read it. With --json: an object with "file", "bytes", "jobs" and "schema".
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue backup /var/backups/marqueue-monday.db
  marqueue backup /var/backups/marqueue.db --force --json")]
pub struct Backup {
    /// The file to write
    file: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct BackupResult<'a> {
    file: &'a Path,
    #[serde(flatten)]
    copy: &'a BackupInfo,
}

impl Backup {
    /// Receives the copy into a temporary file, verifies it, and renames it.
    ///
    /// # Errors
    /// The file exists or is not writable, the daemon refuses, or the copy is damaged.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let path = self.file.as_path();
        if path.is_dir() {
            return Err(CliError::Input(format!("{} is a folder: name a file in it", path.display())));
        }
        if !self.force && fs::symlink_metadata(path).is_ok() {
            return Err(already_exists(path));
        }
        let unwritable = |error: io::Error| CliError::Input(format!("{} can't be written: {error}", path.display()));
        // Created with mode 0600, and removed on every error.
        let mut temp_file =
            NamedTempFile::with_prefix_in(".marqueue-backup-", parent_folder(path)).map_err(unwritable)?;
        let progress = Progress::new();
        let mut download = global.client()?.backup().await?;
        let bar = progress.download("backup", download.bytes());
        while let Some(bytes) = download.next().await? {
            temp_file.write_all(&bytes).map_err(unwritable)?;
            bar.inc(bytes.len() as u64);
        }
        bar.finish_and_clear();
        temp_file.as_file().sync_all().map_err(unwritable)?;
        let bad = |error| CliError::Input(format!("{error}; the copy was deleted: try again"));
        let copy = verify_backup(temp_file.path()).await.map_err(bad)?;
        let renamed = if self.force { temp_file.persist(path) } else { temp_file.persist_noclobber(path) };
        renamed.map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => already_exists(path),
            _ => unwritable(error.error),
        })?;
        File::open(parent_folder(path)).and_then(|folder| folder.sync_all()).map_err(unwritable)?;
        if global.json {
            output::print_json(&BackupResult { file: path, copy: &copy })?;
        } else {
            let jobs = count(copy.jobs, "job");
            output::print(&format!("{}: {} bytes with {jobs}, verified\n", path.display(), copy.bytes))?;
        }
        Ok(ExitStatus::Done)
    }
}

fn already_exists(path: &Path) -> CliError {
    CliError::Input(format!("{} exists already: name another file, or replace it with --force", path.display()))
}
