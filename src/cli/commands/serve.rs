//! The `serve` command: runs the daemon.

use clap::Args;

use crate::cli::config_file::ConfigOption;
use crate::cli::exit_status::ExitStatus;
use crate::cli::output;
use crate::daemon;
use crate::daemon::StartMode;
use crate::http_server::Tls;

/// Run the daemon in the foreground until SIGTERM or SIGINT
///
/// Ends with 2 if the configuration is wrong; a missing TLS file is a part of that. The log's first line names the file
/// that was read.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue serve
  marqueue serve --config marqueue.toml --paused
  MARQUEUE_STORE__PATH=/var/lib/marqueue/queue.db marqueue serve -c marqueue.toml")]
pub struct Serve {
    #[command(flatten)]
    config: ConfigOption,
    /// Start with the uploads of every instance paused, as "marqueue pause" does; for a restored database
    #[arg(long)]
    paused: bool,
}

impl Serve {
    /// Runs the daemon until SIGTERM or SIGINT. An error before logging has started is one line on standard error.
    pub async fn run(self) -> ExitStatus {
        let file = self.config.file();
        let config = match file.load() {
            Ok(config) => config,
            Err(error) => return invalid(&error),
        };
        // The files are a part of the configuration: a service whose configuration is wrong is not started again.
        if let Some(error) = config.api.tls.clone().and_then(|files| Tls::load(files).err()) {
            return invalid(&error);
        }
        let level = match daemon::logging::init(&config.log) {
            Ok(level) => level,
            Err(error) => return invalid(&format!("{error:#}")),
        };
        tracing::info!(%file, "the configuration was read");
        let mode = if self.paused { StartMode::Paused } else { StartMode::Normal };
        match daemon::serve(config, mode, &level, || file.load()).await {
            Ok(()) => ExitStatus::Done,
            Err(error) => {
                tracing::error!("{error:#}");
                ExitStatus::Failed
            }
        }
    }
}

/// Reports a fault of the configuration.
fn invalid(error: &dyn std::fmt::Display) -> ExitStatus {
    output::note(&format!("error: {error}"));
    ExitStatus::Usage
}
