//! A job-queue daemon for Adobe Marketo's Bulk Import API.

pub mod api;
pub mod backoff;
pub mod byte_order_mark;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod delimited;
pub mod disk;
pub mod domain;
pub mod drop_folder;
pub mod error_chain;
pub mod form;
pub mod http_server;
pub mod intake;
pub mod log_throttle;
pub mod marketo;
pub mod notification;
pub mod retention;
pub mod scheduler;
pub mod secret;
pub mod simulator;
pub mod store;
pub mod untrusted_text;
