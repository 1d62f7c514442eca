//! Drop folder: files that are put into it become jobs.
//!
//! Each part of the drop folder (the folder of one instance, or everything outside of those) has its own task
//! ([`folder_task`]) with its own scans and events. So a part that hangs or cannot be read does not stop the others.
//!
//! The folder's content alone decides what is done; no scan depends on the memory of an earlier one. So a restart needs
//! no recovery code: it is another first scan. Events only make scans prompt and show when a writer has closed a file
//! ([`readiness`]). [`ingest`] describes how one file becomes exactly one job.

mod dir_walk;
mod file_stat;
mod folder_scan;
mod folder_task;
mod ingest;
mod ingest_queue;
mod job_options;
mod names;
mod open_writers;
mod path_target;
mod readiness;
mod rejected;
mod removal;
mod report;
mod setup;
mod temp_file;
mod watched_folder;
mod watcher;

pub use job_options::folders_with_invalid_options;
pub use names::reason_to_skip;
pub use rejected::rejected_files;
pub use report::{DropReport, PartState};
pub use watched_folder::{DropFolder, DropFolderError};
