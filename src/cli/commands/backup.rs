//! The `backup` command: receives a copy of the database from the running daemon, verifies it, and only then gives it
//! its name.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::format::count;
use crate::cli::global::GlobalArgs;
use crate::cli::output;
use crate::cli::output_file::{ForceOption, OutputFile, Readers, unwritable};
use crate::cli::transfer_bar::{Direction, TransferBar};
use crate::store::{BackupInfo, verify_backup};

/// Write a consistent copy of the database to a file, while the daemon runs
///
/// All of the copy is checked before the file gets its name. It holds what the database holds, personal data too: only
/// its owner may read it. With --json: an object with "file", "bytes", "jobs" and "schema".
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue backup /var/backups/marqueue-monday.db
  marqueue backup /var/backups/marqueue.db --force --json")]
pub struct Backup {
    /// The file to write
    file: PathBuf,
    #[command(flatten)]
    force: ForceOption,
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
        // Created first: a folder that is not writable should be reported before the copy is made.
        let mut file = OutputFile::create(path, self.force.existing(), Readers::Owner)?;
        let mut download = global.client()?.backup().await?;
        let bar = TransferBar::new("backup", Direction::Download, download.bytes());
        let (mut received, mut show) = (0, bar.updater());
        while let Some(bytes) = download.next().await? {
            file.write_all(&bytes).map_err(|error| unwritable(path, &error))?;
            received += bytes.len() as u64;
            show(received);
        }
        drop(bar);
        let bad = |error| CliError::Input(format!("{error}; the copy was deleted: try again"));
        let copy = verify_backup(file.temporary_path()).await.map_err(bad)?;
        file.finish()?;
        if global.json {
            output::print_json(&BackupResult { file: path, copy: &copy })?;
        } else {
            let jobs = count(copy.jobs, "job");
            output::print(&format!("{}: {} bytes with {jobs}, verified\n", path.display(), copy.bytes))?;
        }
        Ok(ExitStatus::Done)
    }
}
