//! Notifier: reads the outbox, delivers what is due, and schedules retries.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::api::dto::JobEndedNotification;
use crate::clock::{Clock, after};
use crate::log_throttle::LogThrottle;
use crate::notification::delivery::Delivery;
use crate::store::{DueNotifications, MetricEvent, PendingNotification, Store, StoreError};
use crate::{backoff, config};

/// The maximum number of concurrent deliveries.
const MAX_CONCURRENT: u32 = 4;

/// The backoff after a failed delivery doubles from the minimum to the maximum.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(3600);

/// A notification is dropped after failing for this long.
const MAX_RETRY_TIME: Duration = Duration::from_secs(3 * 24 * 3600);

/// The minimum time between two reads of the outbox. One read covers all changes in between.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// The wait after a database operation that failed.
const STORE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Delivers the notifications of the outbox.
pub struct Notifier {
    store: Store,
    clock: Clock,
    delivery: Delivery,
}

impl Notifier {
    /// Opens the notifier. Returns none where no notification is configured, and then empties the outbox.
    ///
    /// # Errors
    /// The reason as text, when TLS cannot be set up or the database fails.
    pub async fn open(config: &config::Notify, store: Store, clock: Clock) -> Result<Option<Notifier>, String> {
        let delivery = Delivery::new(config, MAX_CONCURRENT)?;
        let enabled = match &delivery {
            Some(_) => store.enable_notifications().await,
            None => store.disable_notifications().await,
        };
        enabled.map_err(|error| error.to_string())?;
        Ok(delivery.map(|delivery| Notifier { store, clock, delivery }))
    }

    /// Delivers notifications until the stop. Deliveries under way at the stop are cancelled, and repeated after the
    /// next start.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.run_until_closed() => {}
        }
    }

    async fn run_until_closed(&self) {
        let mut changes = self.store.subscribe();
        let mut throttle = LogThrottle::default();
        loop {
            let next = match self.deliver_due().await {
                Ok(next) => next,
                Err(StoreError::Closed) => return,
                Err(error) => {
                    if let Some(suppressed) = throttle.allow() {
                        tracing::error!(%error, suppressed, "reading the notification outbox failed; retrying");
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

    /// Delivers what is due, and returns the time of the next delivery.
    async fn deliver_due(&self) -> Result<Timestamp, StoreError> {
        loop {
            let DueNotifications { due, next_due_at } =
                self.store.due_notifications(self.clock.now(), MAX_BACKOFF, MAX_CONCURRENT).await?;
            if due.is_empty() {
                return Ok(next_due_at.unwrap_or(Timestamp::MAX));
            }
            for delivered in
                futures_util::future::join_all(due.into_iter().map(|notification| self.deliver(notification))).await
            {
                delivered?;
            }
        }
    }

    async fn deliver(&self, notification: PendingNotification) -> Result<(), StoreError> {
        let job = match self.store.job(notification.job).await {
            Ok(job) => job,
            Err(StoreError::NoJob(_)) => return self.store.notification_delivered(notification).await,
            Err(error) => return Err(error),
        };
        if !job.state.is_terminal() {
            // The job was retried. Its next end is notified.
            return self.store.notification_delivered(notification).await;
        }
        let now = self.clock.now();
        let id = job.id;
        // This type always serializes.
        let body = serde_json::to_vec(&JobEndedNotification::new(job))
            .map_err(|error| StoreError::Refused(error.to_string()))?;
        let sent = self.delivery.send(id, body, now).await;
        self.store.publish_metric(MetricEvent::NotificationAttempt { is_delivered: sent.is_ok() });
        let Err(reason) = sent else {
            tracing::debug!(job = %id, "notification delivered");
            return self.store.notification_delivered(notification).await;
        };
        if now >= after(notification.enqueued_at, MAX_RETRY_TIME) {
            tracing::error!(job = %id, %reason, "notification dropped: delivery failed for three days");
            return self.store.notification_delivered(notification).await;
        }
        let backoff = backoff::doubled(MIN_BACKOFF, notification.attempts, MAX_BACKOFF);
        tracing::warn!(job = %id, %reason, attempts = notification.attempts + 1, ?backoff,
            "notification failed; it is retried");
        self.store.notification_failed(notification, after(self.clock.now(), backoff)).await
    }
}
