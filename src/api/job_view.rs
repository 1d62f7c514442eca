//! Job view: jobs as the API shows them, with what each waits for and its estimates.

use std::collections::HashMap;

use crate::api::dto::{JobDto, WaitingDto};
use crate::api::instance_rows::InstanceRows;
use crate::api::state::AppState;
use crate::domain::JobId;
use crate::scheduler::explain::{WaitReason, Waiting};
use crate::store::Job;

/// Returns a job with what it waits for.
pub(super) async fn job_view(daemon: &AppState, job: Job) -> JobDto {
    InstanceView::of_unended(daemon, std::slice::from_ref(&job)).await.show(job)
}

/// Returns jobs with what each waits for. The rows of each instance are read once, however many of its jobs there are.
pub(super) async fn job_views(daemon: &AppState, jobs: Vec<Job>) -> Vec<JobDto> {
    let mut instances: HashMap<String, Vec<Job>> = HashMap::new();
    let order: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    for job in jobs {
        instances.entry(job.instance.clone()).or_default().push(job);
    }
    let mut shown = HashMap::with_capacity(order.len());
    for jobs in instances.into_values() {
        let instance = InstanceView::of_unended(daemon, &jobs).await;
        shown.extend(jobs.into_iter().map(|job| (job.id, instance.show(job))));
    }
    order.into_iter().filter_map(|id| shown.remove(&id)).collect()
}

/// What the waiting of an instance's jobs depends on.
pub(super) enum InstanceView {
    /// All of its jobs have ended.
    Ended,
    /// Its rows can't be read for a plan now, so nothing is known. The scheduler logs why.
    Unread,
    /// The configuration no longer has the instance, so its jobs wait.
    Unconfigured,
    /// Its rows at one moment.
    Read(Box<InstanceRows>),
}

impl InstanceView {
    /// Reads the rows of the instance of `jobs`, all of one instance, if one of them has not ended.
    async fn of_unended(daemon: &AppState, jobs: &[Job]) -> InstanceView {
        let unended: Vec<&Job> = jobs.iter().filter(|job| !job.state.is_terminal()).collect();
        let Some(first) = unended.first() else { return InstanceView::Ended };
        let Some(scheduler) = daemon.scheduler(&first.instance) else { return InstanceView::Unconfigured };
        let groups: Vec<String> = unended.iter().filter_map(|job| job.group.clone()).collect();
        match InstanceRows::read(&daemon.store, scheduler, groups).await {
            Ok(rows) => InstanceView::Read(Box::new(rows)),
            Err(_) => InstanceView::Unread,
        }
    }

    fn show(&self, job: Job) -> JobDto {
        let (waiting, estimate) = match self {
            InstanceView::Read(rows) => (rows.explained(&job).waiting(), rows.forecast.estimate(&job)),
            InstanceView::Unconfigured if !job.state.is_terminal() => {
                let text = "its instance is no longer in the configuration".to_owned();
                (Some(Waiting { waits_for: WaitReason::Operator, text, until: None }), Default::default())
            }
            InstanceView::Unconfigured | InstanceView::Unread | InstanceView::Ended => Default::default(),
        };
        JobDto {
            waiting: waiting.map(WaitingDto::from),
            estimated_start: estimate.start,
            estimated_end: estimate.end,
            ..job.into()
        }
    }
}
