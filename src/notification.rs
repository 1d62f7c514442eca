//! Who hears that a job has ended? A command or a URL of the configuration, once at least for each end.
//!
//! What is owed stands in the database from the transaction on that ended the job, so a death forgets nobody. It is tried
//! with growing pauses for three days, beside the queue and never in its way.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, LogThrottle, after};
use crate::config;
use crate::store::{Job, MetricEvent, PendingNotification, Store, StoreError};

mod command;
mod delivery;
pub mod supervisor;

use crate::notification::delivery::Delivery;

/// How many are told at once.
const MAX_CONCURRENT: u32 = 4;

/// The pause after a failure doubles from the first to the second.
const BACKOFF_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// After this long it is given up.
const MAX_RETRY_TIME: Duration = Duration::from_secs(3 * 24 * 3600);

/// Two looks are at least so far apart: one sees all that has changed meanwhile.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// How long to wait when the database did not do as it was told.
const STORE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Tells of ends until the stop.
pub struct Notifier {
    store: Store,
    clock: Clock,
    teller: Delivery,
}

/// What is told, as JSON.
#[derive(Serialize)]
struct Payload<'a> {
    event: &'static str,
    job: &'a Job,
    /// The job failed by its attempts, and its content is kept for someone to retry it or to erase it.
    content_waits: bool,
}

impl Notifier {
    /// None where nobody is to be told; what was owed to somebody before is then let go.
    ///
    /// # Errors
    /// The reason in one sentence, when the TLS library can't be set up or the store fails.
    pub async fn open(config: &config::Notify, store: Store, clock: Clock) -> Result<Option<Notifier>, String> {
        let teller = Delivery::new(config, MAX_CONCURRENT)?;
        store.enable_notifications(teller.is_some()).await.map_err(|error| error.to_string())?;
        Ok(teller.map(|teller| Notifier { store, clock, teller }))
    }

    /// Tells of ends as they come. Attempts under way at the stop are left, and made again after the next start.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.work() => {}
        }
    }

    async fn work(&self) {
        let mut changes = self.store.subscribe();
        let mut seldom = LogThrottle::default();
        loop {
            let next = match self.deliver_due().await {
                Ok(next) => next,
                Err(StoreError::Closed) => return,
                Err(error) => {
                    if let Some(unsaid) = seldom.allow() {
                        tracing::error!(%error, unsaid, "what is owed can't be read; trying again");
                    }
                    tokio::time::sleep(STORE_RETRY_DELAY).await;
                    continue;
                }
            };
            tokio::select! {
                () = self.clock.sleep_until(next) => {}
                change = changes.recv() => if change == Err(RecvError::Closed) { return },
            }
            tokio::time::sleep(DEBOUNCE).await;
            changes = changes.resubscribe();
        }
    }

    /// Tells what is due, and says when to look again.
    async fn deliver_due(&self) -> Result<Timestamp, StoreError> {
        loop {
            let (due, next) = self.store.due_notifications(self.clock.now(), BACKOFF_RANGE.1, MAX_CONCURRENT).await?;
            if due.is_empty() {
                return Ok(next.unwrap_or(Timestamp::MAX));
            }
            for done in futures_util::future::join_all(due.into_iter().map(|notice| self.deliver(notice))).await {
                done?;
            }
        }
    }

    async fn deliver(&self, notice: PendingNotification) -> Result<(), StoreError> {
        let job = match self.store.job(notice.job).await {
            Ok(job) => job,
            Err(StoreError::NoJob(_)) => return self.store.notification_delivered(notice).await,
            Err(error) => return Err(error),
        };
        if !job.state.is_terminal() {
            // It was sent again. Its next end is told.
            return self.store.notification_delivered(notice).await;
        }
        let now = self.clock.now();
        let body = serde_json::to_vec(&Payload { event: "job-ended", job: &job, content_waits: job.is_content_kept() })
            .map_err(|error| {
                // Plain data of our own always becomes JSON.
                StoreError::Refused(error.to_string())
            })?;
        let told = self.teller.send(job.id, body, now).await;
        self.store.publish_metric(MetricEvent::Notice { told: told.is_ok() });
        let Err(reason) = told else {
            tracing::debug!(job = %job.id, "its end was told");
            return self.store.notification_delivered(notice).await;
        };
        if now >= after(notice.enqueued_at, MAX_RETRY_TIME) {
            tracing::error!(job = %job.id, %reason, "its end could not be told for three days: given up");
            return self.store.notification_delivered(notice).await;
        }
        let pause = BACKOFF_RANGE.0.saturating_mul(2_u32.saturating_pow(notice.attempts)).min(BACKOFF_RANGE.1);
        tracing::warn!(job = %job.id, %reason, attempts = notice.attempts + 1, ?pause, "its end could not be told yet");
        self.store.notification_failed(notice, after(self.clock.now(), pause)).await
    }
}
