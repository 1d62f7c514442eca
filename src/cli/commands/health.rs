//! The `health` command: liveness and readiness of the daemon, for health checks of containers and for operators.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::output;
use crate::client::{ClientError, ReadinessReport};

/// Default timeout, shorter than that of a container's health check.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Check whether the daemon answers, or with --ready whether its store writes and the credentials of an instance at
/// least work
///
/// Ends with 0 if so, 1 if it is not ready, 3 if it does not answer within ten seconds, or --timeout. With --json: with
/// --ready an object with "ready", "store", "credentials" and "paused", else one with "ok".
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue health
  marqueue health --ready --json
  marqueue health --ready --instance eu")]
pub struct Health {
    /// Check whether it is ready, and not only whether it answers
    #[arg(long)]
    ready: bool,
    /// With --ready: only this instance
    #[arg(long, value_name = "NAME", requires = "ready")]
    instance: Option<String>,
}

impl Health {
    /// Checks the daemon.
    ///
    /// # Errors
    /// The daemon does not answer in time, or is not ready.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        match tokio::time::timeout(global.timeout.unwrap_or(TIMEOUT), self.ask(global)).await {
            Ok(done) => done,
            Err(_) => Err(ClientError::Broken("it does not answer".to_owned()).into()),
        }
    }

    async fn ask(&self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let client = global.client()?;
        if !self.ready {
            client.healthz().await?;
            if global.json {
                output::print_json(&json!({"ok": true}))?;
            } else {
                output::print("ok\n")?;
            }
            return Ok(ExitStatus::Done);
        }
        let ReadinessReport { readiness, fault } = client.readyz(self.instance.as_deref()).await?;
        if global.json {
            output::print_json(&readiness)?;
        } else if readiness.ready {
            output::print("the daemon is ready\n")?;
        }
        for (folder, answers) in readiness.drop.iter().filter(|(_, answers)| !answers.ok) {
            let reason = answers.reason.as_deref().unwrap_or(&answers.state);
            output::note(&format!("drop folder {folder}: {reason}"));
        }
        match fault {
            None => Ok(ExitStatus::Done),
            Some(fault) => Err(CliError::Input(format!("the daemon is not ready: {fault}"))),
        }
    }
}
