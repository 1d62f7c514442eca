//! SQLite engine of the store: opens, writes, checks and copies the database file. Knows no job.

pub(super) mod backup;
mod checkpointer;
pub(super) mod connection;
pub(super) mod database_paths;
pub(super) mod disk_reserve;
pub(super) mod disk_state;
mod file_identity;
mod group_commit;
pub(super) mod health;
pub(super) mod joined_writes;
pub(super) mod lock;
pub(super) mod maintenance;
pub(super) mod schema;
pub(super) mod transaction;
mod write_request;
pub(super) mod writer;
pub(super) mod writer_task;
