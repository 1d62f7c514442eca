//! Sections of the configuration: the root with its sections, except those of the listeners and the instances.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::config::error::Warning;
use crate::config::instance::Instance;
use crate::config::listeners::Api;
use crate::config::parse;
use crate::secret::Secret;

/// The whole configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The database.
    pub store: Store,
    /// How long data of ended jobs is kept.
    pub retention: Retention,
    /// The listeners and their clients.
    pub api: Api,
    /// The drop folder.
    pub drop: DropFolder,
    /// By name; never empty.
    pub instances: BTreeMap<String, Instance>,
    /// How ended jobs are reported.
    pub notify: Notify,
    /// The log lines.
    pub log: Log,
    /// Problems that do not prevent the start, such as a secret that every user of the machine can read. To be logged
    /// once.
    pub warnings: Vec<Warning>,
}

/// The database.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// The SQLite file.
    pub path: PathBuf,
    /// Bytes of disk space that are reserved for accepted jobs; 0 for none.
    pub reserve_bytes: u64,
}

/// How long the data of an ended job is kept, counted from its end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// The content of its file.
    #[serde(deserialize_with = "parse::duration")]
    pub files: Duration,
    /// The content of the file of a job that used up its attempts, which waits for an operator. Never shorter than
    /// `files`.
    #[serde(deserialize_with = "parse::duration")]
    pub failed_files: Duration,
    /// Its failure and warning files.
    #[serde(deserialize_with = "parse::duration")]
    pub reports: Duration,
    /// The record itself.
    #[serde(deserialize_with = "parse::duration")]
    pub jobs: Duration,
}

/// The drop folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DropFolder {
    /// Path of the folder; no drop folder without it.
    pub path: Option<PathBuf>,
    /// How long a file must be unchanged if no event shows that it is complete, or if the daemon cannot detect who has
    /// it open; from 10 ms to a day.
    #[serde(deserialize_with = "parse::duration")]
    pub settle: Duration,
}

/// Notification of ended jobs, pauses, held batches and a full disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// No notification without it.
    pub way: Option<NotificationChannel>,
    /// Timeout of one attempt; at least 1 s.
    pub timeout: Duration,
}

/// How a notification is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotificationChannel {
    /// Runs a program.
    Command {
        /// The program's name or path.
        program: String,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// Sends an HTTP request.
    Url {
        /// The URL, which may hold a token.
        url: String,
        /// Signs the payload.
        secret: Option<Secret>,
    },
}

/// The log lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The format. Without it: text where standard error is a terminal, JSON elsewhere.
    pub format: Option<LogFormat>,
    /// The least severe level to write.
    pub level: LogLevel,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of text for each event.
    Text,
    /// One JSON object for each event.
    Json,
}

/// Level of log events, from the most severe to the least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// An operator must act.
    Error,
    /// The service is degraded.
    Warn,
    /// Changes of state.
    #[default]
    Info,
    /// Each call.
    Debug,
    /// Details of each call.
    Trace,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Store {
    fn default() -> Self {
        Store { path: "marqueue.db".into(), reserve_bytes: 64 << 20 }
    }
}

impl Default for DropFolder {
    fn default() -> Self {
        DropFolder { path: None, settle: Duration::from_secs(5) }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Retention { files: 7 * DAY, failed_files: 90 * DAY, reports: 30 * DAY, jobs: 365 * DAY }
    }
}
