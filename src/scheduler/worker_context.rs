//! What does a worker need to carry out a step for an instance?

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, LogThrottle, PATIENCE};
use crate::config;
use crate::domain::instance::PauseKind;
use crate::domain::{BatchKey, BatchState, Event};
use crate::marketo::Client;
use crate::scheduler::import_watch::ImportWatch;
use crate::scheduler::plan::SchedulingRules;
use crate::scheduler::shared_endpoint::SharedEndpoint;
use crate::scheduler::{day_of, next_day};
use crate::store::{ObservedClock, QuotaDay, Snapshot, Store, StoreError};

/// How long to wait when the database did not do as it was told.
pub(super) const STORE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Shared by the workers of one instance.
pub(super) struct WorkerContext {
    pub name: String,
    reloadable: RwLock<ReloadableConfig>,
    pub store: Store,
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
        WorkerContext {
            name: name.to_owned(),
            reloadable: terms,
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

    /// Reads the clock, after which the stored times are in accord with it.
    ///
    /// # Errors
    /// What writing the database reports, where the clock was set.
    pub async fn observe(&self) -> Result<ObservedClock, StoreError> {
        self.store.observe_clock(&self.clock).await
    }

    /// The quota's day at a moment.
    pub fn quota_day(&self, clock: &ObservedClock) -> QuotaDay {
        let by_clock = day_of(clock.now(), self.config().limits.daily_reset);
        QuotaDay { by_clock, is_clock_steady: clock.steady_at(PATIENCE).is_none() }
    }

    /// The calls of this instance that count for the quota's day.
    ///
    /// # Errors
    /// What reading the database reports.
    pub async fn calls_today(&self, clock: &ObservedClock) -> Result<u64, StoreError> {
        self.store.calls_today(&self.name, &self.endpoint.names, self.quota_day(clock)).await
    }

    /// What a plan made now would see, and when that is. It only sizes pauses: where it can't be read, nothing is seen.
    pub async fn seen(&self) -> (Snapshot, Timestamp) {
        match self.observe().await {
            Ok(clock) => (self.snapshot(&clock).await.unwrap_or_default(), clock.now()),
            Err(_) => (Snapshot::default(), self.clock.now()),
        }
    }

    /// What a plan made at that moment would see.
    ///
    /// # Errors
    /// What reading the database reports.
    pub async fn snapshot(&self, clock: &ObservedClock) -> Result<Snapshot, StoreError> {
        let (now, config) = (clock.now(), self.config());
        let rules = SchedulingRules::from_instance(&config);
        let mut snapshot = self.store.snapshot(&self.name, now, rules.max_in_flight, rules.longest_pause()).await?;
        snapshot.clock_steady_at = clock.steady_at(PATIENCE);
        // A pause for the quota ends with the day in which it began. One that seems to end later began before the clock was
        // set back.
        let day_ends = next_day(now, config.limits.daily_reset);
        if snapshot.clock_steady_at.is_none()
            && let Some(pause) = &mut snapshot.instance.pause
            && pause.kind == PauseKind::Quota
            && pause.until.is_some_and(|until| until > day_ends)
        {
            (pause.at, pause.until) = (now, Some(day_ends));
            self.store.pause(&self.name, PauseKind::Quota, &pause.reason, pause.until, now).await?;
        }
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
        let computed = self.observe().await.ok();
        self.record_with_retry(key, name, || async {
            // The clock may be set while the store fails, and then the stored times are moved without this one.
            let clock = self.observe().await?;
            let moved = computed.as_ref().map_or(0, |computed| clock.record.offset_ms - computed.record.offset_ms);
            self.store.record_event(key, event.clone().moved(moved), request_id.clone(), clock.now()).await
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
