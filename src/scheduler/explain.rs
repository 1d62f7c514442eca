//! Explanation: what a job waits for, as text and with a time. A pure function of the snapshot that the plan uses.

mod explanation;
mod on_marketo;
mod pending;
mod subject;

pub use explanation::{Explanation, WaitReason};
pub use subject::ExplainedJob;
