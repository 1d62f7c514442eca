//! Command line: the commands, the options that they share, and the dispatch to each command.
//!
//! [`main`] parses the arguments and runs one command, each of which has a file of its own. Standard output has the
//! requested data and nothing else; progress, hints and errors go to standard error.

mod batch_args;
mod command_line;
mod commands;
mod completion;
mod config_file;
mod confirmation;
mod demo;
mod doctor;
mod entry;
mod error_report;
mod event_line;
mod exit_status;
mod folder_files;
mod format;
mod global;
mod hashed_content;
mod input;
mod job_filters;
mod job_outcomes;
mod job_progress;
mod job_selection;
mod job_watch;
mod key_reader;
mod manual;
mod once_key;
mod output;
mod output_file;
mod queue_frame;
#[cfg(test)]
mod reference;
mod render;
mod report_check;
mod status_watch;
mod target_args;
mod terminal_text;
mod top_reasons;
mod transfer_bar;
mod usage_hint;

pub use command_line::{Cli, CliCommand, ClientCommand};
pub use entry::main;
pub use exit_status::{CliError, ExitStatus};
pub use global::GlobalArgs;
