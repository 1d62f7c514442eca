//! Notifications: deliver the end of each job to a command or a URL of the configuration, at least once.
//!
//! The notification is written to an outbox table in the transaction that ends the job, so a crash loses none.
//! Deliveries are retried with exponential backoff for three days, and never delay the queue.

mod command;
mod delivery;
mod notifier;
pub mod supervisor;

pub use notifier::Notifier;
