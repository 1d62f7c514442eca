//! The `doctor` command: reads the configuration as the service does, and checks each thing that it names.
//!
//! It writes nothing and needs no daemon.

use clap::Args;

use crate::cli::config_file::{ConfigFile, ConfigOption};
use crate::cli::doctor::finding::{Finding, State};
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::output;
use crate::cli::render::Screen;
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

/// Check everything that the service needs, and show for each thing that it is fine, or what to do
///
/// The configuration is read as "serve" reads it, environment included. Then come database, disk, socket, daemon, drop
/// folder, TLS files, the credentials (by asking Marketo's identity endpoint for a token, which counts against no
/// limit), clock and limits. Nothing is written, no secret is shown, and no daemon is needed; a daemon with socket
/// activation is started by the check. The whole database is read, which takes a while where it is large.
///
/// Permissions are checked for the current user, and the service's unit may set paths and secrets: check an installed
/// service with "sudo marqueue-service doctor", which has what the unit has.
///
/// Faults come last, each with its advice. The socket is the configuration's. Ends with 0 if nothing is a fault, 1 if
/// something is, 2 if the configuration is wrong or a TLS file is missing. With --json: an array of objects with
/// "check", "state" ("fine", "warning" or "fault"), "detail" and "advice".
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue doctor
  marqueue doctor --config marqueue.toml --json")]
pub struct Doctor {
    #[command(flatten)]
    config: ConfigOption,
}

impl Doctor {
    /// Runs all checks.
    ///
    /// # Errors
    /// Standard output is not writable. A fault is no error here, but part of the exit status.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let file = self.config.file();
        let (findings, exit) = match file.load() {
            Ok(config) => {
                let mut findings = configuration(&file, &config);
                findings.extend(check_all(&config, global).await);
                let exit = match findings.iter().map(|found| found.state).max() {
                    _ if tls::is_file_missing(&config) => ExitStatus::Usage,
                    Some(State::Fault) => ExitStatus::Failed,
                    _ => ExitStatus::Done,
                };
                (findings, exit)
            }
            Err(error) => (vec![invalid_configuration(&error)], ExitStatus::Usage),
        };
        if global.json {
            output::print_json(&findings)?;
        } else {
            output::print(&finding::render(&findings, &Screen::stdout()))?;
        }
        Ok(exit)
    }
}

/// Returns the warnings about the configuration, or that there are none. Each names the file that was read.
fn configuration(file: &ConfigFile, config: &Config) -> Vec<Finding> {
    const CHECK: &str = "configuration";
    let detail = format!("{file} can be used, and the secrets that it names can be read by those who need them");
    let warnings = config.warnings.iter();
    let mut findings: Vec<Finding> =
        warnings.map(|warning| Finding::warning(CHECK, &warning.text, warning.advice)).collect();
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, detail));
    }
    findings
}

fn invalid_configuration(error: &ConfigError) -> Finding {
    let denied = std::io::ErrorKind::PermissionDenied;
    let advice = match error {
        ConfigError::Unreadable { cause, .. } if cause.kind() == denied => disk::AS_SERVICE,
        ConfigError::Unreadable { .. } => "name the file with --config",
        ConfigError::InEnvironment { .. } | ConfigError::Variable { .. } => {
            "correct the variable; config/marqueue.toml of the source explains every key"
        }
        _ => "correct the key; config/marqueue.toml of the source explains every one",
    };
    Finding::error("configuration", error.to_string(), advice)
}

async fn check_all(config: &Config, global: &GlobalArgs) -> Vec<Finding> {
    let mut findings = Vec::from_iter(disk::user());
    findings.extend(database::check_database(config).await);
    findings.extend(disk::check_disk(config));
    findings.extend(daemon::check_daemon(config, global).await);
    findings.extend(drop::check_drop_folder(config));
    findings.extend(tls::check_tls(config));
    findings.extend(credentials::check_credentials(config).await);
    if let Ok(daemon) = daemon::client(config, global) {
        findings.extend(loops::check_loops(config, &daemon).await);
    }
    findings.extend(limits::check_limits(config));
    findings
}
