//! Definition of the command line: the options before the command, and the list of commands.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command, CommandFactory, Error, FromArgMatches, Parser, Subcommand};

use crate::cli::commands;
use crate::cli::demo::Demo;
use crate::cli::doctor::Doctor;
use crate::cli::global::{DAEMON_OPTIONS, GlobalArgs};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "marqueue",
    version,
    about = "A job queue for Adobe Marketo's Bulk Import API",
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Exit status:
    0  done
    1  the job failed or was cancelled, a file can't be read, the request was refused, or doctor found a fault
    2  wrong usage or configuration
    3  no daemon answers
    4  done, but some rows failed
  130  stopped by Ctrl-C while waiting; the job continues in the daemon

Examples:
  marqueue serve --config /etc/marqueue/marqueue.toml
  marqueue doctor --config /etc/marqueue/marqueue.toml
  marqueue add leads people.csv --wait
  marqueue failures 12 -o failed.csv"
)]
pub struct Cli {
    /// The options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// The command to run.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// All commands. Those that need no runtime of many threads are in [`ClientCommand`].
#[allow(missing_docs, reason = "a docstring here would replace the help text of the command")]
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    Serve(commands::serve::Serve),
    #[command(flatten)]
    Client(ClientCommand),
    Demo(Demo),
}

/// Commands that run on one thread.
#[allow(missing_docs, reason = "a docstring here would replace the help text of the command")]
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    Add(Box<commands::add::Add>),
    List(commands::list::List),
    Show(commands::show::Show),
    Wait(commands::wait::Wait),
    Failures(commands::download::Failures),
    Warnings(commands::download::Warnings),
    File(commands::download::File),
    Results(commands::download::Results),
    Reasons(commands::reasons::Reasons),
    Retry(commands::retry::Retry),
    Cancel(commands::cancel::Cancel),
    Settle(commands::settle::Settle),
    Erase(commands::erase::Erase),
    Retention(commands::erase::Retention),
    Backup(commands::backup::Backup),
    Explain(commands::explain::Explain),
    Events(commands::events::Events),
    Pause(commands::pause::Pause),
    Resume(commands::pause::Resume),
    Stats(commands::stats::Stats),
    Status(commands::status::Status),
    Health(commands::health::Health),
    Doctor(Doctor),
    Check(commands::check::Check),
    Simulate(commands::simulate::Simulate),
    Completions(commands::completions::Completions),
    Man(commands::man::Manual),
}

/// Commands with the options that mean nothing for them, and that their help leaves out: most ask no daemon, and
/// `doctor` asks that of the configuration.
const HIDDEN_OPTIONS: [(&str, &[&str]); 7] = [
    ("serve", &DAEMON_OPTIONS),
    ("demo", &DAEMON_OPTIONS),
    ("doctor", &["socket"]),
    ("check", &DAEMON_OPTIONS),
    ("simulate", &DAEMON_OPTIONS),
    ("completions", &DAEMON_OPTIONS),
    ("man", &DAEMON_OPTIONS),
];

/// Those of them that would be expected to listen at the given socket, and refuse it.
const LISTENERS: [&str; 3] = ["serve", "demo", "simulate"];

impl Cli {
    /// Returns the definition of all commands.
    pub fn definition() -> Command {
        let all = Cli::command();
        let hide = |all: Command, (name, options): (&str, &[&str])| {
            let is_hidden = |arg: &&Arg| options.contains(&arg.get_id().as_str());
            let hidden: Vec<Arg> = all.get_arguments().filter(is_hidden).map(|arg| arg.clone().hide(true)).collect();
            // A command's own argument takes the place of the global one with the same id.
            all.mut_subcommand(name, |command| command.args(hidden))
        };
        HIDDEN_OPTIONS.into_iter().fold(all, hide)
    }

    /// Parses the arguments, the program's name first.
    ///
    /// # Errors
    /// The arguments are wrong, or ask for the help or the version.
    pub fn parse_arguments<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<Cli, Error> {
        let mut definition = Cli::definition();
        let matches = definition.try_get_matches_from_mut(arguments)?;
        refuse_socket(&matches, &mut definition)?;
        Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut definition))
    }
}

/// Refuses `--socket` for a command that would seem to listen there.
fn refuse_socket(matches: &ArgMatches, definition: &mut Command) -> Result<(), Error> {
    let Some((name, _)) = matches.subcommand().filter(|(name, _)| LISTENERS.contains(name)) else { return Ok(()) };
    if !matches.contains_id("socket") {
        return Ok(());
    }
    let text = match name {
        "serve" => {
            "serve listens where api.socket of the configuration says: --socket is for commands that ask a daemon"
        }
        _ => "--socket is for commands that ask a daemon",
    };
    Err(definition.error(ErrorKind::ArgumentConflict, text))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Collects the commands below `command`, each with its full name.
    fn commands(command: &clap::Command, words: &str, found: &mut Vec<(String, clap::Command)>) {
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            let words = format!("{words} {}", below.get_name());
            commands(below, &words, found);
            found.push((words, below.clone()));
        }
    }

    #[test]
    fn the_command_definition_is_valid() {
        Cli::definition().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_has_an_example() {
        let mut found = Vec::new();
        commands(&Cli::definition(), "marqueue", &mut found);
        assert!(found.len() > 20, "{}", found.len());
        for (words, mut command) in found {
            let help = command.render_long_help().to_string();
            let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{words} has no example"));
            assert!(examples.contains(&words), "{words}: {examples}");
        }
    }

    #[test]
    fn every_example_parses() {
        let mut found = vec![("marqueue".to_owned(), Cli::definition())];
        commands(&Cli::definition(), "marqueue", &mut found);
        for (_, mut command) in found {
            let help = command.render_long_help().to_string();
            let (_, examples) = help.split_once("Examples:\n").unwrap();
            for line in examples.lines().filter(|line| !line.trim().is_empty()) {
                let words = line.split(" > ").next().unwrap().split('|').next_back().unwrap();
                let words = words.split_whitespace().skip_while(|word| *word != "marqueue");
                let words = words.map(|word| word.trim_matches('"'));
                Cli::parse_arguments(words).unwrap_or_else(|error| panic!("{line}: {error}"));
            }
        }
    }

    #[test]
    fn global_options_may_precede_or_follow_the_command() {
        for line in [
            "marqueue --socket /s --json list",
            "marqueue list --socket /s --json",
            "marqueue --json add leads a.csv --socket /s",
        ] {
            let cli = Cli::parse_arguments(line.split(' ')).unwrap();
            assert_eq!((cli.global.socket.as_deref(), cli.global.json), (Some(Path::new("/s")), true), "{line}");
        }
    }

    #[test]
    fn options_of_the_daemon_are_shown_where_one_is_asked() {
        let mut found = Vec::new();
        let mut all = Cli::definition();
        all.build();
        commands(&all, "marqueue", &mut found);
        for (words, mut command) in found {
            let name = words.split(' ').nth(1).unwrap();
            let hidden =
                HIDDEN_OPTIONS.iter().find(|(hiding, _)| *hiding == name).map_or(&[][..], |(_, options)| options);
            let help = command.render_long_help().to_string();
            for option in DAEMON_OPTIONS {
                assert_eq!(help.contains(&format!("--{option}")), !hidden.contains(&option), "{words}: {help}");
            }
            assert!(help.contains("--json"), "{words}");
        }
    }

    #[test]
    fn a_command_that_listens_refuses_a_socket() {
        for line in ["marqueue serve --socket /s", "marqueue --socket /s serve", "marqueue demo --socket /s"] {
            let error = Cli::parse_arguments(line.split(' ')).unwrap_err();
            assert!(error.to_string().contains("--socket is for commands that ask a daemon"), "{line}: {error}");
        }
        assert!(Cli::parse_arguments(["marqueue", "--socket", "/s", "check", "a.csv"]).is_ok());
    }
}
