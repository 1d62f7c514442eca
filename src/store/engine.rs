//! SQLite engine of the store: opens, writes, checks and copies the database file. Knows nothing of jobs.

pub(super) mod backup;
pub(super) mod disk_reserve;
pub(super) mod file_identity;
pub(super) mod health;
pub(super) mod inspect;
pub(super) mod lock;
pub(super) mod maintenance;
pub(super) mod schema;
pub(super) mod writer;
