//! Shared endpoint: the state that instances with one base URL share, because Marketo's limits apply to all of them
//! together.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::config::Limits;
use crate::marketo::{EarlierCallTimes, RateLimiter};
use crate::store::{Store, StoreError};

/// One Marketo base URL. Clones share one state.
#[derive(Clone)]
pub struct SharedEndpoint {
    /// The instances with this base URL.
    pub(super) names: Arc<Vec<String>>,
    pub(super) rate_limiter: RateLimiter,
    /// Held from the check of free slots to the record that an upload has begun. Of several uploads that the rate
    /// limiter admits together, each then counts those before it.
    pub(super) begin: Arc<Mutex<()>>,
}

impl SharedEndpoint {
    /// Opens the endpoint of the instances `names`, which have the same `limits`. Its rate limiter counts the calls of
    /// earlier processes that may still count at Marketo.
    ///
    /// # Errors
    /// A database error.
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
        let rate_limiter = RateLimiter::new(limits.into(), earlier);
        Ok(SharedEndpoint { names: Arc::new(names), rate_limiter, begin: Arc::default() })
    }
}
