//! What can a person type? The verbs, the options that all of them share, and the exit status that each ends with.
//!
//! [`main`] carries `serve` out itself, and gives `demo`, which has a daemon in this process, a runtime of many threads. All
//! others are carried out by [`run`], a file a verb. Standard output has what was asked for and nothing else; progress, hints and errors go to standard error.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use jiff::SignedDuration;

use crate::client::{Client, DEFAULT_SOCKET, DEFAULT_TIMEOUT};
use crate::domain::JobId;

mod commands;
mod demo;
mod doctor;
mod entry;
mod exit_status;
mod format;
mod input;
mod job_watch;
mod output;
mod progress;
#[cfg(test)]
mod reference;
mod report_check;
mod target_args;
mod terminal_text;

pub use entry::main;
pub use exit_status::{CliError, ExitStatus};
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
  130  stopped by Ctrl-C while waiting; the job goes on in the daemon

Examples:
  marqueue serve --config /etc/marqueue/marqueue.toml
  marqueue doctor --config /etc/marqueue/marqueue.toml
  marqueue add leads people.csv --wait
  marqueue failures 12 -o failed.csv"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub verb: CliCommand,
}

/// So that a verb's own options stand together in its help.
const EVERYWHERE: &str = "Options of every verb";

/// What every verb takes.
#[derive(Args, Clone, Debug)]
pub struct GlobalArgs {
    /// Where the daemon listens [env: MARQUEUE_SOCKET]
    // Not clap's own `env`: with the variable set, "marqueue" alone would no longer show the help.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "PATH", default_value_os_t = default_socket())]
    pub socket: PathBuf,
    /// How long the daemon may say nothing; waiting for a job has no end [default: 30s]
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Write JSON, and nothing else, to standard output
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub json: bool,
}

fn default_socket() -> PathBuf {
    std::env::var_os("MARQUEUE_SOCKET").filter(|path| !path.is_empty()).unwrap_or(DEFAULT_SOCKET.into()).into()
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let time = text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    time.filter(|time| !time.is_zero()).ok_or_else(|| "a time is a number with a unit, such as 30s or 2m".to_owned())
}

/// Reads a job's number.
fn parse_job_id(text: &str) -> Result<JobId, String> {
    match text.parse::<JobId>() {
        Ok(id) if id.0 > 0 => Ok(id),
        _ => Err("a job's number is whole, and at least 1".to_owned()),
    }
}

impl GlobalArgs {
    fn client(&self) -> Result<Client, CliError> {
        Ok(Client::new(&self.socket, self.timeout.unwrap_or(DEFAULT_TIMEOUT))?)
    }
}

#[derive(Debug, Subcommand)]
pub enum CliCommand {
    Serve(Serve),
    #[command(flatten)]
    Asked(ClientCommand),
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
    /// The configuration, in TOML; without it the environment has to say all
    #[arg(long, short, value_name = "FILE", env = "MARQUEUE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Start with the uploads of every instance paused, as "marqueue pause" does; for a restored database
    #[arg(long)]
    pub paused: bool,
}

/// The verbs that [`run`] carries out.
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

/// Carries a verb out, on the ambient tokio runtime. What goes wrong is said on standard error.
pub async fn run(verb: ClientCommand, global: &GlobalArgs) -> ExitStatus {
    let done = match verb {
        ClientCommand::Add(verb) => verb.run(global).await,
        ClientCommand::List(verb) => verb.run(global).await,
        ClientCommand::Show(verb) => verb.run(global).await,
        ClientCommand::Wait(verb) => verb.run(global).await,
        ClientCommand::Failures(verb) => verb.run(global).await,
        ClientCommand::Warnings(verb) => verb.run(global).await,
        ClientCommand::File(verb) => verb.run(global).await,
        ClientCommand::Retry(verb) => verb.run(global).await,
        ClientCommand::Cancel(verb) => verb.run(global).await,
        ClientCommand::Erase(verb) => verb.run(global).await,
        ClientCommand::Retention(verb) => verb.run(global).await,
        ClientCommand::Backup(verb) => verb.run(global).await,
        ClientCommand::Explain(verb) => verb.run(global).await,
        ClientCommand::Pause(verb) => verb.run(global).await,
        ClientCommand::Resume(verb) => verb.run(global).await,
        ClientCommand::Health(verb) => verb.run(global).await,
        ClientCommand::Doctor(verb) => verb.run(global).await,
        ClientCommand::Status(verb) => verb.run(global).await,
        ClientCommand::Check(verb) => verb.run(global).await,
        ClientCommand::Simulate(verb) => verb.run(global).await,
        ClientCommand::Completions(verb) => verb.run(),
        ClientCommand::Man(verb) => verb.run(global),
    };
    done.unwrap_or_else(|failure| {
        output::note(&format!("error: {}", format::sanitize(&failure.to_string())));
        failure.exit()
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The command and all below it, with its words.
    fn commands(command: &clap::Command, words: &str, found: &mut Vec<(String, clap::Command)>) {
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            let words = format!("{words} {}", below.get_name());
            commands(below, &words, found);
            found.push((words, below.clone()));
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_verb_shows_an_example_of_it() {
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
    fn every_example_can_be_typed() {
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
    fn what_all_verbs_share_may_stand_before_the_verb_and_behind_it() {
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
