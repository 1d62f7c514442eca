//! A job-queue daemon for Adobe Marketo's Bulk Import API.

pub mod job;
pub mod marketo;
pub mod table;
