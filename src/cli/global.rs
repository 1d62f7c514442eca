//! Options that every command takes, and the parsers of their values.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;

use crate::cli::exit_status::CliError;
use crate::client::{Client, DEFAULT_SOCKET, DEFAULT_TIMEOUT};
use crate::domain::JobId;

/// The heading that separates these options from a command's own in its help.
pub const HEADING: &str = "Options of every command";

/// The options for commands that ask a daemon, by their ids.
pub(super) const DAEMON_OPTIONS: [&str; 2] = ["socket", "timeout"];

/// The options that stand before or behind every command. Commands that ask no daemon hide those of [`DAEMON_OPTIONS`].
#[derive(Args, Clone, Debug)]
pub struct GlobalArgs {
    /// The daemon's socket [default: /run/marqueue/marqueue.sock] [env: MARQUEUE_SOCKET]
    // Not clap's own `env`: with the variable set, "marqueue" alone would no longer show the help.
    #[arg(long, global = true, help_heading = HEADING, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The longest time to wait for the daemon's next bytes; waiting for a job has no limit [default: 30s]
    #[arg(long, global = true, help_heading = HEADING, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Write JSON, and nothing else, to standard output
    #[arg(long, global = true, help_heading = HEADING)]
    pub json: bool,
}

impl GlobalArgs {
    /// Returns the daemon's socket: the one given, that of the environment, or the default one.
    pub(super) fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(default_socket)
    }

    /// Returns a client for the daemon at `socket`, with the timeout given or the default one.
    ///
    /// # Errors
    /// [`CliError::Client`] if the socket's path is too long.
    pub(super) fn client(&self) -> Result<Client, CliError> {
        Ok(Client::new(&self.socket(), self.timeout.unwrap_or(DEFAULT_TIMEOUT))?)
    }
}

/// Returns the socket of the environment, or the default one.
pub(super) fn default_socket() -> PathBuf {
    std::env::var_os("MARQUEUE_SOCKET").filter(|path| !path.is_empty()).unwrap_or(DEFAULT_SOCKET.into()).into()
}

/// Parses a duration of more than zero.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let time = text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    time.filter(|time| !time.is_zero()).ok_or_else(|| "a time is a number with a unit, such as 30s or 2m".to_owned())
}

/// Parses a job's number.
///
/// # Errors
/// The text is no whole number of at least 1.
pub fn parse_job_id(text: &str) -> Result<JobId, String> {
    match text.parse::<JobId>() {
        Ok(id) if id.0 > 0 => Ok(id),
        _ => Err("a job's number is a whole number of at least 1".to_owned()),
    }
}
