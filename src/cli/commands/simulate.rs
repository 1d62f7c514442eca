//! The `simulate` command: runs the Marketo simulator.

use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::output;
use crate::simulator;
use crate::simulator::{Settings, Simulator};

/// Run a simulator of Marketo with its rules and limits, until Ctrl-C or SIGTERM
///
/// With --json: an object with "base_url", "client_id" and "client_secret", once it listens.
#[derive(Args, Debug)]
#[command(after_long_help = after_help(), after_help = EXAMPLES)]
pub struct Simulate {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8438")]
    listen: String,
    /// Factor by which an import is faster than at Marketo
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Also accept what older clients send: the token and parameters in the form, any type of the file's part
    #[arg(long)]
    lenient: bool,
}

const EXAMPLES: &str = "\
Examples:
  marqueue simulate --speed 20
  marqueue simulate --listen 127.0.0.1:0 --json";

fn after_help() -> String {
    format!("{}\n\n{EXAMPLES}", simulator::HELP)
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(speed),
        _ => Err("a speed is a number above 0".to_owned()),
    }
}

impl Simulate {
    /// Runs the simulator until SIGINT or SIGTERM.
    ///
    /// # Errors
    /// The address can't be bound, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let settings = Settings { speed: self.speed, lenient: self.lenient, ..Settings::default() };
        let (id, secret) = (settings.client_id.clone(), settings.client_secret.clone());
        let unusable = |error| CliError::Usage(format!("{} can't be bound: {error}", self.listen));
        // The signal handlers come first: a script that reads the address may send a signal at once.
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let listener = TcpListener::bind(&self.listen).await.map_err(unusable)?;
        let simulator = Simulator::start(listener, settings).map_err(unusable)?;
        let url = simulator.base_url();
        if global.json {
            output::print_json(&json!({"base_url": url, "client_id": id, "client_secret": secret}))?;
        } else {
            output::print(&how_to_use(url, &id, &secret))?;
        }
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        simulator.stop().await;
        Ok(ExitStatus::Done)
    }
}

fn how_to_use(url: &str, id: &str, secret: &str) -> String {
    format!(
        "The simulator listens at {url}. An instance of the configuration that uses it:\n\
         \n\
         [instances.default]\n\
         base_url = \"{url}\"\n\
         client_id = \"{id}\"\n\
         client_secret = \"{secret}\"\n\
         \n\
         \"marqueue simulate --help\" explains how to make rows fail. Ctrl-C stops it.\n"
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    #[test]
    fn its_output_is_a_configuration() {
        let text = how_to_use("http://127.0.0.1:8438", "simulator", "secret");
        let toml: String = text.split("\n\n").filter(|part| part.starts_with('[')).collect();
        let config = Config::read(Some((Path::new("m.toml"), &toml)), []).unwrap();
        assert!(config.instances["default"].is_loopback());
    }

    #[test]
    fn a_speed_is_above_zero() {
        assert_eq!(speed("2.5"), Ok(2.5));
        for text in ["0", "-1", "inf", "NaN", "fast"] {
            assert!(speed(text).is_err(), "{text}");
        }
    }
}
