//! Notifier: reads the outbox, delivers what is due, and schedules retries.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::api::dto::{BatchHeldAlert, InstancePausedAlert, JobEndedNotification};
use crate::api::job_reasons;
use crate::clock::Clock;
use crate::config;
use crate::log_throttle::LogThrottle;
use crate::notification::attempt::{AttemptResult, MAX_BACKOFF, MessageSender};
use crate::notification::delivery::Delivery;
use crate::notification::disk_alert::deliver_disk_alerts;
use crate::notification::message::{Message, json};
use crate::store::{Alert, DueAlerts, DueNotifications, Job, PendingAlert, PendingNotification, Store, StoreError};

/// The maximum number of concurrent deliveries.
const MAX_CONCURRENT: u32 = 4;

/// The minimum time between two reads of the outbox. One read covers all changes in between.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// The wait after a database operation that failed.
const STORE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Delivers the notifications of the outbox, and the alert of a full disk.
pub struct Notifier {
    sender: MessageSender,
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
        Ok(delivery.map(|delivery| Notifier { sender: MessageSender { store, clock, delivery } }))
    }

    /// Delivers notifications until the stop. Deliveries under way at the stop are cancelled, and those of the outbox
    /// are repeated after the next start.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.run_until_closed() => {}
            // What is in the outbox does not wait for the alert of the disk, nor the other way round.
            () = self.run_disk_alerts() => {}
        }
    }

    async fn run_disk_alerts(&self) {
        if let Err(error) = deliver_disk_alerts(&self.sender, self.sender.store.watch_full_disk()).await {
            tracing::error!(%error, "the alert of a full disk can't be made");
        }
        // The outbox decides when there is no more to do.
        std::future::pending().await
    }

    async fn run_until_closed(&self) {
        let mut changes = self.sender.store.subscribe();
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
                () = self.sender.clock.sleep_until(next) => {}
                change = changes.recv() => if change == Err(RecvError::Closed) { return },
            }
            tokio::time::sleep(DEBOUNCE).await;
            changes = changes.resubscribe();
        }
    }

    /// Delivers what is due, and returns the time of the next delivery. Alerts go first, since an operator has to act.
    async fn deliver_due(&self) -> Result<Timestamp, StoreError> {
        let store = &self.sender.store;
        loop {
            let now = self.sender.clock.now();
            let alerts = store.due_alerts(now, MAX_BACKOFF, MAX_CONCURRENT).await?;
            let DueAlerts { due: alerts, next_due_at: next_alert_at } = alerts;
            let left = MAX_CONCURRENT.saturating_sub(u32::try_from(alerts.len()).unwrap_or(u32::MAX));
            let DueNotifications { due: ends, next_due_at: next_end_at } =
                store.due_notifications(now, MAX_BACKOFF, left).await?;
            if alerts.is_empty() && ends.is_empty() {
                let next = [next_alert_at, next_end_at].into_iter().flatten().min();
                return Ok(next.unwrap_or(Timestamp::MAX));
            }
            let alerts = join_all(alerts.into_iter().map(|alert| self.deliver_alert(alert)));
            let ends = join_all(ends.into_iter().map(|end| self.deliver_end(end)));
            let (alerts, ends) = tokio::join!(alerts, ends);
            alerts.into_iter().chain(ends).collect::<Result<(), StoreError>>()?;
        }
    }

    /// Returns the job that has ended; none where it was retried meanwhile, or its record was deleted.
    async fn ended_job(&self, notification: &PendingNotification) -> Result<Option<Job>, StoreError> {
        match self.sender.store.job(notification.job).await {
            // The next end of a job that was retried is notified.
            Ok(job) => Ok(Some(job).filter(|job| job.state.is_terminal())),
            Err(StoreError::NoJob(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn deliver_end(&self, notification: PendingNotification) -> Result<(), StoreError> {
        let store = &self.sender.store;
        let Some(job) = self.ended_job(&notification).await? else {
            return store.notification_delivered(notification).await;
        };
        // The reports may be erased by now. The end is told all the same.
        let reasons = job_reasons(store, &job, JobEndedNotification::MAX_REASONS).await.unwrap_or_default();
        let message = Message {
            event: JobEndedNotification::EVENT,
            job: Some(notification.job),
            body: json(&JobEndedNotification::new(job, reasons))?,
            enqueued_at: notification.enqueued_at,
            attempts: notification.attempts,
        };
        match self.sender.attempt(&message).await {
            AttemptResult::Done => record(|| store.notification_delivered(notification)).await,
            AttemptResult::RetryAt(next_at) => record(|| store.notification_failed(notification, next_at)).await,
        }
    }

    async fn deliver_alert(&self, pending: PendingAlert) -> Result<(), StoreError> {
        let store = &self.sender.store;
        let PendingAlert { id, alert, enqueued_at, attempts } = pending;
        let (event, job, body) = match alert {
            Alert::InstancePaused { instance, pause } => {
                (InstancePausedAlert::EVENT, None, json(&InstancePausedAlert::new(instance, pause))?)
            }
            Alert::BatchHeld { key, reason, at } => {
                let job = match store.job(key.job).await {
                    Ok(job) => job.into(),
                    Err(StoreError::NoJob(_)) => return store.alert_delivered(id).await,
                    Err(error) => return Err(error),
                };
                let alert = BatchHeldAlert { event: BatchHeldAlert::EVENT, job, part: key.part, reason, at };
                (BatchHeldAlert::EVENT, Some(key.job), json(&alert)?)
            }
        };
        match self.sender.attempt(&Message { event, job, body, enqueued_at, attempts }).await {
            AttemptResult::Done => record(|| store.alert_delivered(id)).await,
            AttemptResult::RetryAt(next_at) => record(|| store.alert_failed(id, next_at)).await,
        }
    }
}

/// Records the result of a delivery, and retries while the database can't be written: reading the outbox again would
/// repeat the delivery each time, as long as the disk is full. New rows can't be written meanwhile either.
async fn record<F>(write: impl Fn() -> F) -> Result<(), StoreError>
where
    F: Future<Output = Result<(), StoreError>>,
{
    let mut throttle = LogThrottle::default();
    loop {
        match write().await {
            Err(error) if error.is_transient() => {
                if let Some(suppressed) = throttle.allow() {
                    tracing::error!(%error, suppressed, "recording a delivery failed; retrying");
                }
                tokio::time::sleep(STORE_RETRY_DELAY).await;
            }
            result => return result,
        }
    }
}
