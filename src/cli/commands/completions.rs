//! The `completions` command: writes a shell's completion script.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::{Cli, output};

/// Write a script that completes the commands and options in a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue completions bash > /etc/bash_completion.d/marqueue
  marqueue completions zsh > _marqueue")]
pub struct Completions {
    /// The shell to write the script for
    shell: Shell,
}

impl Completions {
    /// Writes the script.
    ///
    /// # Errors
    /// Standard output is not writable.
    pub fn run(self) -> Result<ExitStatus, CliError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "marqueue", &mut script);
        output::print(&String::from_utf8_lossy(&script))?;
        Ok(ExitStatus::Done)
    }
}
