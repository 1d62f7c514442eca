//! Rows of an instance at one moment, as far as the waiting and the estimates of its jobs depend on them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::domain::JobId;
use crate::scheduler::estimate::QueueForecast;
use crate::scheduler::explain::ExplainedJob;
use crate::scheduler::{InstanceScheduler, SchedulingRules};
use crate::store::{Job, QueueOutlook, Store, StoreError};

/// The rows of an instance at one moment.
#[derive(Clone)]
pub(super) struct InstanceRows {
    outlook: Arc<QueueOutlook>,
    rules: SchedulingRules,
    next_call_at: Option<Timestamp>,
    now: Timestamp,
    /// The oldest unended job of each group that is asked for.
    group_heads: HashMap<String, JobId>,
    pub(super) forecast: Arc<QueueForecast>,
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
        let forecast = Arc::new(QueueForecast::of(&outlook, &rules, now));
        let outlook = Arc::new(outlook);
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

/// Rows are used again for this many times as long as it took to read them, so that reading takes at most a fifth of the time.
const REUSE: u32 = 4;

/// The rows of each instance as they were read for the last job that was accepted or changed.
#[derive(Default)]
pub struct RecentRows(Mutex<HashMap<String, RecentRead>>);

struct RecentRead {
    rows: InstanceRows,
    read_at: Instant,
    took: Duration,
}

impl RecentRows {
    /// Returns the rows of the job's instance, of a moment ago or now.
    ///
    /// # Errors
    /// An error of reading the database.
    pub(super) async fn read(
        &self,
        store: &Store,
        scheduler: &InstanceScheduler,
        job: &Job,
    ) -> Result<InstanceRows, StoreError> {
        let name = scheduler.name();
        let groups = Vec::from_iter(job.group.clone());
        if let Some(mut rows) = self.find(name)
            // A pause that was just made must be seen.
            && store.instance(name).await? == rows.outlook.snapshot.instance
        {
            rows.group_heads = store.group_heads(name, groups).await?;
            return Ok(rows);
        }
        let read_at = Instant::now();
        let rows = InstanceRows::read(store, scheduler, groups).await?;
        let read = RecentRead { rows: rows.clone(), read_at, took: read_at.elapsed() };
        self.0.lock().insert(name.to_owned(), read);
        Ok(rows)
    }

    fn find(&self, name: &str) -> Option<InstanceRows> {
        let recent = self.0.lock();
        let read = recent.get(name).filter(|read| read.read_at.elapsed() <= read.took * (REUSE + 1))?;
        Some(read.rows.clone())
    }
}
