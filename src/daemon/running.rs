//! The running daemon: applies a reload, detects the failure of a part, and stops.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, ConfigError};
use crate::daemon::logging;
use crate::daemon::reload::{Reloaded, merge_reloadable};
use crate::http_server::Tls;
use crate::intake::Intake;
use crate::scheduler::InstanceScheduler;
use crate::store::Store;

/// How long running uploads may take once a stop is requested. An upload that takes longer is aborted, and its outcome
/// is then unknown; systemd's own stop timeout is 90 seconds.
const DRAIN_TIME: Duration = Duration::from_secs(60);

/// How long open requests may take after that. A client that is still sending has received no 201, so closing its
/// connection loses nothing.
const RESPONSE_TIME: Duration = Duration::from_secs(5);

/// A running daemon.
pub struct Daemon {
    pub(super) store: Store,
    pub(super) schedulers: Vec<InstanceScheduler>,
    pub(super) intake: Intake,
    pub(super) stop: CancellationToken,
    /// Tasks of the schedulers, the drop folder, retention and notifications.
    pub(super) tasks: TaskTracker,
    /// The listeners and their connections.
    pub(super) served: TaskTracker,
    /// TLS configuration of the TCP listener.
    pub(super) tls: Option<Arc<Tls>>,
}

impl Daemon {
    /// Applies the part of `new` that can change while the daemon runs, and logs the keys that need a restart. `now` is
    /// the active configuration, and is updated.
    pub(super) async fn reload(
        &self,
        now: &mut Config,
        level: &logging::LevelHandle,
        new: Result<Config, ConfigError>,
    ) {
        match self.tls.as_ref().map(|tls| tls.reload()) {
            Some(Ok(())) => tracing::info!("the TLS files were read again"),
            Some(Err(error)) => tracing::error!(%error, "the TLS files can't be reloaded; the old ones stay in force"),
            None => {}
        }
        let Reloaded { config, restart_keys } = match new {
            Ok(new) => merge_reloadable(now, new),
            Err(error) => {
                tracing::error!(%error, "the new configuration is invalid; the old one stays in force");
                return;
            }
        };
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        // Before the schedulers, whose new limits can be seen: a file that is added then is split by the new size.
        self.intake.reload(&config);
        for scheduler in &self.schedulers {
            if let Some(instance) = config.instances.get(scheduler.name())
                && let Err(error) = scheduler.reload(instance.clone()).await
            {
                tracing::error!(instance = scheduler.name(), %error, "the new configuration can't be applied to the instance");
            }
        }
        if let Err(error) = level.set(config.log.level) {
            tracing::error!("{error:#}");
        }
        *now = config;
        if !restart_keys.is_empty() {
            tracing::warn!(keys = restart_keys.join(", "), "some changes need a restart of the daemon");
        }
        tracing::info!("the configuration was read again");
    }

    /// Returns when the daemon has to stop because a part of it has failed.
    pub(super) async fn broken(&self) {
        tokio::select! {
            () = self.store.writer_ended() => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Stops the daemon: starts no more uploads, waits for running ones and for open requests, and closes the database.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.served.close();
        if tokio::time::timeout(DRAIN_TIME, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                tasks = self.tasks.len(),
                "some tasks did not end in time; the next start resumes their work"
            );
        }
        if tokio::time::timeout(RESPONSE_TIME, self.served.wait()).await.is_err() {
            tracing::warn!("some clients did not end their requests in time");
        }
        self.store.close().await;
    }
}
