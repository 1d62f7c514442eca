//! What does a worker need to carry out a step for an instance?

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::plan::Rules;
use crate::clock::Clock;
use crate::config;
use crate::marketo::{Client, Gate};
use crate::store::{Snapshot, Store, StoreError};

/// Shared by the workers of one instance.
pub(super) struct Desk {
    pub name: String,
    pub config: config::Instance,
    pub store: Store,
    pub client: Client,
    pub gate: Gate,
    pub clock: Clock,
    /// When this is cancelled, no call leaves any more; those under way end.
    pub stop: CancellationToken,
}

impl Desk {
    /// What a plan made at `now` would see.
    pub async fn snapshot(&self, now: Timestamp) -> Result<Snapshot, StoreError> {
        self.store.snapshot(&self.name, now, Rules::of(&self.config).in_flight).await
    }
}
