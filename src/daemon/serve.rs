//! Serving: runs the daemon until a signal stops it.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::daemon::controlling_terminal::ControllingTerminal;
use crate::daemon::running::Daemon;
use crate::daemon::start::StartMode;
use crate::daemon::{logging, systemd};
use crate::http_server::Socket;

/// Runs the daemon until SIGTERM or SIGINT, or until the terminal from which it was started is closed. A second signal
/// does not wait for uploads. Any other SIGHUP has it `read` its configuration and its TLS files again. In
/// [`StartMode::Paused`] no upload begins before an operator resumes the instance.
///
/// # Errors
/// As [`Daemon::start`]; also if a part of the running daemon has failed.
pub async fn serve(
    mut config: Config,
    mode: StartMode,
    level: &logging::LevelHandle,
    read: impl Fn() -> Result<Config, ConfigError>,
) -> anyhow::Result<()> {
    // Signals are handled before the database opens, so that none is missed.
    let mut terminate = signal(SignalKind::terminate()).context("the handler of SIGTERM can't be installed")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("the handler of SIGINT can't be installed")?;
    let mut hangup = signal(SignalKind::hangup()).context("the handler of SIGHUP can't be installed")?;
    let terminal = ControllingTerminal::at_start();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let daemon = match systemd::socket(&config.api.socket)? {
        Some(socket) => Daemon::start_at(Socket::inherited(socket)?, &config, Clock::System, mode).await?,
        None => Daemon::start(&config, Clock::System, mode).await?,
    };
    systemd::ready();
    let watchdog = systemd::watchdog()
        .map(|timeout| tokio::spawn(systemd::watchdog_loop(timeout, daemon.schedulers.clone(), daemon.store.clone())));
    let broken = loop {
        tokio::select! {
            _ = terminate.recv() => break false,
            _ = interrupt.recv() => break false,
            () = daemon.broken() => break true,
            _ = hangup.recv() => {
                if terminal.as_ref().is_some_and(ControllingTerminal::is_closed) {
                    tracing::info!("the terminal was closed");
                    break false;
                }
                systemd::reloading();
                daemon.reload(&mut config, level, read()).await;
                systemd::ready();
            }
        }
    };
    systemd::stopping();
    // The watchdog ends first: systemd has a separate timeout for the stop, and a stopped scheduler answers no tick.
    if let Some(watchdog) = watchdog {
        watchdog.abort();
    }
    tracing::info!("stopping: no new uploads; running uploads end first");
    tokio::select! {
        () = daemon.stop() => {}
        _ = terminate.recv() => tracing::warn!("second stop signal: stopping at once"),
        _ = interrupt.recv() => tracing::warn!("second stop signal: stopping at once"),
    }
    anyhow::ensure!(!broken, "the daemon has failed; its log has the reason");
    tracing::info!("stopped");
    Ok(())
}
