//! Notifications: deliver the end of each job, and alerts of pauses, held batches and a full disk, to a command or a
//! URL of the configuration, at least once.
//!
//! A notification is written to an outbox table in the transaction that records its event, so a crash loses none. Only
//! that the disk is full is kept in memory. Deliveries are retried with exponential backoff for three days, and never
//! delay the queue.

mod attempt;
mod command;
mod delivery;
mod disk_alert;
mod message;
mod notifier;
pub mod supervisor;

pub use notifier::Notifier;
