//! Outlook of an instance: reads what the waiting and the estimates of its jobs are derived from, and places a job in
//! its queue.

use std::cmp::Reverse;

use crate::domain::JobId;
use crate::scheduler::instance_scheduler::InstanceScheduler;
use crate::store::{Job, ObservedClock, QueueOutlook, StoreError};

impl InstanceScheduler {
    /// Returns what the waiting and the estimates of the instance's jobs are derived from. Unlike a snapshot, it costs
    /// no more in a long queue.
    ///
    /// # Errors
    /// A database error.
    pub async fn outlook(&self, clock: &ObservedClock) -> Result<QueueOutlook, StoreError> {
        self.context.outlook(clock).await
    }
}

/// The pending jobs before another one, by priority and age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobsAhead {
    Exactly(usize),
    /// The outlook has only the first batches of the queue, and the job comes behind them.
    MoreThan(usize),
}

/// Returns how many pending jobs come before `job`.
pub(super) fn jobs_ahead(outlook: &QueueOutlook, job: &Job) -> JobsAhead {
    let place = |priority: i64, id: JobId| (Reverse(priority), id);
    let own = place(job.priority, job.id);
    // The parts of a job stand together.
    let mut ahead: Vec<JobId> = outlook
        .queued
        .iter()
        .filter(|batch| place(batch.priority, batch.key.job) < own)
        .map(|batch| batch.key.job)
        .collect();
    ahead.dedup();
    let is_behind_all = outlook.queued.last().is_none_or(|last| place(last.priority, last.key.job) < own);
    if outlook.has_more && is_behind_all { JobsAhead::MoreThan(ahead.len()) } else { JobsAhead::Exactly(ahead.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::domain::batch_rules::BatchRules;
    use crate::domain::row_counts::RowCounts;
    use crate::domain::{BatchKey, Format, JobState, Target};
    use crate::store::QueuedBatch;

    fn queued(job: i64, part: u32, priority: i64) -> QueuedBatch {
        let key = BatchKey { job: JobId(job), part };
        QueuedBatch {
            key,
            priority,
            group: None,
            group_head: None,
            list_id: None,
            batch_rules: BatchRules::default(),
            bytes: 100,
            pack_shape: None,
            rows: 1,
            not_before: None,
        }
    }

    fn job(id: i64, priority: i64) -> Job {
        Job {
            id: JobId(id),
            state: JobState::Pending,
            target: Target::Leads { lookup_field: None, list_id: None, partition: None },
            instance: "default".into(),
            filename: "leads.csv".into(),
            format: Format::Csv,
            priority,
            group: None,
            bytes: 10,
            rows: RowCounts::uncounted(1),
            batches: Vec::new(),
            retry_of: None,
            source: None,
            not_before: None,
            batch_rules: BatchRules::default(),
            packing: None,
            created_at: from_ms(0),
            started_at: None,
            finished_at: None,
            content_erased_at: None,
            reports_erased_at: None,
            error: None,
            header: (0, 6),
        }
    }

    #[test]
    fn jobs_ahead_are_counted_by_priority_and_age() {
        let queued = vec![queued(9, 1, 5), queued(2, 1, 0), queued(2, 2, 0), queued(4, 1, 0)];
        let mut outlook = QueueOutlook { queued, ..QueueOutlook::default() };
        for (id, priority, ahead) in [(9, 5, 0), (10, 9, 0), (2, 0, 1), (3, 0, 2), (4, 0, 2), (5, 0, 3), (1, -1, 3)] {
            assert_eq!(jobs_ahead(&outlook, &job(id, priority)), JobsAhead::Exactly(ahead), "{id}");
        }
        outlook.has_more = true;
        assert_eq!(jobs_ahead(&outlook, &job(4, 0)), JobsAhead::Exactly(2));
        assert_eq!(jobs_ahead(&outlook, &job(5, 0)), JobsAhead::MoreThan(3));
        assert_eq!(jobs_ahead(&QueueOutlook::default(), &job(5, 0)), JobsAhead::Exactly(0));
    }
}
