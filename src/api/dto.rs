//! Types of the API's request and response bodies.
//!
//! They are separate from the records of [`crate::store`], so that a change of the schema is not a change of the API.
//! Where a record of the same name exists, the type's name ends in `Dto`. Daemon and command line share them, so that
//! what the one writes is what the other reads.

mod event;
mod explanation;
mod file_check;
mod health;
mod history;
mod instance_queue;
mod job;
mod notification;
mod problem;
mod reasons;
mod report_row;
mod retention;
mod retried_job;
mod stats;
mod status;

#[cfg(test)]
mod tests;

pub use crate::delimited::Warning;
pub use event::{EventData, MAX_FOLLOWED};
pub use explanation::{ExplanationDto, WaitingDto};
pub use file_check::{FileCheck, FileCheckLayout, FileCheckPart};
pub use health::{ComponentHealth, NotReady, Readiness};
pub use history::{History, HistoryEntryDto};
pub use instance_queue::{InstanceQueue, PendingJobDto, QueuedJobDto, SlotDto, SlotImportDto, SlotState};
pub use job::{BatchDto, JobDto, JobsPage, SubmittedJob};
pub use notification::{BatchHeldAlert, DiskFullAlert, InstancePausedAlert, JobEndedNotification};
pub use problem::{COMMAND_LINE_AGENT, Problem};
pub use reasons::{ReasonDto, ReasonsDto};
pub use report_row::{ReportRowDto, ReportRowValues};
pub use retention::{EraseReportDto, RetentionCandidatesDto, RetentionRunDto};
pub use retried_job::{ReportPlace, RetriedJob};
pub use stats::{JobStats, RowStats, Stats};
pub use status::{DropStatus, IgnoredFile, InstanceStatus, Limits, PauseDto, Queue, Slots, Status};
