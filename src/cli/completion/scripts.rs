//! Completion scripts: those that ask this program, and static ones for the other shells.

use clap::Command;
use clap_complete::Shell;

/// Returns the script for `shell`, with the commands below `all`. Those of bash, zsh and fish ask the program at each
/// completion.
pub fn script(shell: Shell, mut all: Command) -> Vec<u8> {
    match shell {
        Shell::Bash => include_bytes!("marqueue.bash").to_vec(),
        Shell::Zsh => include_bytes!("marqueue.zsh").to_vec(),
        Shell::Fish => include_bytes!("marqueue.fish").to_vec(),
        other => {
            let mut script = Vec::new();
            clap_complete::generate(other, &mut all, "marqueue", &mut script);
            script
        }
    }
}
