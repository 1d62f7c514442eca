//! Bodies of notifications (`[notify]` of the configuration): of a job's end, and of alerts. `event` tells which it is.

use jiff::Timestamp;
use serde::Serialize;

use crate::api::dto::job::JobDto;
use crate::api::dto::reasons::ReasonsDto;
use crate::api::dto::status::PauseDto;

/// The JSON body of the notification that a job has ended.
#[derive(Clone, Debug, Serialize)]
pub struct JobEndedNotification {
    /// Always [`JobEndedNotification::EVENT`].
    pub event: &'static str,
    /// The job as it ended.
    pub job: JobDto,
    /// The job failed after all its attempts, and its content is kept for a retry or until it is erased.
    pub content_waits: bool,
    /// Marketo's most frequent reasons of its failed rows and warnings, at most three of each.
    pub reasons: ReasonsDto,
}

impl JobEndedNotification {
    /// The kind of notification.
    pub const EVENT: &'static str = "job-ended";

    /// The most reasons of a kind.
    pub const MAX_REASONS: usize = 3;

    /// Makes the body for this job.
    pub fn new(job: impl Into<JobDto>, reasons: ReasonsDto) -> JobEndedNotification {
        let job = job.into();
        JobEndedNotification { event: JobEndedNotification::EVENT, content_waits: job.is_content_kept(), job, reasons }
    }
}

/// The JSON body of the alert that an instance was paused.
#[derive(Clone, Debug, Serialize)]
pub struct InstancePausedAlert {
    /// Always [`InstancePausedAlert::EVENT`].
    pub event: &'static str,
    /// Name of the instance.
    pub instance: String,
    /// The pause as it began. It may be over.
    pub pause: PauseDto,
}

impl InstancePausedAlert {
    /// The kind of notification.
    pub const EVENT: &'static str = "instance-paused";

    /// Makes the body for this pause of an instance.
    pub fn new(instance: String, pause: impl Into<PauseDto>) -> InstancePausedAlert {
        InstancePausedAlert { event: InstancePausedAlert::EVENT, instance, pause: pause.into() }
    }
}

/// The JSON body of the alert that a batch is held.
#[derive(Clone, Debug, Serialize)]
pub struct BatchHeldAlert {
    /// Always [`BatchHeldAlert::EVENT`].
    pub event: &'static str,
    /// The job as it is now.
    pub job: JobDto,
    /// The batch that became held.
    pub part: u32,
    /// Why it is held.
    pub reason: String,
    /// When it became held.
    pub at: Timestamp,
}

impl BatchHeldAlert {
    /// The kind of notification.
    pub const EVENT: &'static str = "batch-held";
}

/// The JSON body of the alert that the database's disk is full.
#[derive(Clone, Debug, Serialize)]
pub struct DiskFullAlert {
    /// Always [`DiskFullAlert::EVENT`].
    pub event: &'static str,
    /// Path of the database.
    pub database: String,
    /// When the disk was found full.
    pub at: Timestamp,
}

impl DiskFullAlert {
    /// The kind of notification.
    pub const EVENT: &'static str = "disk-full";

    /// Makes the body for the database at this path.
    pub fn new(database: String, at: Timestamp) -> DiskFullAlert {
        DiskFullAlert { event: DiskFullAlert::EVENT, database, at }
    }
}
