//! Event bus: passes change events and metric events to their subscribers.

use std::sync::OnceLock;

use tokio::sync::{broadcast, mpsc};

use crate::store::change_log::{ChangeLog, ChangeSubscription};
use crate::store::events::{ChangeEvent, MetricEvent};
use crate::store::wakes::{WakeRegistry, WakeSubscription};

/// Change events that a slow subscriber may fall behind by. Beyond them it gets `Lagged` and has to read everything
/// again.
const MAX_BUFFERED_CHANGES: usize = 4096;

/// The subscribers to commits.
pub(super) struct EventBus {
    changes: broadcast::Sender<ChangeEvent>,
    log: ChangeLog,
    wakes: WakeRegistry,
    /// Set when the metrics subscribe.
    metrics: OnceLock<mpsc::UnboundedSender<MetricEvent>>,
}

impl Default for EventBus {
    fn default() -> EventBus {
        EventBus {
            changes: broadcast::channel(MAX_BUFFERED_CHANGES).0,
            log: ChangeLog::default(),
            wakes: WakeRegistry::default(),
            metrics: OnceLock::new(),
        }
    }
}

impl EventBus {
    /// Subscribes to the change events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<ChangeEvent> {
        self.changes.subscribe()
    }

    /// Subscribes to the change events after a known one; see [`ChangeLog::subscribe_after`].
    pub fn subscribe_after(&self, known: Option<u64>) -> ChangeSubscription {
        self.log.subscribe_after(known)
    }

    /// Subscribes to all metric events from now on. Returns none if there is a subscriber already.
    pub fn subscribe_metrics(&self) -> Option<mpsc::UnboundedReceiver<MetricEvent>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.metrics.set(sender).is_ok().then_some(receiver)
    }

    /// Subscribes to what may change the plans of an instance; see [`WakeRegistry::subscribe`].
    pub fn subscribe_wakes(&self, name: &str, sharing: &[String]) -> WakeSubscription {
        self.wakes.subscribe(name, sharing)
    }

    /// Sends an event to its subscribers. To have none is no error.
    pub fn publish(&self, change: ChangeEvent) {
        let _ = match change {
            ChangeEvent::Wake(event) => {
                self.wakes.deliver(&event);
                true
            }
            ChangeEvent::Metric(event) => self.metrics.get().is_some_and(|metrics| metrics.send(event).is_ok()),
            other => {
                self.log.append(other.clone());
                self.changes.send(other).is_ok()
            }
        };
    }
}
