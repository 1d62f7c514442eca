//! A job-queue daemon for Adobe Marketo's Bulk Import API.

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod form;
pub mod intake;
pub mod job;
pub mod marketo;
pub mod notify;
pub mod retention;
pub mod schedule;
pub mod simulator;
pub mod store;
pub mod table;
pub mod untrusted_text;
