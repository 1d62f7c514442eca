//! Attempt: delivers one message once, and says when it is tried again.

use std::time::Duration;

use jiff::Timestamp;
use tracing::field::display;

use crate::backoff;
use crate::clock::{Clock, after};
use crate::notification::delivery::Delivery;
use crate::notification::message::Message;
use crate::store::{MetricEvent, Store};

/// The backoff after a failed delivery doubles from the minimum to the maximum.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(3600);

/// A notification is dropped after failing for this long.
const MAX_RETRY_TIME: Duration = Duration::from_secs(3 * 24 * 3600);

/// What follows from an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptResult {
    /// The message was delivered, or is dropped.
    Done,
    /// It is tried again at this time.
    RetryAt(Timestamp),
}

/// Delivers messages, one attempt at a time.
pub(super) struct MessageSender {
    pub store: Store,
    pub clock: Clock,
    pub delivery: Delivery,
}

impl MessageSender {
    /// Tries to deliver a message.
    pub async fn attempt(&self, message: &Message) -> AttemptResult {
        let Message { event, job, attempts, .. } = *message;
        let job = job.map(display);
        let now = self.clock.now();
        let sent = self.delivery.send(message, now).await;
        self.store.publish_metric(MetricEvent::NotificationAttempt { is_delivered: sent.is_ok() });
        let Err(reason) = sent else {
            tracing::debug!(event, job, "notification delivered");
            return AttemptResult::Done;
        };
        if now >= after(message.enqueued_at, MAX_RETRY_TIME) {
            tracing::error!(event, job, %reason, "notification dropped: delivery failed for three days");
            return AttemptResult::Done;
        }
        let backoff = backoff::doubled(MIN_BACKOFF, attempts, MAX_BACKOFF);
        tracing::warn!(event, job, %reason, attempts = attempts + 1, ?backoff, "notification failed; it is retried");
        AttemptResult::RetryAt(after(self.clock.now(), backoff))
    }
}
