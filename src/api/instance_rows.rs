//! Rows of an instance at one moment, as far as the waiting and the estimates of its jobs depend on them.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use crate::domain::JobId;
use crate::scheduler::estimate::QueueForecast;
use crate::scheduler::explain::ExplainedJob;
use crate::scheduler::{InstanceScheduler, SchedulingRules};
use crate::store::{Job, QueueOutlook, Store, StoreError};

/// The rows of an instance at one moment.
pub(super) struct InstanceRows {
    pub(super) outlook: QueueOutlook,
    pub(super) rules: SchedulingRules,
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
        let group_heads = store.group_heads(scheduler.name(), groups).await?;
        let outlook = scheduler.outlook(&clock).await?;
        Ok(InstanceRows::new(scheduler, outlook, group_heads, clock.now()))
    }

    /// Reads the rows of an instance, for its whole queue.
    ///
    /// # Errors
    /// An error of reading the database.
    pub(super) async fn read_queue(scheduler: &InstanceScheduler) -> Result<InstanceRows, StoreError> {
        let clock = scheduler.observe().await?;
        let outlook = scheduler.outlook(&clock).await?;
        let heads = outlook.queued.iter().filter_map(|batch| batch.group.clone().zip(batch.group_head)).collect();
        Ok(InstanceRows::new(scheduler, outlook, heads, clock.now()))
    }

    fn new(
        scheduler: &InstanceScheduler,
        outlook: QueueOutlook,
        group_heads: HashMap<String, JobId>,
        now: Timestamp,
    ) -> InstanceRows {
        let rules = SchedulingRules::from_instance(&scheduler.config());
        let forecast = QueueForecast::of(&outlook, &rules, now);
        InstanceRows { outlook, rules, next_call_at: scheduler.next_call_at(now), now, group_heads, forecast }
    }

    /// Returns the jobs with pending batches in the order in which these will probably be uploaded. Jobs whose uploads
    /// are not foreseen come last, by priority and age.
    pub(super) fn upload_order(&self) -> Vec<JobId> {
        let mut batches: Vec<_> = self.outlook.queued.iter().map(|batch| batch.key).collect();
        batches.sort_by_key(|&key| {
            let upload = self.forecast.upload(key);
            (upload.is_none(), upload)
        });
        let mut listed = HashSet::new();
        batches.into_iter().map(|key| key.job).filter(|&job| listed.insert(job)).collect()
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
