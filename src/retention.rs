//! Retention: erases files, reports and records whose retention period is over, in small steps between other writes.
//!
//! Erased data cannot be restored, so a wrong clock must not erase anything early. Nothing is erased by age until the
//! clock has been steady for an hour, after a start and after it was set. A job whose end lies before this program
//! existed, or in the future, is left to an operator.
//!
//! The task also truncates the WAL, which may still contain erased data or an incomplete submission.

mod erase_report;
mod task;

pub use erase_report::{EraseReport, RetentionRun};
pub use task::{EraseMode, RetentionTask};
