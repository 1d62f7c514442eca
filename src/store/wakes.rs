//! Wakes: tells the scheduler of an instance that a commit may change its next plan.
//!
//! A subscription collects what has happened since it was last read, so none is lost and no buffer can overflow. The
//! commits of other instances do not concern it: with hundreds of instances each commit would cause hundreds of plans.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::BatchKey;
use crate::store::events::{InstanceChange, WakeEvent};

/// The most batches that are named one by one. With more, all that is known is that there were changes.
const MAX_NAMED_BATCHES: usize = 32;

/// What has happened to an instance since its subscription was last read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wakes {
    /// A job was accepted.
    pub has_new_job: bool,
    /// The batches that had an event, in their order.
    pub batches: Vec<BatchKey>,
    /// Something else changed, or more batches had an event than are named.
    pub has_other_change: bool,
}

impl Wakes {
    fn is_empty(&self) -> bool {
        *self == Wakes::default()
    }

    fn add(&mut self, change: InstanceChange) {
        match change {
            InstanceChange::NewJob => self.has_new_job = true,
            InstanceChange::Batch(key) if self.batches.contains(&key) => {}
            InstanceChange::Batch(key) if self.batches.len() < MAX_NAMED_BATCHES => self.batches.push(key),
            InstanceChange::Batch(_) | InstanceChange::Other => self.has_other_change = true,
        }
    }
}

/// The subscription of one scheduler.
#[derive(Clone, Debug)]
pub struct WakeSubscription {
    inbox: Arc<Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    wakes: Mutex<Wakes>,
    arrived: Notify,
}

impl WakeSubscription {
    /// Waits until something has happened since the last call, and returns it. Nothing is lost where the wait is
    /// cancelled.
    pub async fn next(&self) -> Wakes {
        loop {
            let wakes = self.take();
            if !wakes.is_empty() {
                return wakes;
            }
            self.inbox.arrived.notified().await;
        }
    }

    /// Returns what has happened since the last call, without waiting. Call it before the rows are read: what is
    /// committed later is then returned later.
    pub fn take(&self) -> Wakes {
        std::mem::take(&mut *self.inbox.wakes.lock())
    }
}

/// Which changes of an instance a subscription gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interest {
    /// All.
    Own,
    /// All but new jobs: the instance shares the limits of its Marketo subscription.
    Sharing,
}

/// A subscription as it is registered for one instance.
struct Subscriber {
    interest: Interest,
    inbox: Weak<Inbox>,
}

/// The subscriptions to the changes of each instance.
#[derive(Default)]
pub(super) struct WakeRegistry {
    by_instance: Mutex<HashMap<String, Vec<Subscriber>>>,
}

impl WakeRegistry {
    /// Subscribes to the changes of an instance, and of those that share the limits of its Marketo subscription.
    pub fn subscribe(&self, name: &str, sharing: &[String]) -> WakeSubscription {
        let inbox = Arc::new(Inbox::default());
        let mut by_instance = self.by_instance.lock();
        let others = sharing.iter().filter(|&other| other != name).map(|other| (other.as_str(), Interest::Sharing));
        for (of, interest) in others.chain([(name, Interest::Own)]) {
            let subscriptions = by_instance.entry(of.to_owned()).or_default();
            subscriptions.retain(|subscriber| subscriber.inbox.strong_count() > 0);
            subscriptions.push(Subscriber { interest, inbox: Arc::downgrade(&inbox) });
        }
        WakeSubscription { inbox }
    }

    /// Delivers an event. An instance without a subscription is not in the configuration.
    pub fn deliver(&self, event: &WakeEvent) {
        let by_instance = self.by_instance.lock();
        for Subscriber { interest, inbox } in by_instance.get(&event.instance).into_iter().flatten() {
            if *interest == Interest::Sharing && event.change == InstanceChange::NewJob {
                continue;
            }
            if let Some(inbox) = inbox.upgrade() {
                inbox.wakes.lock().add(event.change);
                inbox.arrived.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::JobId;

    fn event(instance: &str, change: InstanceChange) -> WakeEvent {
        WakeEvent { instance: instance.into(), change }
    }

    fn batch(job: i64) -> InstanceChange {
        InstanceChange::Batch(BatchKey { job: JobId(job), part: 1 })
    }

    #[tokio::test]
    async fn a_subscription_gets_the_changes_of_its_instance() {
        let registry = WakeRegistry::default();
        let own = registry.subscribe("eu", &["eu".into()]);
        for change in [InstanceChange::NewJob, batch(1), batch(1), InstanceChange::Other] {
            registry.deliver(&event("eu", change));
            registry.deliver(&event("us", change));
        }
        let batches = vec![BatchKey { job: JobId(1), part: 1 }];
        assert_eq!(own.next().await, Wakes { has_new_job: true, batches, has_other_change: true });
        assert_eq!(own.take(), Wakes::default());
    }

    #[test]
    fn instances_that_share_limits_get_all_but_new_jobs() {
        let registry = WakeRegistry::default();
        let names = ["eu".to_owned(), "us".to_owned()];
        let (eu, us) = (registry.subscribe("eu", &names), registry.subscribe("us", &names));
        registry.deliver(&event("eu", InstanceChange::NewJob));
        assert_eq!((eu.take().has_new_job, us.take()), (true, Wakes::default()));
        registry.deliver(&event("eu", batch(7)));
        assert_eq!((eu.take().batches.len(), us.take().batches.len()), (1, 1));
    }

    #[test]
    fn more_batches_than_are_named_are_another_change() {
        let registry = WakeRegistry::default();
        let subscription = registry.subscribe("eu", &[]);
        for job in 0..=MAX_NAMED_BATCHES as i64 {
            registry.deliver(&event("eu", batch(job)));
        }
        let wakes = subscription.take();
        assert_eq!((wakes.batches.len(), wakes.has_other_change), (MAX_NAMED_BATCHES, true));
    }

    #[tokio::test]
    async fn a_change_before_the_wait_ends_it_at_once() {
        let registry = WakeRegistry::default();
        let subscription = registry.subscribe("eu", &[]);
        registry.deliver(&event("eu", batch(1)));
        assert_eq!(subscription.take().batches.len(), 1);
        registry.deliver(&event("eu", batch(2)));
        assert_eq!(subscription.next().await.batches.len(), 1);
    }
}
