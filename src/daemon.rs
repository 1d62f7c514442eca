//! Who opens everything, starts it, drains it, and reports to systemd?

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api;
use crate::api::server::Socket;
use crate::clock::Clock;
use crate::config::Config;
use crate::intake::{DropFolder, Intake};
use crate::schedule::{Lane, day_of};
use crate::store::Store;

pub mod logging;

/// How long uploads under way and answers may take once the daemon is told to stop. An upload that takes longer is left,
/// and its outcome is then unknown; systemd's own patience is 90 seconds.
const DRAIN: Duration = Duration::from_secs(60);

/// How long requests under way may take beyond that. A client that sends slowly, or nothing, has no 201 yet and loses
/// nothing by it.
const ANSWERS: Duration = Duration::from_secs(5);

/// A daemon at work.
pub struct Daemon {
    store: Store,
    stop: CancellationToken,
    /// Uploads, polls, fetches, takes from the drop folder.
    tasks: TaskTracker,
    /// The listener and its connections.
    served: TaskTracker,
}

impl Daemon {
    /// Opens what the configuration names and goes to work. On return clients are answered.
    ///
    /// # Errors
    /// One sentence that names the file, socket or key. Nothing is left running, and no job has been touched.
    pub async fn start(config: &Config, clock: Clock) -> anyhow::Result<Daemon> {
        refuse_what_is_not_built(config)?;
        let stop = CancellationToken::new();
        let socket = Socket::listen(&config.api.socket, config.api.socket_mode).await?;
        let store = Store::open_with_reserve(&config.store.path, config.store.reserve_bytes).await?;
        let now = clock.now();
        // No instance still counts a day that began before the oldest that one is in.
        let days = config.instances.values().map(|instance| day_of(now, instance.limits.daily_reset));
        store.close_calls(days.min().unwrap_or(now), now).await?;
        let mut lanes = Vec::new();
        for (name, instance) in &config.instances {
            lanes.push(Lane::open(name, instance.clone(), store.clone(), clock.clone(), stop.child_token()).await?);
        }
        for (name, jobs) in store.unended_by_instance().await? {
            if !config.instances.contains_key(&name) {
                tracing::warn!(instance = %name, jobs, "jobs wait for an instance that is not in the configuration");
            }
        }
        let intake = Intake::new(store.clone(), clock.clone(), config);
        let drop_folder = DropFolder::open(config, intake.clone(), clock.clone())?;
        let tasks = TaskTracker::new();
        for lane in &lanes {
            tasks.spawn(lane.clone().run(tasks.clone()));
        }
        let routes = api::router(api::Daemon {
            store: store.clone(),
            intake,
            clock,
            lanes,
            started_at: now,
            stop: stop.clone(),
        });
        if let Some(folder) = drop_folder {
            tasks.spawn(folder.run(stop.clone()));
        }
        let served = socket.serve(routes, stop.clone());
        let failed = stop.clone();
        let server = TaskTracker::new();
        server.spawn(async move {
            if let Err(error) = served.await {
                tracing::error!(%error, "the socket failed; the daemon stops");
                failed.cancel();
            }
        });
        tracing::info!(socket = %config.api.socket.display(), database = %config.store.path.display(),
            instances = config.instances.len(), version = env!("CARGO_PKG_VERSION"), "the daemon is ready");
        Ok(Daemon { store, stop, tasks, served: server })
    }

    /// Returns when the daemon can't go on by itself.
    async fn broken(&self) {
        tokio::select! {
            () = self.store.writer_ended() => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Begins no upload any more, lets those under way end and be recorded, answers what was asked, and closes the
    /// database.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.served.close();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "some work did not end in time; the next start takes it up");
        }
        if tokio::time::timeout(ANSWERS, self.served.wait()).await.is_err() {
            tracing::warn!("some clients did not end their requests in time");
        }
        self.store.close().await;
    }
}

/// Runs the daemon until SIGTERM or SIGINT. A second one does not wait for uploads.
///
/// # Errors
/// As [`Daemon::start`]; also if the daemon broke down.
pub async fn serve(config: &Config) -> anyhow::Result<()> {
    // Heard from the first moment on, so that none is missed while the database opens.
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be waited for")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can't be waited for")?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let daemon = Daemon::start(config, Clock::System).await?;
    let broken = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = daemon.broken() => true,
    };
    tracing::info!("stopping: no new uploads; those under way end");
    tokio::select! {
        () = daemon.stop() => {}
        _ = terminate.recv() => tracing::warn!("told twice to stop: leaving at once"),
        _ = interrupt.recv() => tracing::warn!("told twice to stop: leaving at once"),
    }
    anyhow::ensure!(!broken, "the daemon could not go on; its log says why");
    tracing::info!("stopped");
    Ok(())
}

/// A setting that would be passed over in silence is worse than one that is refused.
fn refuse_what_is_not_built(config: &Config) -> anyhow::Result<()> {
    anyhow::ensure!(config.api.listen.is_none(), "api.listen: this version answers on the Unix socket only");
    Ok(())
}
