//! Command line: the commands, the options that all of them share, and the dispatch to each command.
//!
//! [`main`] runs `serve` itself, and gives `demo`, which has a daemon in this process, a multi-thread runtime. [`run`]
//! runs all other commands, one file each. Standard output has the requested data and nothing else; progress, hints and
//! errors go to standard error.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod commands;
mod completion;
mod demo;
mod doctor;
mod entry;
mod exit_status;
mod format;
mod global;
mod input;
mod job_watch;
mod manual;
mod output;
mod progress;
#[cfg(test)]
mod reference;
mod report_check;
mod target_args;
mod terminal_text;
mod usage_hint;

pub use entry::main;
pub use exit_status::{CliError, ExitStatus};
pub use global::GlobalArgs;
pub use output::note;

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
    Serve(Serve),
    #[command(flatten)]
    Client(ClientCommand),
    Demo(demo::Demo),
}

/// Run the daemon in the foreground until SIGTERM or SIGINT
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue serve --config /etc/marqueue/marqueue.toml
  marqueue serve --config /etc/marqueue/marqueue.toml --paused
  MARQUEUE_STORE__PATH=/var/lib/marqueue/queue.db marqueue serve -c marqueue.toml")]
pub struct Serve {
    /// The configuration file, in TOML [default: only the environment]
    #[arg(long, short, value_name = "FILE", env = "MARQUEUE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Start with the uploads of every instance paused, as "marqueue pause" does; for a restored database
    #[arg(long)]
    pub paused: bool,
}

/// The commands that [`run`] runs.
#[allow(missing_docs, reason = "a docstring here would replace the help text of the command")]
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    Add(commands::add::Add),
    List(commands::list::List),
    Show(commands::show::Show),
    Wait(commands::wait::Wait),
    Failures(commands::download::Failures),
    Warnings(commands::download::Warnings),
    File(commands::download::File),
    Retry(commands::retry::Retry),
    Cancel(commands::cancel::Cancel),
    Erase(commands::erase::Erase),
    Retention(commands::erase::Retention),
    Backup(commands::backup::Backup),
    Explain(commands::explain::Explain),
    Pause(commands::pause::Pause),
    Resume(commands::pause::Resume),
    Status(commands::status::Status),
    Health(commands::health::Health),
    Doctor(doctor::Doctor),
    Check(commands::check::Check),
    Simulate(commands::simulate::Simulate),
    Completions(commands::completions::Completions),
    Man(commands::man::Manual),
}

/// Runs a command on the ambient tokio runtime, and writes its error to standard error.
pub async fn run(command: ClientCommand, global: &GlobalArgs) -> ExitStatus {
    let result = match command {
        ClientCommand::Add(args) => args.run(global).await,
        ClientCommand::List(args) => args.run(global).await,
        ClientCommand::Show(args) => args.run(global).await,
        ClientCommand::Wait(args) => args.run(global).await,
        ClientCommand::Failures(args) => args.run(global).await,
        ClientCommand::Warnings(args) => args.run(global).await,
        ClientCommand::File(args) => args.run(global).await,
        ClientCommand::Retry(args) => args.run(global).await,
        ClientCommand::Cancel(args) => args.run(global).await,
        ClientCommand::Erase(args) => args.run(global).await,
        ClientCommand::Retention(args) => args.run(global).await,
        ClientCommand::Backup(args) => args.run(global).await,
        ClientCommand::Explain(args) => args.run(global).await,
        ClientCommand::Pause(args) => args.run(global).await,
        ClientCommand::Resume(args) => args.run(global).await,
        ClientCommand::Health(args) => args.run(global).await,
        ClientCommand::Doctor(args) => args.run(global).await,
        ClientCommand::Status(args) => args.run(global).await,
        ClientCommand::Check(args) => args.run(global).await,
        ClientCommand::Simulate(args) => args.run(global).await,
        ClientCommand::Completions(args) => args.run(),
        ClientCommand::Man(args) => args.run(global),
    };
    result.unwrap_or_else(|error| {
        output::note(&format!("error: {}", format::sanitize(&error.to_string())));
        error.exit()
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

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
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_has_an_example() {
        let mut found = Vec::new();
        commands(&Cli::command(), "marqueue", &mut found);
        assert!(found.len() > 20, "{}", found.len());
        for (words, mut command) in found {
            let help = command.render_long_help().to_string();
            let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{words} has no example"));
            assert!(examples.contains(&words), "{words}: {examples}");
        }
    }

    #[test]
    fn every_example_parses() {
        let mut found = vec![("marqueue".to_owned(), Cli::command())];
        commands(&Cli::command(), "marqueue", &mut found);
        for (_, mut command) in found {
            let help = command.render_long_help().to_string();
            let (_, examples) = help.split_once("Examples:\n").unwrap();
            for line in examples.lines().filter(|line| !line.trim().is_empty()) {
                let words = line.split(" > ").next().unwrap().split('|').next_back().unwrap();
                let words = words.split_whitespace().skip_while(|word| *word != "marqueue");
                let words = words.map(|word| word.trim_matches('"'));
                Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
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
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!((cli.global.socket.to_str(), cli.global.json), (Some("/s"), true), "{line}");
        }
    }
}
