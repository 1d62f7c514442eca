//! The `man` command: writes the manual pages.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command};

use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::{manual, output};

/// Write the manual pages into a folder
///
/// One page for each command, which ends in .1, and marqueue.toml.5 about the configuration. They belong into the
/// folders man1 and man5 of a folder of MANPATH. With --json: an object, the folder and how many pages it has.
#[derive(Args, Debug)]
#[command(
    name = "man",
    after_help = "\
Examples:
  marqueue man pages"
)]
pub struct Manual {
    /// The folder, which must exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Manual {
    /// Writes the pages of `all`, of the commands below it, and of the configuration.
    ///
    /// # Errors
    /// A page is not writable.
    pub fn run(self, all: Command, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let mut pages = manual::command_pages(all);
        pages.push(manual::config_page());
        for page in &pages {
            let file = self.folder.join(&page.file_name);
            fs::write(&file, &page.text)
                .map_err(|error| CliError::Input(format!("{}: the page can't be written: {error}", file.display())))?;
        }
        let (folder, count) = (self.folder.display(), pages.len());
        if global.json {
            output::print_json(&serde_json::json!({"folder": folder.to_string(), "pages": count}))?;
        } else {
            output::print(&format!("{folder}: {count} pages; \"man -l {folder}/marqueue.1\" shows the first\n"))?;
        }
        Ok(ExitStatus::Done)
    }
}
