//! Candidates for the values of arguments: which arguments take job ids, instances and data files.
//!
//! They are attached to the finished definition of the commands, so that an argument of a known name gets them in every
//! command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Arg, Command, ValueHint};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter};

use crate::cli::completion::daemon;
use crate::cli::format::state_label;
use crate::domain::Format;

/// Returns the commands with candidates for their arguments. `words` is the command line, which may name the socket.
pub fn with_candidates(command: Command, words: &[OsString]) -> Command {
    let socket = daemon::socket_of(words);
    attach(command, &socket)
}

fn attach(command: Command, socket: &Path) -> Command {
    let is_man = command.get_name() == "man";
    let command = command.mut_args(|arg| match arg.get_id().as_str() {
        "id" | "ids" | "before" => jobs(arg, socket.to_owned()),
        "instance" => instances(arg, socket.to_owned()),
        "files" | "with" => arg.add(ArgValueCompleter::new(data_files())),
        "folder" if is_man => arg.value_hint(ValueHint::DirPath),
        _ => arg,
    });
    command.mut_subcommands(|below| attach(below, socket))
}

fn jobs(arg: Arg, socket: PathBuf) -> Arg {
    arg.add(ArgValueCandidates::new(move || {
        let jobs = daemon::jobs(&socket);
        jobs.iter()
            .map(|job| candidate(&job.id.to_string(), &format!("{}, {}", job.filename, state_label(job))))
            .collect()
    }))
}

fn instances(arg: Arg, socket: PathBuf) -> Arg {
    arg.add(ArgValueCandidates::new(move || {
        let instances = daemon::instances(&socket);
        instances
            .iter()
            .map(|(name, status)| candidate(name, if status.pause.is_some() { "paused" } else { "running" }))
            .collect()
    }))
}

fn candidate(value: &str, help: &str) -> CompletionCandidate {
    CompletionCandidate::new(value).help(Some(help.to_owned().into()))
}

/// Files whose format is known by their ending, the folders that may have some, and standard input.
fn data_files() -> PathCompleter {
    let has_format = |name: &std::ffi::OsStr| Format::from_filename(&name.to_string_lossy()).is_some();
    PathCompleter::any().filter(move |path| path.file_name().is_some_and(has_format) && path.is_file()).stdio()
}
