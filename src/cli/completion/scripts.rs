//! Completion scripts: those that ask this program, and static ones for the other shells.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;

/// Returns the script for `shell`. Those of bash, zsh and fish ask the program at each completion.
pub fn script(shell: Shell) -> Vec<u8> {
    match shell {
        Shell::Bash => include_bytes!("marqueue.bash").to_vec(),
        Shell::Zsh => include_bytes!("marqueue.zsh").to_vec(),
        Shell::Fish => include_bytes!("marqueue.fish").to_vec(),
        other => {
            let mut script = Vec::new();
            clap_complete::generate(other, &mut Cli::command(), "marqueue", &mut script);
            script
        }
    }
}
