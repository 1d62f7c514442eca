//! Endpoint: what the instances with one base URL share, since Marketo's limits are for all of them together.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::config::Limits;
use crate::marketo::{EarlierCallTimes, RateLimiter};
use crate::store::{Store, StoreError};

/// One Marketo. Clones are the same one.
#[derive(Clone)]
pub struct SharedEndpoint {
    /// The instances that lead to it.
    pub(super) names: Arc<Vec<String>>,
    pub(super) rate_limiter: RateLimiter,
    /// Held from the look at who is in flight to the record that one more is: of those that leave the gate together each
    /// then sees the one before.
    pub(super) begin: Arc<Mutex<()>>,
}

impl SharedEndpoint {
    /// Makes the gate of the instances `names`, which have the same `limits`. Calls of an earlier process that may still
    /// count are counted.
    ///
    /// # Errors
    /// What reading the database reports.
    pub async fn open(
        names: Vec<String>,
        limits: &Limits,
        store: &Store,
        clock: &Clock,
    ) -> Result<SharedEndpoint, StoreError> {
        let (up, mut earlier) = (clock.uptime(), EarlierCallTimes::default());
        for name in &names {
            let calls = store.earlier_calls(name, &up).await?;
            earlier.ended_ago.extend(calls.ended_ago);
            earlier.may_last.extend(calls.may_last);
        }
        let gate = RateLimiter::new(limits.calls, limits.window, limits.concurrent_calls, earlier);
        Ok(SharedEndpoint { names: Arc::new(names), rate_limiter: gate, begin: Arc::default() })
    }
}
