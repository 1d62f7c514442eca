//! Worker context: what the workers of one instance share, and the database operations that they have in common.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, PATIENCE};
use crate::config;
use crate::domain::instance::PauseKind;
use crate::domain::{BatchKey, BatchState, Event};
use crate::log_throttle::LogThrottle;
use crate::marketo::Client;
use crate::scheduler::import_watch::ImportWatch;
use crate::scheduler::plan::SchedulingRules;
use crate::scheduler::quota_day::{day_of, next_day};
use crate::scheduler::shared_endpoint::SharedEndpoint;
use crate::store::{ObservedClock, QueueOutlook, QuotaDay, Snapshot, StatusQuery, Store, StoreError, UploadCheck};

/// The wait after a database operation that failed.
pub(super) const STORE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// What the scheduler of one instance needs.
pub struct InstanceSetup {
    /// The instance's name.
    pub name: String,
    /// Its configuration.
    pub config: config::Instance,
    /// The state that it shares with the other instances of its base URL.
    pub endpoint: SharedEndpoint,
    /// The database.
    pub store: Store,
    /// The clock.
    pub clock: Clock,
    /// After this is cancelled no new call is sent; calls under way end.
    pub stop: CancellationToken,
}

/// Shared by the workers of one instance.
pub(super) struct WorkerContext {
    pub name: String,
    reloadable: RwLock<ReloadableConfig>,
    pub store: Store,
    /// Shared with the other instances that have the same base URL.
    pub endpoint: SharedEndpoint,
    pub import_watch: ImportWatch,
    pub clock: Clock,
    /// After this is cancelled no new call is sent; calls under way end.
    pub stop: CancellationToken,
}

/// The parts that a reload of the configuration replaces. A worker that holds the old ones goes on with them.
struct ReloadableConfig {
    config: Arc<config::Instance>,
    client: Arc<Client>,
}

impl WorkerContext {
    pub fn new(setup: InstanceSetup, client: Client) -> WorkerContext {
        let InstanceSetup { name, config, endpoint, store, clock, stop } = setup;
        let reloadable = RwLock::new(ReloadableConfig { config: Arc::new(config), client: Arc::new(client) });
        WorkerContext { name, reloadable, store, endpoint, import_watch: ImportWatch::default(), clock, stop }
    }

    pub fn config(&self) -> Arc<config::Instance> {
        self.reloadable.read().config.clone()
    }

    pub fn client(&self) -> Arc<Client> {
        self.reloadable.read().client.clone()
    }

    /// Replaces the configuration, and the client where a new one is given.
    pub fn reload(&self, config: config::Instance, client: Option<Client>) {
        self.endpoint.rate_limiter.set_limits((&config.limits).into());
        let mut reloadable = self.reloadable.write();
        reloadable.config = Arc::new(config);
        if let Some(client) = client {
            reloadable.client = Arc::new(client);
        }
    }

    /// Reads the clock. Where the clock was set since the last reading, the stored times are shifted to match it.
    ///
    /// # Errors
    /// A database error, where stored times had to be shifted.
    pub async fn observe(&self) -> Result<ObservedClock, StoreError> {
        self.store.observe_clock(&self.clock).await
    }

    /// Returns the quota day of a clock reading.
    pub fn quota_day(&self, clock: &ObservedClock) -> QuotaDay {
        let by_clock = day_of(clock.now(), self.config().limits.daily_reset);
        QuotaDay { by_clock, is_clock_steady: clock.steady_at(PATIENCE).is_none() }
    }

    /// Returns the current snapshot and its time. An empty snapshot replaces one that cannot be read: the result only
    /// sets the length of waits.
    pub async fn snapshot_or_default(&self) -> (Snapshot, Timestamp) {
        match self.observe().await {
            Ok(clock) => (self.snapshot(&clock).await.unwrap_or_default(), clock.now()),
            Err(_) => (Snapshot::default(), self.clock.now()),
        }
    }

    /// Returns the input of a plan made at that time.
    ///
    /// # Errors
    /// A database error.
    pub async fn snapshot(&self, clock: &ObservedClock) -> Result<Snapshot, StoreError> {
        let (now, config) = (clock.now(), self.config());
        let rules = SchedulingRules::from_instance(&config);
        let mut snapshot = self.store.snapshot(&self.name, now, rules.max_in_flight, rules.longest_pause()).await?;
        self.complete(&mut snapshot, clock).await?;
        Ok(snapshot)
    }

    /// Returns what decides whether the upload of a batch may begin at that time.
    ///
    /// # Errors
    /// [`StoreError::NoJob`], [`StoreError::NoBatch`] or a database error.
    pub async fn upload_check(&self, key: BatchKey, clock: &ObservedClock) -> Result<UploadCheck, StoreError> {
        let mut check = self.store.upload_check(&self.name, key, clock.now()).await?;
        self.complete(&mut check.slots, clock).await?;
        Ok(check)
    }

    /// Returns what the waiting and the estimates of the instance's jobs are derived from at that time.
    ///
    /// # Errors
    /// A database error.
    pub async fn outlook(&self, clock: &ObservedClock) -> Result<QueueOutlook, StoreError> {
        let rules = SchedulingRules::from_instance(&self.config());
        let mut outlook = self.store.outlook(&self.name, clock.now(), rules.longest_pause()).await?;
        self.complete(&mut outlook.snapshot, clock).await?;
        Ok(outlook)
    }

    /// Returns what the status of the instance is derived from at that time.
    pub fn status_query(&self, clock: &ObservedClock) -> StatusQuery<'_> {
        let longest = SchedulingRules::from_instance(&self.config()).longest_pause();
        let (instance, sharing) = (self.name.as_str(), self.endpoint.names.as_slice());
        StatusQuery { instance, longest, sharing, day: self.quota_day(clock) }
    }

    /// Adds to a snapshot what the instance's own rows do not have: the state of the clock, and the slots that other
    /// instances of the same subscription occupy.
    pub async fn complete(&self, snapshot: &mut Snapshot, clock: &ObservedClock) -> Result<(), StoreError> {
        let (now, config) = (clock.now(), self.config());
        snapshot.clock_steady_at = clock.steady_at(PATIENCE);
        // A quota pause ends with the quota day in which it began. A later end means that the clock was set back since.
        let day_ends = next_day(now, config.limits.daily_reset);
        if snapshot.clock_steady_at.is_none()
            && let Some(pause) = &mut snapshot.instance.pause
            && pause.kind == PauseKind::Quota
            && pause.until.is_some_and(|until| until > day_ends)
        {
            (pause.at, pause.until) = (now, Some(day_ends));
            self.store.pause(&self.name, pause.clone()).await?;
        }
        for other in self.endpoint.names.iter().filter(|&name| *name != self.name) {
            let occupied = self.store.occupied_slots(other, now).await?;
            snapshot.in_flight_elsewhere += occupied.in_flight;
            snapshot.unconfirmed_until.extend(occupied.unconfirmed_until);
        }
        Ok(())
    }

    /// Records how an upload ended; see [`WorkerContext::record_with_retry`].
    ///
    /// # Errors
    /// A permanent database error, or [`StoreError::Closed`].
    pub async fn record_event(
        &self,
        key: BatchKey,
        event: Event,
        request_id: Option<String>,
    ) -> Result<BatchState, StoreError> {
        let name = event.name();
        let computed = self.observe().await.ok();
        self.record_with_retry(key, name, || async {
            // The clock may be set while the store fails. The stored times are then shifted, and the event's are not
            // yet.
            let clock = self.observe().await?;
            let moved = computed.as_ref().map_or(0, |computed| clock.record.offset_ms - computed.record.offset_ms);
            self.store.record_event(key, event.clone().moved(moved), request_id.clone(), clock.now()).await
        })
        .await
    }

    /// Writes the outcome of an upload, and retries each second while the store fails with a transient error (a full
    /// disk, for example). Only this process knows the outcome, so it must not be dropped.
    ///
    /// # Errors
    /// A permanent database error, or [`StoreError::Closed`].
    pub async fn record_with_retry<T, F>(
        &self,
        key: BatchKey,
        what: &str,
        write: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut throttle = LogThrottle::default();
        loop {
            match write().await {
                Err(error) if error.is_transient() => {
                    if throttle.allow().is_some() {
                        tracing::error!(instance = %self.name, job = %key.job, part = key.part, event = what, %error,
                            "recording an upload's outcome failed; retrying");
                    }
                    tokio::time::sleep(STORE_RETRY_DELAY).await;
                }
                result => return result,
            }
        }
    }
}
