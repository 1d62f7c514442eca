//! The `pause` and `resume` commands: stop an instance's uploads and let them continue.

use std::collections::BTreeMap;

use clap::Args;

use crate::api::dto::InstanceStatus;
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::format::sanitize;
use crate::cli::global::GlobalArgs;
use crate::cli::output;
use crate::client::{Client, ClientError};

/// Stop the uploads to an instance; what Marketo has goes on, and files are still taken
///
/// With --json: an object with the instance's status; with --all one with each instance's.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue pause
  marqueue pause emea
  marqueue pause --all")]
pub struct Pause {
    #[command(flatten)]
    instances: Instances,
}

/// Let the uploads to an instance go on
///
/// After a pause for credentials the file with the client secret is read again. With --json: an object with the
/// instance's status; with --all one with each instance's.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue resume
  marqueue resume emea
  marqueue resume --all")]
pub struct Resume {
    #[command(flatten)]
    instances: Instances,
}

#[derive(Args, Debug)]
struct Instances {
    /// The instance, by its name in the configuration
    #[arg(default_value = "default", conflicts_with = "all")]
    instance: String,
    /// Every instance of the configuration
    #[arg(long)]
    all: bool,
}

impl Pause {
    /// Runs the command.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let client = global.client()?;
        let changed = self.instances.change(&client, async |name| client.pause(name).await).await?;
        self.instances.print(global, &changed, |name, _| {
            format!("instance {name} is paused: \"marqueue resume {name}\" lets it go on\n")
        })
    }
}

impl Resume {
    /// Runs the command.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let client = global.client()?;
        let changed = self.instances.change(&client, async |name| client.resume(name).await).await?;
        self.instances.print(global, &changed, |name, status| match &status.note {
            // It may be paused again at once, as with the secret that Marketo refused.
            Some(note) => format!("instance {name}: {}\n", sanitize(note)),
            None => format!("instance {name} goes on\n"),
        })
    }
}

impl Instances {
    /// Calls `change` for each instance, and returns their status.
    async fn change(
        &self,
        client: &Client,
        change: impl AsyncFn(&str) -> Result<InstanceStatus, ClientError>,
    ) -> Result<BTreeMap<String, InstanceStatus>, CliError> {
        let names: Vec<String> = match self.all {
            true => client.status().await?.instances.into_keys().collect(),
            false => vec![self.instance.clone()],
        };
        let mut changed = BTreeMap::new();
        for name in names {
            let status = change(&name).await?;
            changed.insert(name, status);
        }
        Ok(changed)
    }

    fn print(
        &self,
        global: &GlobalArgs,
        changed: &BTreeMap<String, InstanceStatus>,
        line: impl Fn(&str, &InstanceStatus) -> String,
    ) -> Result<ExitStatus, CliError> {
        match (global.json, self.all) {
            (true, true) => output::print_json(changed)?,
            (true, false) => output::print_json(&changed.values().next())?,
            (false, _) => output::print(&changed.iter().map(|(name, status)| line(name, status)).collect::<String>())?,
        }
        Ok(ExitStatus::Done)
    }
}
