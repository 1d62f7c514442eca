//! Rows of an instance at one moment, as far as the waiting and the estimates of its jobs depend on them.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::domain::JobId;
use crate::scheduler::estimate::QueueForecast;
use crate::scheduler::explain::ExplainedJob;
use crate::scheduler::{InstanceScheduler, SchedulingRules};
use crate::store::{Job, QueueOutlook, Store, StoreError};

/// The rows of an instance at one moment.
pub(super) struct InstanceRows {
    outlook: QueueOutlook,
    rules: SchedulingRules,
    next_call_at: Option<Timestamp>,
    now: Timestamp,
    /// The oldest unended job of each group that is asked for.
    group_heads: HashMap<String, JobId>,
    pub(super) forecast: QueueForecast,
}

impl InstanceRows {
    /// Reads the rows of an instance, and the oldest unended job of each of `groups`.
    ///
    /// # Errors
    /// An error of reading the database.
    pub(super) async fn read(
        store: &Store,
        scheduler: &InstanceScheduler,
        groups: Vec<String>,
    ) -> Result<InstanceRows, StoreError> {
        let clock = scheduler.observe().await?;
        let now = clock.now();
        let group_heads = store.group_heads(scheduler.name(), groups).await?;
        let outlook = scheduler.outlook(&clock).await?;
        let rules = SchedulingRules::from_instance(&scheduler.config());
        let forecast = QueueForecast::of(&outlook, &rules, now);
        Ok(InstanceRows { outlook, rules, next_call_at: scheduler.next_call_at(now), now, group_heads, forecast })
    }

    /// Returns a job of the instance with what its explanation depends on.
    pub(super) fn explained<'a>(&'a self, job: &'a Job) -> ExplainedJob<'a> {
        let head = job.group.as_ref().and_then(|group| self.group_heads.get(group));
        ExplainedJob {
            job,
            ahead: head.copied().filter(|&head| head < job.id),
            outlook: &self.outlook,
            rules: &self.rules,
            next_call_at: self.next_call_at,
            now: self.now,
        }
    }
}
