//! The `pause` and `resume` commands: stop an instance's uploads and let them continue.

use clap::Args;

use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::output;

/// Stop the uploads to an instance; what Marketo has goes on, and files are still taken
///
/// With --json: an object, how the instance stands.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue pause
  marqueue pause emea")]
pub struct Pause {
    /// The instance, by its name in the configuration
    #[arg(default_value = "default")]
    instance: String,
}

/// Let the uploads to an instance go on
///
/// With --json: an object, how the instance stands.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue resume
  marqueue resume emea")]
pub struct Resume {
    /// The instance, by its name in the configuration
    #[arg(default_value = "default")]
    instance: String,
}

impl Pause {
    /// Runs the command.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let status = global.client()?.pause(&self.instance).await?;
        if global.json {
            output::print_json(&status)?;
        } else {
            output::print(&format!("instance {} is paused: \"marqueue resume {0}\" lets it go on\n", self.instance))?;
        }
        Ok(ExitStatus::Done)
    }
}

impl Resume {
    /// Runs the command.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let status = global.client()?.resume(&self.instance).await?;
        if global.json {
            output::print_json(&status)?;
        } else {
            output::print(&format!("instance {} goes on\n", self.instance))?;
        }
        Ok(ExitStatus::Done)
    }
}
