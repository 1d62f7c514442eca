//! What does a worker need to carry out a step for an instance?

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config;
use crate::marketo::{Client, Gate};
use crate::store::Store;

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
