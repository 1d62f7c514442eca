//! Reply to a shell's completion script: reads the words of the command line, writes one candidate a line.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Command;
use clap_complete::engine::{CompletionCandidate, complete};

use crate::cli::completion::candidates::with_candidates;
use crate::cli::format::sanitize;

/// The variable that names the shell. It is the one that clap's own scripts set.
const SHELL_VARIABLE: &str = "COMPLETE";

/// The variable with the position of the cursor's word, from 0; the last word where it is not set.
const INDEX_VARIABLE: &str = "_CLAP_COMPLETE_INDEX";

/// A shell whose script asks this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AskingShell {
    Bash,
    Zsh,
    Fish,
}

/// Answers the completion script of a shell, with the commands below `definition`. Returns false if the program was not
/// run by one.
///
/// Nothing is written where there are no candidates or something fails: a message would stand in the command line.
pub fn answer(definition: fn() -> Command) -> bool {
    // Another program's variable of this name must not keep the daemon from starting, so other values are ignored.
    let shell = match std::env::var(SHELL_VARIABLE).as_deref() {
        Ok("bash") => AskingShell::Bash,
        Ok("zsh") => AskingShell::Zsh,
        Ok("fish") => AskingShell::Fish,
        _ => return false,
    };
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != "--") {
        return false;
    }
    let words: Vec<OsString> = arguments.collect();
    let index = std::env::var(INDEX_VARIABLE).ok().and_then(|index| index.parse().ok());
    // An error of the write cannot be shown anywhere.
    let _ = io::stdout().lock().write_all(reply(shell, definition(), words, index).as_bytes());
    true
}

fn reply(shell: AskingShell, all: Command, mut words: Vec<OsString>, index: Option<usize>) -> String {
    let index = index.unwrap_or(words.len().saturating_sub(1));
    if words.len() <= index {
        words.resize(index + 1, OsString::new());
    }
    let word = words[index].to_string_lossy().into_owned();
    let mut command = with_candidates(all, &words);
    let current_dir = std::env::current_dir().ok();
    let found = complete(&mut command, words, index, current_dir.as_deref()).unwrap_or_default();
    let is_option = |candidate: &CompletionCandidate| candidate.get_value().to_string_lossy().starts_with("--");
    // Options are shown where nothing else can stand, or once their first letter is typed.
    let has_values = !word.starts_with('-') && !found.iter().all(is_option);
    let mut lines = String::new();
    for candidate in found.iter().filter(|candidate| !(has_values && is_option(candidate))) {
        lines += &line(shell, candidate);
    }
    lines
}

/// Returns the line for a candidate; nothing if no line can hold it.
fn line(shell: AskingShell, candidate: &CompletionCandidate) -> String {
    let value = candidate.get_value().to_string_lossy();
    if value.contains(char::is_control) {
        return String::new();
    }
    let help = candidate.get_help().map(|help| sanitize(help.to_string().lines().next().unwrap_or_default()));
    match (shell, help.filter(|help| !help.is_empty())) {
        (AskingShell::Bash, _) | (AskingShell::Fish, None) => format!("{value}\n"),
        (AskingShell::Fish, Some(help)) => format!("{value}\t{help}\n"),
        (AskingShell::Zsh, help) => {
            let value = value.replace('\\', "\\\\").replace(':', "\\:");
            let help = help.map(|help| format!(":{}", help.replace('\\', "\\\\"))).unwrap_or_default();
            format!("{value}{help}\n")
        }
    }
}
