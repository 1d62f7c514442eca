//! What does a worker need to carry out a step for an instance?

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::endpoint::Endpoint;
use super::plan::Rules;
use super::watch::Watch;
use crate::clock::{Clock, Seldom, Trust};
use crate::config;
use crate::job::{BatchKey, BatchState, Event};
use crate::marketo::Client;
use crate::store::{Snapshot, Store, StoreError};

/// How long to wait when the database did not do as it was told.
pub(super) const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Shared by the workers of one instance.
pub(super) struct Desk {
    pub name: String,
    terms: RwLock<Terms>,
    pub store: Store,
    /// How far the clock's word is taken for an age that would end something.
    trust: Mutex<Trust>,
    /// Shared with the other instances that lead to the same Marketo.
    pub endpoint: Endpoint,
    pub watch: Watch,
    pub clock: Clock,
    /// When this is cancelled, no call leaves any more; those under way end.
    pub stop: CancellationToken,
}

/// What a reload of the configuration replaces. Who is in the middle of something keeps what it began with.
struct Terms {
    config: Arc<config::Instance>,
    client: Arc<Client>,
}

impl Desk {
    pub fn new(
        name: &str,
        config: config::Instance,
        client: Client,
        store: Store,
        endpoint: Endpoint,
        clock: Clock,
        stop: CancellationToken,
    ) -> Desk {
        let terms = RwLock::new(Terms { config: Arc::new(config), client: Arc::new(client) });
        let trust = Mutex::new(Trust::begin(Duration::MAX, clock.now(), Instant::now()));
        Desk { name: name.to_owned(), terms, trust, store, endpoint, watch: Watch::default(), clock, stop }
    }

    pub fn config(&self) -> Arc<config::Instance> {
        self.terms.read().unwrap_or_else(PoisonError::into_inner).config.clone()
    }

    pub fn client(&self) -> Arc<Client> {
        self.terms.read().unwrap_or_else(PoisonError::into_inner).client.clone()
    }

    /// Goes by `config` from now on, and speaks through `client` where there is a new one.
    pub fn change(&self, config: config::Instance, client: Option<Client>) {
        let limits = &config.limits;
        self.endpoint.gate.change(limits.calls, limits.window, limits.concurrent_calls);
        let mut terms = self.terms.write().unwrap_or_else(PoisonError::into_inner);
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
        let rules = Rules::of(&self.config());
        let mut snapshot = self.store.snapshot(&self.name, now, rules.in_flight, rules.longest_pause()).await?;
        for other in self.endpoint.names.iter().filter(|&name| *name != self.name) {
            let held = self.store.slots_held(other, now).await?;
            snapshot.elsewhere += held.in_flight;
            snapshot.ghosts.extend(held.ghosts);
        }
        Ok(snapshot)
    }

    /// Records what Marketo said of an upload, see [`Desk::insist`].
    pub async fn keep(
        &self,
        key: BatchKey,
        event: Event,
        request_id: Option<String>,
    ) -> Result<BatchState, StoreError> {
        let name = event.name();
        self.insist(key, name, || self.store.record(key, event.clone(), request_id.clone(), self.clock.now())).await
    }

    /// Writes down what became of an upload. It is known here and nowhere else, so a store that fails (a full disk, say) is
    /// asked again until it takes it or is closed.
    pub async fn insist<T, F>(&self, key: BatchKey, what: &str, write: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut seldom = Seldom::default();
        loop {
            match write().await {
                Err(error) if error.may_pass() => {
                    if seldom.may_say().is_some() {
                        tracing::error!(instance = %self.name, job = %key.job, part = key.part, event = what, %error,
                            "what became of an upload can't be written down yet");
                    }
                    tokio::time::sleep(STORE_PAUSE).await;
                }
                written => return written,
            }
        }
    }
}
