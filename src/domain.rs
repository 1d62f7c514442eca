//! Domain: ids, targets, formats, events, and the state machines of batches, jobs and instances.
//!
//! Everything here is plain data: no clock, no database, no network.

pub mod batch;
pub mod batch_rules;
mod enum_text;
mod event;
mod failure_reason;
mod format;
mod ids;
mod import;
pub mod instance;
pub mod marketo_id;
pub mod packing;
mod report_kind;
pub mod row_counts;
pub mod shared_import;
mod source;
mod state_machine;
mod submission_channel;
mod target;

pub use enum_text::ParseEnumError;
pub use event::{DeferReason, Event, FailureScope};
pub use failure_reason::{ErrorCode, FailureReason};
pub use format::Format;
pub use ids::{BatchKey, JobId};
pub use import::{Counts, IMPORT_LIFETIME, RemoteStatus};
pub use report_kind::ReportKind;
pub use source::Source;
pub use state_machine::{BatchState, IllegalTransitionError, JobState, job_state, transition};
pub use submission_channel::SubmissionChannel;
pub use target::Target;
