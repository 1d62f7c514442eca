//! Outcome: maps Marketo's response, or the error in its place, to the event that is recorded and to the effect on the
//! instance. Pure functions of the response, the batch's attempts and the policy.

mod instance;
mod query;
mod shared_upload;
mod upload;

#[cfg(test)]
mod tests;

pub use instance::{InstanceAction, instance_action, instance_backoff};
pub use query::{
    FailedQuery, PollRetry, PreviousPoll, believed_wait, is_worth_retrying, may_have_report, overdue_event, poll_event,
    query_failure_kind,
};
pub use shared_upload::FailedSharedUpload;
pub use upload::{FailedUpload, service_backoff_until};
