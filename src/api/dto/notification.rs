//! Body of the notification that a job has ended (`[notify]` of the configuration).

use serde::Serialize;

use crate::api::dto::job::JobDto;

/// The JSON body of a notification.
#[derive(Clone, Debug, Serialize)]
pub struct JobEndedNotification {
    /// Always `job-ended`.
    pub event: &'static str,
    /// The job as it ended.
    pub job: JobDto,
    /// The job failed after all its attempts, and its content is kept for a retry or until it is erased.
    pub content_waits: bool,
}

impl JobEndedNotification {
    /// Makes the body for this job.
    pub fn new(job: impl Into<JobDto>) -> JobEndedNotification {
        let job = job.into();
        JobEndedNotification { event: "job-ended", content_waits: job.is_content_kept(), job }
    }
}
