//! Scheduler: plans the next steps of each instance and runs the workers that carry them out.
//!
//! A timer, a new job, a finished step and a restart all trigger the same plan over the same rows. A plan takes no
//! input from the trigger, so resuming after a crash is an ordinary plan. One [`InstanceScheduler`] runs for each
//! instance; instances share only the database and, where they have one base URL, a [`SharedEndpoint`].

mod api_call;
mod chunked_report;
mod end_forecast;
pub mod estimate;
pub mod explain;
mod fair_queue;
mod fetch_reports;
mod group_order;
mod import_check;
mod import_duration;
mod import_watch;
mod instance_scheduler;
pub mod outcome;
mod outlook;
mod plan;
mod poll;
mod poll_interval;
mod queue_simulation;
mod quota_day;
mod redaction;
mod report_fetch;
mod row_matching;
mod shared_endpoint;
mod shared_reports;
mod split;
mod step;
mod upload;
mod upload_content;
mod worker_context;

pub use import_check::ImportCheck;
pub use instance_scheduler::{InstanceScheduler, SchedulerError, SecretRenewal};
pub use plan::{Plan, SchedulingRules, max_packed_jobs, may_still_upload, plan};
pub use quota_day::{day_of, next_day};
pub use row_matching::{BatchMatch, first_line, matched_rows};
pub use shared_endpoint::SharedEndpoint;
pub use step::{Step, Work};
pub use worker_context::InstanceSetup;
