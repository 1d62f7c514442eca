//! Is all as the service needs it? The configuration is read as the service reads it, and each thing that it names is
//! looked at; nothing is written, and no daemon is needed.

use std::path::PathBuf;

use clap::Args;

use self::finding::{Finding, State};
use super::{Exit, Failure, Global, output};
use crate::config::{Config, ConfigError};

mod credentials;
mod daemon;
mod database;
mod disk;
mod drop;
mod finding;
mod limits;
mod loops;
mod tls;

/// Look at all that the service needs, and say of each thing that it is fine, or what to do
///
/// The configuration is read as "serve" reads it, environment included. Then come database, disk, socket, daemon, drop folder, TLS files, the credentials (by asking Marketo's identity endpoint for a token, which counts against no limit), clock and limits. Nothing is written, no secret is shown, and no daemon is needed; one that systemd starts for whoever opens its socket is started. The whole database is read, which takes a while where it is large.
///
/// Rights are those of who asks, so ask as the service's user: sudo -u marqueue marqueue doctor --config /etc/marqueue/marqueue.toml
///
/// The socket is the configuration's, whatever --socket says. Ends with 0 if nothing is a fault, 1 if something is, 2 if the configuration is wrong. With --json: an array of objects with "check", "state" ("fine", "warning" or "fault"), "detail" and "advice".
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue doctor --config /etc/marqueue/marqueue.toml
  marqueue doctor --config /etc/marqueue/marqueue.toml --json")]
pub struct Doctor {
    /// The configuration, in TOML; without it the environment has to say all
    #[arg(long, short, value_name = "FILE", env = "MARQUEUE_CONFIG")]
    config: Option<PathBuf>,
}

impl Doctor {
    pub async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let (findings, exit) = match Config::load(self.config.as_deref()) {
            Ok(config) => {
                let mut findings = self.configuration(&config);
                findings.extend(looked_at(&config, global).await);
                let exit = match findings.iter().map(|found| found.state).max() {
                    Some(State::Fault) => Exit::Failed,
                    _ => Exit::Done,
                };
                (findings, exit)
            }
            Err(error) => (vec![wrong(&error)], Exit::Usage),
        };
        if global.json {
            output::print_json(&findings)?;
        } else {
            output::print(&finding::told(&findings))?;
        }
        Ok(exit)
    }

    fn configuration(&self, config: &Config) -> Vec<Finding> {
        const CHECK: &str = "configuration";
        let warnings = config.warnings.iter();
        let mut findings: Vec<Finding> =
            warnings.map(|warning| Finding::warning(CHECK, &warning.text, warning.advice)).collect();
        if findings.is_empty() {
            let from = match &self.config {
                Some(file) => file.display().to_string(),
                None => "the environment".to_owned(),
            };
            let said = format!("{from} can be used, and the secrets that it names can be read by those who need them");
            findings.push(Finding::fine(CHECK, said));
        }
        findings
    }
}

fn wrong(error: &ConfigError) -> Finding {
    let denied = std::io::ErrorKind::PermissionDenied;
    let advice = match error {
        ConfigError::Unreadable { cause, .. } if cause.kind() == denied => disk::AS_SERVICE,
        ConfigError::Unreadable { .. } => "name the file with --config",
        ConfigError::InEnvironment { .. } | ConfigError::Variable { .. } => {
            "mend the variable; config/marqueue.toml of the source explains every key"
        }
        _ => "mend the key; config/marqueue.toml of the source explains every one",
    };
    Finding::fault("configuration", error.to_string(), advice)
}

async fn looked_at(config: &Config, global: &Global) -> Vec<Finding> {
    let mut findings = Vec::from_iter(disk::user());
    findings.extend(database::look(config).await);
    findings.extend(disk::look(config));
    findings.extend(daemon::look(config, global).await);
    findings.extend(drop::look(config));
    findings.extend(tls::look(config));
    findings.extend(credentials::look(config).await);
    if let Ok(daemon) = daemon::client(config, global) {
        findings.extend(loops::look(config, &daemon).await);
    }
    findings.extend(limits::look(config));
    findings
}
