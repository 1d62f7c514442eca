//! Explanation: what a job waits for, as text and with a time. A pure function of the snapshot that the plan uses.

mod explained_job;
mod explanation;
mod on_marketo;
mod pending;

pub use explained_job::ExplainedJob;
pub use explanation::{Explanation, WaitReason, Waiting};
