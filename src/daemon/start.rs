//! Start: opens the parts of the daemon, and then starts their tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api;
use crate::api::auth::login_throttle::LoginThrottle;
use crate::api::auth::request_origin::AllowedHosts;
use crate::api::auth::session_table::SessionTable;
use crate::api::auth::tokens::TokenTable;
use crate::api::marketo_compat::LegacyTokens;
use crate::clock::Clock;
use crate::config;
use crate::config::Config;
use crate::daemon::connections::connections;
use crate::daemon::memory_release;
use crate::daemon::running::Daemon;
use crate::domain::instance::{Pause, PauseKind};
use crate::drop_folder::DropFolder;
use crate::http_server::{Server, Socket, Tcp, Tls};
use crate::intake::Intake;
use crate::notification::Notifier;
use crate::retention::RetentionTask;
use crate::scheduler::{InstanceScheduler, InstanceSetup, SharedEndpoint, day_of};
use crate::store::{Store, StoreError};

/// Whether uploads begin with the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartMode {
    /// Uploads begin at once.
    Normal,
    /// The uploads of every instance are paused first. An operator resumes them.
    Paused,
}

impl Daemon {
    /// Opens the database, the listeners and the drop folder, and starts all tasks. On return, clients are served.
    ///
    /// # Errors
    /// One sentence that names the file, socket or key. No task is left running, and no job has changed.
    pub async fn start(config: &Config, clock: Clock, mode: StartMode) -> anyhow::Result<Daemon> {
        let socket = Socket::listen(&config.api.socket, config.api.socket_mode).await?;
        Daemon::start_at(socket, config, clock, mode).await
    }

    /// Like [`Daemon::start`], with a socket that is already open.
    pub(super) async fn start_at(
        socket: Socket,
        config: &Config,
        clock: Clock,
        mode: StartMode,
    ) -> anyhow::Result<Daemon> {
        let connections = connections(config)?;
        let stop = CancellationToken::new();
        let tls = config.api.tls.clone().map(Tls::load).transpose()?.map(Arc::new);
        let tcp = match config.api.listen {
            Some(address) => Some(Tcp::listen(address, tls.clone()).await?),
            None => None,
        };
        let tokens = TokenTable::new(&config.api.clients)?;
        let sessions = SessionTable::new()?;
        let store = Store::open_with_reserve(&config.store.path, config.store.reserve_bytes).await?;
        let at_the_database = || format!("the start failed at the database {}", config.store.path.display());
        let now = clock.now();
        restore_tokens(&store, &tokens, now).await.with_context(at_the_database)?;
        // This precedes every decision based on a stored time, because the clock may have been set while no daemon ran.
        store.observe_clock(&clock).await.with_context(at_the_database)?;
        // The oldest quota day that any instance is in: calls of earlier days no longer count.
        let days = config.instances.values().map(|instance| day_of(now, instance.limits.daily_reset));
        store.adopt_calls(days.min().unwrap_or(now), clock.uptime()).await.with_context(at_the_database)?;
        if mode == StartMode::Paused {
            for name in config.instances.keys() {
                let reason = "the daemon was started with --paused".to_owned();
                let pause = Pause { kind: PauseKind::Operator, reason, at: now, until: None };
                store.pause(name, pause).await.with_context(at_the_database)?;
            }
        }
        let schedulers = open_schedulers(config, &store, &clock, &stop).await.with_context(at_the_database)?;
        warn_of_unknown_instances(config, &store).await.with_context(at_the_database)?;
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
        tasks.spawn(memory_release::release_after_peaks(stop.clone()));
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
            sessions,
            hosts: AllowedHosts::new(config),
            login_throttle: LoginThrottle::default(),
            legacy_tokens: LegacyTokens::new(&config.api),
            page: config.api.page.clone(),
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
                let split = clients.split_limits();
                served.spawn(tcp.serve(split.rest));
                served.spawn(socket.serve(split.quarter));
            }
            None => {
                served.spawn(socket.serve(clients));
            }
        }
        tracing::info!(socket = %config.api.socket.display(), database = %config.store.path.display(),
            instances = config.instances.len(), version = env!("CARGO_PKG_VERSION"), "the daemon is ready");
        Ok(Daemon { store, schedulers, intake, stop, tasks, served, tls })
    }
}

/// Loads the tokens of earlier starts, and deletes those of clients that are no longer configured.
async fn restore_tokens(store: &Store, tokens: &TokenTable, now: Timestamp) -> Result<(), StoreError> {
    let ended = tokens.restore(store.api_tokens().await?, Instant::now(), now);
    if !ended.is_empty()
        && let Err(error) = store.delete_api_tokens(ended).await
    {
        tracing::warn!(%error, "tokens of removed clients could not be deleted");
    }
    Ok(())
}

/// Opens the scheduler of each instance. Instances with one base URL share an endpoint.
async fn open_schedulers(
    config: &Config,
    store: &Store,
    clock: &Clock,
    stop: &CancellationToken,
) -> anyhow::Result<Vec<InstanceScheduler>> {
    let mut schedulers = Vec::new();
    let mut endpoints: BTreeMap<Vec<String>, SharedEndpoint> = BTreeMap::new();
    for (name, instance) in &config.instances {
        let names = config::sharing(&config.instances, name);
        let endpoint = match endpoints.get(&names) {
            Some(endpoint) => endpoint.clone(),
            None => SharedEndpoint::open(names.clone(), &instance.limits, store, clock).await?,
        };
        endpoints.insert(names, endpoint.clone());
        let setup = InstanceSetup {
            name: name.clone(),
            config: instance.clone(),
            endpoint,
            store: store.clone(),
            clock: clock.clone(),
            stop: stop.child_token(),
        };
        schedulers.push(InstanceScheduler::open(setup).await?);
    }
    Ok(schedulers)
}

async fn warn_of_unknown_instances(config: &Config, store: &Store) -> Result<(), StoreError> {
    for (name, jobs) in store.unended_by_instance().await? {
        if !config.instances.contains_key(&name) {
            tracing::warn!(instance = %name, jobs, "jobs of an instance that is not in the configuration");
        }
    }
    Ok(())
}
