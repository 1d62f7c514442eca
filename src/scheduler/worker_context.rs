//! What does a worker need to carry out a step for an instance?

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, LogThrottle, Trust};
use crate::config;
use crate::domain::{BatchKey, BatchState, Event};
use crate::marketo::Client;
use crate::scheduler::import_watch::ImportWatch;
use crate::scheduler::plan::SchedulingRules;
use crate::scheduler::shared_endpoint::SharedEndpoint;
use crate::store::{Snapshot, Store, StoreError};

/// How long to wait when the database did not do as it was told.
pub(super) const STORE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Shared by the workers of one instance.
pub(super) struct WorkerContext {
    pub name: String,
    reloadable: RwLock<ReloadableConfig>,
    pub store: Store,
    /// How far the clock's word is taken for an age that would end something.
    trust: Mutex<Trust>,
    /// Shared with the other instances that lead to the same Marketo.
    pub endpoint: SharedEndpoint,
    pub import_watch: ImportWatch,
    pub clock: Clock,
    /// When this is cancelled, no call leaves any more; those under way end.
    pub stop: CancellationToken,
}

/// What a reload of the configuration replaces. Who is in the middle of something keeps what it began with.
struct ReloadableConfig {
    config: Arc<config::Instance>,
    client: Arc<Client>,
}

impl WorkerContext {
    pub fn new(
        name: &str,
        config: config::Instance,
        client: Client,
        store: Store,
        endpoint: SharedEndpoint,
        clock: Clock,
        stop: CancellationToken,
    ) -> WorkerContext {
        let terms = RwLock::new(ReloadableConfig { config: Arc::new(config), client: Arc::new(client) });
        let trust = Mutex::new(Trust::begin(Duration::MAX, clock.now(), Instant::now()));
        WorkerContext {
            name: name.to_owned(),
            reloadable: terms,
            trust,
            store,
            endpoint,
            import_watch: ImportWatch::default(),
            clock,
            stop,
        }
    }

    pub fn config(&self) -> Arc<config::Instance> {
        self.reloadable.read().unwrap_or_else(PoisonError::into_inner).config.clone()
    }

    pub fn client(&self) -> Arc<Client> {
        self.reloadable.read().unwrap_or_else(PoisonError::into_inner).client.clone()
    }

    /// Goes by `config` from now on, and speaks through `client` where there is a new one.
    pub fn reload(&self, config: config::Instance, client: Option<Client>) {
        let limits = &config.limits;
        self.endpoint.rate_limiter.set_limits(limits.calls, limits.window, limits.concurrent_calls);
        let mut terms = self.reloadable.write().unwrap_or_else(PoisonError::into_inner);
        terms.config = Arc::new(config);
        if let Some(client) = client {
            terms.client = Arc::new(client);
        }
    }

    /// The moment from which an age is counted that would end something; none while the clock is not to be believed, which
    /// is for an hour after a start and after each leap. What is asked about is then asked about again.
    pub fn believed(&self, since: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner).believed(since, now, Instant::now())
    }

    /// What a plan made at `now` would see.
    pub async fn snapshot(&self, now: Timestamp) -> Result<Snapshot, StoreError> {
        let rules = SchedulingRules::from_instance(&self.config());
        let mut snapshot = self.store.snapshot(&self.name, now, rules.max_in_flight, rules.longest_pause()).await?;
        for other in self.endpoint.names.iter().filter(|&name| *name != self.name) {
            let held = self.store.occupied_slots(other, now).await?;
            snapshot.in_flight_elsewhere += held.in_flight;
            snapshot.unconfirmed_until.extend(held.unconfirmed_until);
        }
        Ok(snapshot)
    }

    /// Records what Marketo said of an upload, see [`Desk::insist`].
    pub async fn record_event(
        &self,
        key: BatchKey,
        event: Event,
        request_id: Option<String>,
    ) -> Result<BatchState, StoreError> {
        let name = event.name();
        self.record_with_retry(key, name, || {
            self.store.record_event(key, event.clone(), request_id.clone(), self.clock.now())
        })
        .await
    }

    /// Writes down what became of an upload. It is known here and nowhere else, so a store that fails (a full disk, say) is
    /// asked again until it takes it or is closed.
    pub async fn record_with_retry<T, F>(
        &self,
        key: BatchKey,
        what: &str,
        write: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut seldom = LogThrottle::default();
        loop {
            match write().await {
                Err(error) if error.is_transient() => {
                    if seldom.allow().is_some() {
                        tracing::error!(instance = %self.name, job = %key.job, part = key.part, event = what, %error,
                            "what became of an upload can't be written down yet");
                    }
                    tokio::time::sleep(STORE_RETRY_DELAY).await;
                }
                written => return written,
            }
        }
    }
}
