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
use crate::domain::instance::PauseKind;
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

/// How long uploads whose bytes are under way may take once the daemon is told to stop. An upload that takes longer is
/// left, and its outcome is then unknown; systemd's own patience is 90 seconds.
const DRAIN_TIME: Duration = Duration::from_secs(60);

/// How long requests under way may take beyond that. A client that sends slowly, or nothing, has no 201 yet and loses
/// nothing by it.
const RESPONSE_TIME: Duration = Duration::from_secs(5);

/// A daemon at work.
pub struct Daemon {
    store: Store,
    lanes: Vec<InstanceScheduler>,
    intake: Intake,
    stop: CancellationToken,
    /// Uploads, polls, fetches, takes from the drop folder.
    tasks: TaskTracker,
    /// The listeners and their connections.
    served: TaskTracker,
    /// Of the TCP listener.
    tls: Option<Arc<Tls>>,
}

impl Daemon {
    /// Opens what the configuration names and goes to work. On return clients are answered.
    ///
    /// # Errors
    /// One sentence that names the file, socket or key. Nothing is left running, and no job has been touched.
    pub async fn start(config: &Config, clock: Clock, paused: bool) -> anyhow::Result<Daemon> {
        let socket = Socket::listen(&config.api.socket, config.api.socket_mode).await?;
        Daemon::start_at(socket, config, clock, paused).await
    }

    /// Like [`Daemon::start`], at a socket that is listened on already.
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
            tracing::warn!(%error, "tokens of clients that have left the configuration could not be erased");
        }
        // Before anything is decided by a stored time: the clock may have been set while no daemon ran.
        store.observe_clock(&clock).await.with_context(at_the_database)?;
        // No instance still counts a day that began before the oldest that one is in.
        let days = config.instances.values().map(|instance| day_of(now, instance.limits.daily_reset));
        store.adopt_calls(days.min().unwrap_or(now), clock.uptime()).await.with_context(at_the_database)?;
        let mut lanes = Vec::new();
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
                store
                    .pause(name, PauseKind::Operator, "the daemon was started with --paused", None, now)
                    .await
                    .with_context(at_the_database)?;
            }
            let lane = InstanceScheduler::open(
                name,
                instance.clone(),
                endpoint,
                store.clone(),
                clock.clone(),
                stop.child_token(),
            )
            .await;
            lanes.push(lane.with_context(at_the_database)?);
        }
        for (name, jobs) in store.unended_by_instance().await.with_context(at_the_database)? {
            if !config.instances.contains_key(&name) {
                tracing::warn!(instance = %name, jobs, "jobs wait for an instance that is not in the configuration");
            }
        }
        let intake = Intake::new(store.clone(), clock.clone(), config);
        let drop_folder = DropFolder::open(config, intake.clone(), clock.clone()).await?;
        let tasks = TaskTracker::new();
        let notifier = Notifier::open(&config.notify, store.clone(), clock.clone()).await;
        let notifier = notifier.map_err(anyhow::Error::msg).with_context(at_the_database)?;
        // From here on nothing fails any more, so that a start that does leaves nothing at work.
        for lane in &lanes {
            tasks.spawn(lane.clone().run(tasks.clone()));
        }
        let keeper = RetentionTask::new(store.clone(), clock.clone(), config.retention.clone());
        tasks.spawn(keeper.clone().run(stop.clone()));
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
            guesses: LoginThrottle::default(),
            legacy_tokens: LegacyTokens::new(config.api.legacy_tokens),
            schedulers: lanes.clone(),
            keeper,
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
        Ok(Daemon { store, lanes, intake, stop, tasks, served, tls })
    }

    /// Puts in force what of `new` can be while the daemon runs, and says what can't. `now` is what is in force.
    async fn reload(&self, now: &mut Config, level: &logging::Level, new: Result<Config, ConfigError>) {
        match self.tls.as_ref().map(|tls| tls.reload()) {
            Some(Ok(())) => tracing::info!("the TLS files were read again"),
            Some(Err(error)) => tracing::error!(%error, "the TLS files were read again; the old ones stay in force"),
            None => {}
        }
        let (config, later) = match new {
            Ok(new) => reload::merge_reloadable(now, new),
            Err(error) => {
                tracing::error!(%error, "the new configuration is wrong; the old one stays in force");
                return;
            }
        };
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        for lane in &self.lanes {
            if let Some(instance) = config.instances.get(lane.name())
                && let Err(error) = lane.reload(instance.clone()).await
            {
                tracing::error!(instance = lane.name(), %error, "the new configuration is not in force everywhere");
            }
        }
        self.intake.reload(&config);
        if let Err(error) = level.set(config.log.level) {
            tracing::error!("{error:#}");
        }
        *now = config;
        if !later.is_empty() {
            tracing::warn!(keys = later.join(", "), "some changes wait for a restart of the daemon");
        }
        tracing::info!("the configuration was read again");
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
        if tokio::time::timeout(DRAIN_TIME, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "some work did not end in time; the next start takes it up");
        }
        if tokio::time::timeout(RESPONSE_TIME, self.served.wait()).await.is_err() {
            tracing::warn!("some clients did not end their requests in time");
        }
        self.store.close().await;
    }
}

/// Runs the daemon until SIGTERM or SIGINT. A second one does not wait for uploads. SIGHUP has it `read` its
/// configuration and its TLS files again. `paused`: no upload begins before a person says so.
///
/// # Errors
/// As [`Daemon::start`]; also if the daemon broke down.
pub async fn serve(
    mut config: Config,
    paused: bool,
    level: &logging::Level,
    read: impl Fn() -> Result<Config, ConfigError>,
) -> anyhow::Result<()> {
    // Heard from the first moment on, so that none is missed while the database opens.
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be waited for")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can't be waited for")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP can't be waited for")?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let daemon = match systemd::socket(&config.api.socket)? {
        Some(socket) => Daemon::start_at(Socket::inherited(socket)?, &config, Clock::System, paused).await?,
        None => Daemon::start(&config, Clock::System, paused).await?,
    };
    systemd::ready();
    let alive = systemd::watchdog()
        .map(|patience| tokio::spawn(systemd::watchdog_loop(patience, daemon.lanes.clone(), daemon.store.clone())));
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
    // systemd gives the stop a time of its own, and a lane that makes no more plans would hold this for ever.
    if let Some(alive) = alive {
        alive.abort();
    }
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

/// Files that are open whoever is connected: the database, its readers and its log, the socket, the drop folder, the
/// runtime's own.
const OWN_FILES: u32 = 64;

/// What clients may take, as far as there are file descriptors for it: those of the database and of calls to Marketo
/// are kept free. Raises the process's own limit on them as far as it may.
///
/// # Errors
/// Not even one connection is possible; the text says which limit to raise.
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
