//! The daemon: opens its parts, starts them, stops them in order, and reports to systemd.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api;
use crate::api::auth::login_throttle::LoginThrottle;
use crate::api::auth::tokens::TokenTable;
use crate::api::marketo_compat::LegacyTokens;
use crate::clock::Clock;
use crate::config;
use crate::config::{Config, ConfigError, Connections};
use crate::domain::instance::{Pause, PauseKind};
use crate::drop_folder::DropFolder;
use crate::http_server::{Server, Socket, Tcp, Tls, max_connections};
use crate::intake::Intake;
use crate::notification::Notifier;
use crate::retention::RetentionTask;
use crate::scheduler::{InstanceScheduler, SharedEndpoint, day_of};
use crate::store::Store;

pub mod logging;
mod reload;
mod systemd;

/// How long running uploads may take once a stop is requested. An upload that takes longer is aborted, and its outcome
/// is then unknown; systemd's own stop timeout is 90 seconds.
const DRAIN_TIME: Duration = Duration::from_secs(60);

/// How long open requests may take after that. A client that is still sending has received no 201, so closing its
/// connection loses nothing.
const RESPONSE_TIME: Duration = Duration::from_secs(5);

/// A running daemon.
pub struct Daemon {
    store: Store,
    schedulers: Vec<InstanceScheduler>,
    intake: Intake,
    stop: CancellationToken,
    /// Tasks of the schedulers, the drop folder, retention and notifications.
    tasks: TaskTracker,
    /// The listeners and their connections.
    served: TaskTracker,
    /// TLS configuration of the TCP listener.
    tls: Option<Arc<Tls>>,
}

impl Daemon {
    /// Opens the database, the listeners and the drop folder, and starts all tasks. On return, clients are served.
    ///
    /// With `paused`, the uploads of every instance are paused first.
    ///
    /// # Errors
    /// One sentence that names the file, socket or key. No task is left running, and no job has changed.
    pub async fn start(config: &Config, clock: Clock, paused: bool) -> anyhow::Result<Daemon> {
        let socket = Socket::listen(&config.api.socket, config.api.socket_mode).await?;
        Daemon::start_at(socket, config, clock, paused).await
    }

    /// Like [`Daemon::start`], with a socket that is already open.
    async fn start_at(socket: Socket, config: &Config, clock: Clock, paused: bool) -> anyhow::Result<Daemon> {
        let connections = connections(config)?;
        let stop = CancellationToken::new();
        let tls = config.api.tls.clone().map(Tls::load).transpose()?.map(Arc::new);
        let tcp = match config.api.listen {
            Some(address) => Some(Tcp::listen(address, tls.clone()).await?),
            None => None,
        };
        let tokens = TokenTable::new(&config.api.clients)?;
        let store = Store::open_with_reserve(&config.store.path, config.store.reserve_bytes).await?;
        let at_the_database = || format!("the start failed at the database {}", config.store.path.display());
        let now = clock.now();
        let stored = store.api_tokens().await.with_context(at_the_database)?;
        let ended = tokens.restore(stored, std::time::Instant::now(), now);
        if !ended.is_empty()
            && let Err(error) = store.delete_api_tokens(ended).await
        {
            tracing::warn!(%error, "tokens of removed clients could not be deleted");
        }
        // This precedes every decision based on a stored time, because the clock may have been set while no daemon ran.
        store.observe_clock(&clock).await.with_context(at_the_database)?;
        // The oldest quota day that any instance is in: calls of earlier days no longer count.
        let days = config.instances.values().map(|instance| day_of(now, instance.limits.daily_reset));
        store.adopt_calls(days.min().unwrap_or(now), clock.uptime()).await.with_context(at_the_database)?;
        let mut schedulers = Vec::new();
        let mut endpoints: BTreeMap<Vec<String>, SharedEndpoint> = BTreeMap::new();
        for (name, instance) in &config.instances {
            let names = config::sharing(&config.instances, name);
            let endpoint = match endpoints.get(&names) {
                Some(endpoint) => endpoint.clone(),
                None => SharedEndpoint::open(names.clone(), &instance.limits, &store, &clock)
                    .await
                    .with_context(at_the_database)?,
            };
            endpoints.insert(names, endpoint.clone());
            if paused {
                let reason = "the daemon was started with --paused".to_owned();
                let pause = Pause { kind: PauseKind::Operator, reason, at: now, until: None };
                store.pause(name, pause).await.with_context(at_the_database)?;
            }
            let scheduler = InstanceScheduler::open(
                name,
                instance.clone(),
                endpoint,
                store.clone(),
                clock.clone(),
                stop.child_token(),
            )
            .await;
            schedulers.push(scheduler.with_context(at_the_database)?);
        }
        for (name, jobs) in store.unended_by_instance().await.with_context(at_the_database)? {
            if !config.instances.contains_key(&name) {
                tracing::warn!(instance = %name, jobs, "jobs of an instance that is not in the configuration");
            }
        }
        let intake = Intake::new(store.clone(), clock.clone(), config);
        let drop_folder = DropFolder::open(config, intake.clone(), clock.clone()).await?;
        let tasks = TaskTracker::new();
        let notifier = Notifier::open(&config.notify, store.clone(), clock.clone()).await;
        let notifier = notifier.map_err(anyhow::Error::msg).with_context(at_the_database)?;
        // Tasks start only after the last step that can fail, so a failed start leaves no task running.
        for scheduler in &schedulers {
            tasks.spawn(scheduler.clone().run(tasks.clone()));
        }
        let retention = RetentionTask::new(store.clone(), clock.clone(), config.retention.clone());
        tasks.spawn(retention.clone().run(stop.clone()));
        if let Some(notifier) = notifier {
            tasks.spawn(notifier.run(stop.clone()));
        }
        let metrics = Arc::new(api::Metrics::default());
        if let Some(facts) = store.subscribe_metrics() {
            let metrics = metrics.clone();
            tokio::spawn(async move { metrics.count(facts).await });
        }
        let routes = api::router(api::AppState {
            store: store.clone(),
            intake: intake.clone(),
            clock,
            tokens,
            login_throttle: LoginThrottle::default(),
            legacy_tokens: LegacyTokens::new(config.api.legacy_tokens),
            schedulers: schedulers.clone(),
            retention,
            metrics,
            drop: drop_folder.as_ref().map(DropFolder::report),
            started_at: now,
            listen: tcp.as_ref().map(Tcp::address).transpose()?,
            stop: stop.clone(),
        });
        if let Some(folder) = drop_folder {
            tasks.spawn(folder.run(stop.clone()));
        }
        let served = TaskTracker::new();
        let clients = Server::new(routes, connections, served.clone(), stop.clone());
        match tcp {
            Some(tcp) => {
                let (of_this_machine, others) = clients.split_limits();
                served.spawn(tcp.serve(others));
                served.spawn(socket.serve(of_this_machine));
            }
            None => {
                served.spawn(socket.serve(clients));
            }
        }
        tracing::info!(socket = %config.api.socket.display(), database = %config.store.path.display(),
            instances = config.instances.len(), version = env!("CARGO_PKG_VERSION"), "the daemon is ready");
        Ok(Daemon { store, schedulers, intake, stop, tasks, served, tls })
    }

    /// Applies the part of `new` that can change while the daemon runs, and logs the keys that need a restart. `now` is
    /// the active configuration, and is updated.
    async fn reload(&self, now: &mut Config, level: &logging::Level, new: Result<Config, ConfigError>) {
        match self.tls.as_ref().map(|tls| tls.reload()) {
            Some(Ok(())) => tracing::info!("the TLS files were read again"),
            Some(Err(error)) => tracing::error!(%error, "the TLS files can't be reloaded; the old ones stay in force"),
            None => {}
        }
        let (config, later) = match new {
            Ok(new) => reload::merge_reloadable(now, new),
            Err(error) => {
                tracing::error!(%error, "the new configuration is invalid; the old one stays in force");
                return;
            }
        };
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        for scheduler in &self.schedulers {
            if let Some(instance) = config.instances.get(scheduler.name())
                && let Err(error) = scheduler.reload(instance.clone()).await
            {
                tracing::error!(instance = scheduler.name(), %error, "the new configuration can't be applied to the instance");
            }
        }
        self.intake.reload(&config);
        if let Err(error) = level.set(config.log.level) {
            tracing::error!("{error:#}");
        }
        *now = config;
        if !later.is_empty() {
            tracing::warn!(keys = later.join(", "), "some changes need a restart of the daemon");
        }
        tracing::info!("the configuration was read again");
    }

    /// Returns when the daemon has to stop because a part of it has failed.
    async fn broken(&self) {
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

/// Runs the daemon until SIGTERM or SIGINT. A second one does not wait for uploads. SIGHUP has it `read` its
/// configuration and its TLS files again. With `paused`, no upload begins before an operator resumes the instance.
///
/// # Errors
/// As [`Daemon::start`]; also if a part of the running daemon has failed.
pub async fn serve(
    mut config: Config,
    paused: bool,
    level: &logging::Level,
    read: impl Fn() -> Result<Config, ConfigError>,
) -> anyhow::Result<()> {
    // Signals are handled before the database opens, so that none is missed.
    let mut terminate = signal(SignalKind::terminate()).context("the handler of SIGTERM can't be installed")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("the handler of SIGINT can't be installed")?;
    let mut hangup = signal(SignalKind::hangup()).context("the handler of SIGHUP can't be installed")?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let daemon = match systemd::socket(&config.api.socket)? {
        Some(socket) => Daemon::start_at(Socket::inherited(socket)?, &config, Clock::System, paused).await?,
        None => Daemon::start(&config, Clock::System, paused).await?,
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

/// File descriptors that are open without any connection: the database, its readers and its log, the socket, the drop
/// folder, the runtime's own.
const OWN_FILES: u32 = 64;

/// Returns the connection limits, reduced to the file descriptors that are available. Descriptors for the database and
/// for calls to Marketo are reserved. Raises the process's soft limit on open files as far as permitted.
///
/// # Errors
/// Not even one connection is possible; the text names the limit to raise.
pub fn connections(config: &Config) -> anyhow::Result<Connections> {
    let calls = config.instances.values().map(|instance| instance.limits.concurrent_calls + 2);
    let wanted = config.api.connections;
    let most = max_connections(wanted.max, OWN_FILES + calls.sum::<u32>())?;
    if most < wanted.max {
        tracing::warn!(
            "api.max_connections is {}, and this process may not open that many files: {most} connections are \
            taken at once; raise its limit on open files (ulimit -n, LimitNOFILE)",
            wanted.max
        );
    }
    Ok(Connections { max: most, ..wanted })
}
