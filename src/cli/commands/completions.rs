//! The `completions` command: writes a shell's completion script.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::cli::completion;
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::output;

/// Write a script that completes commands, options and values in a shell
///
/// In bash, zsh and fish the script runs this program at each completion, which also knows the files that fit and, from
/// the running daemon, job ids and instances. It waits at most 0.4 s, writes no error, and starts no service of
/// systemd.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue completions bash > ~/.local/share/bash-completion/completions/marqueue
  marqueue completions zsh > /usr/local/share/zsh/site-functions/_marqueue
  marqueue completions fish > ~/.config/fish/completions/marqueue.fish")]
pub struct Completions {
    /// The shell to write the script for
    shell: Shell,
}

impl Completions {
    /// Writes the script for the commands below `all`.
    ///
    /// # Errors
    /// Standard output is not writable.
    pub fn run(self, all: Command) -> Result<ExitStatus, CliError> {
        output::print(&String::from_utf8_lossy(&completion::script(self.shell, all)))?;
        Ok(ExitStatus::Done)
    }
}
