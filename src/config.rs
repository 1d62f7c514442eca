//! Configuration: reads a TOML file and the environment over it, and validates every value.
//!
//! Everything is validated before anything is opened, so a mistake stops the start with one sentence instead of causing
//! a failure hours later. The `config` crate reads the file and lays the environment over it. That crate is lenient, so
//! two modules check what it lets pass: [`merge`] checks the keys of each source before one can replace the other, and
//! [`strict_de`] keeps a value's type, where the crate's own deserializer accepts `socket_mode = 660` and `max_attempts
//! = true`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::civil;
use serde::Deserialize;

mod env;
pub(crate) mod error;
mod merge;
mod parse;
mod raw;
mod secret_file;
mod shared;
mod strict_de;
mod validate;

pub use crate::secret::Secret;
pub use error::ConfigError;
pub use shared::{share_limits, sharing};

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
    /// Problems that do not prevent the start, such as a secret that everyone can read. To be logged once.
    pub warnings: Vec<Warning>,
}

/// A problem that does not prevent the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The problem, in one sentence.
    pub text: String,
    /// What to do about it.
    pub advice: &'static str,
}

impl Warning {
    pub(crate) fn new(text: String, advice: &'static str) -> Warning {
        Warning { text, advice }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
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

/// The listeners and their clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Path of the Unix socket. At most 107 bytes, the size of its address.
    pub socket: PathBuf,
    /// Permission bits, at most `0o777`.
    pub socket_mode: u32,
    /// Address of the TCP listener; none without it. Never set while `clients` is empty.
    pub listen: Option<SocketAddr>,
    /// TLS for the TCP listener; plain HTTP without it. Never set without `listen`.
    pub tls: Option<TlsFiles>,
    /// Maximum size of one submitted file, in bytes.
    pub max_file_bytes: u64,
    /// Limits of connections.
    pub connections: Connections,
    /// Whether the Marketo-compatible API takes a token as query or form parameter too.
    pub legacy_tokens: bool,
    /// Who may use the TCP listener. No two have the same id.
    pub clients: Vec<ApiClient>,
}

/// Limits of client connections, over all listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Maximum of open connections, of all listeners together; at least 1. Its key is `max_connections`.
    pub max: u32,
    /// Maximum time from the opening of a connection, or its last response, to the end of the next request's head; at
    /// least 10 ms.
    pub idle_timeout: Duration,
    /// Maximum time to wait for the next bytes of a request body, or for a client to read its response; at least 10 ms.
    pub stall_timeout: Duration,
}

/// A client of the TCP listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiClient {
    /// Its name.
    pub client_id: String,
    /// Its password.
    pub client_secret: Secret,
    /// The instances that it may use, each of them configured; all without it.
    pub instances: Option<Vec<String>>,
    /// The instance of a request whose address names none.
    pub instance: String,
}

/// PEM files, which are read at the start and at each reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate with its chain, without the root.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
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

/// One Marketo subscription, with its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// URL before `/bulk/v1`; no `/` at the end.
    pub base_url: String,
    /// URL before `/oauth/token`; no `/` at the end.
    pub identity_url: String,
    /// Client id of the API user.
    pub client_id: String,
    /// Client secret of the API user.
    pub client_secret: Secret,
    /// What to do after an upload without a response.
    pub unknown_outcome: UnknownOutcome,
    /// Maximum of attempts to upload one batch; at least 1.
    pub max_attempts: u32,
    /// First delay after a transient error. More than zero, and at most `backoff_max`.
    pub backoff_min: Duration,
    /// Longest delay after transient errors.
    pub backoff_max: Duration,
    /// Timeout of one whole call, upload included; at least 1 s.
    pub request_timeout: Duration,
    /// How long Marketo may take for one import, its queue included, before the batch is held. More than zero.
    pub max_import_time: Duration,
    /// Our share of Marketo's limits.
    pub limits: Limits,
    /// Interval of status calls.
    pub polling: Polling,
}

impl Instance {
    /// Returns whether this is a simulator on this machine and not Marketo.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.base_url)
    }
}

/// Returns whether a URL's host is this machine.
pub fn is_loopback(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| parse::is_loopback(&url))
}

/// What to do with a batch whose upload was sent but whose response did not arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownOutcome {
    /// Send it again: imports update existing records, so a second one does no harm to most data.
    #[default]
    Resubmit,
    /// Leave the decision to an operator.
    Hold,
}

/// Our share of Marketo's limits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Maximum of imports that Marketo processes at once: 1 or 2.
    pub importing: u32,
    /// Maximum of imports in Marketo's queue, those being processed included: from `importing` to 10.
    pub queued: u32,
    /// Maximum size of a whole multipart body, in bytes.
    pub upload_bytes: u64,
    /// Maximum of calls in one `window`.
    pub calls: u32,
    /// Length of the sliding window of calls.
    #[serde(deserialize_with = "parse::duration")]
    pub window: Duration,
    /// Maximum of calls at once.
    pub concurrent_calls: u32,
    /// Maximum of calls in one quota day; 0 for no limit of our own.
    pub daily_calls: u64,
    /// Start of Marketo's quota day, in UTC.
    #[serde(deserialize_with = "parse::time_of_day")]
    pub daily_reset: civil::Time,
}

/// Interval of status calls to Marketo; `min` is at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Polling {
    /// Shortest interval.
    #[serde(deserialize_with = "parse::duration")]
    pub min: Duration,
    /// Longest interval.
    #[serde(deserialize_with = "parse::duration")]
    pub max: Duration,
}

/// Notification of ended jobs.
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

impl Default for Limits {
    fn default() -> Self {
        Limits {
            importing: 2,
            queued: 10,
            upload_bytes: 10_000_000,
            calls: 50,
            window: Duration::from_secs(20),
            concurrent_calls: 5,
            daily_calls: 0,
            // "12:00 AM CST", and Adobe does not document whether that follows daylight saving: this is the later of
            // both.
            daily_reset: civil::time(6, 0, 0, 0),
        }
    }
}

impl Default for Polling {
    fn default() -> Self {
        Polling { min: Duration::from_secs(5), max: Duration::from_secs(30) }
    }
}

impl Config {
    /// Reads `file`, if given, and the process's environment over it. Relative paths are kept: they are relative to the
    /// working directory.
    ///
    /// # Errors
    /// [`ConfigError`] for the first key or file that is unreadable, unknown, of a wrong type, out of range or missing.
    pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
        let environment = env::process_variables()?;
        let Some(path) = file else { return Config::read(None, environment) };
        let unreadable = |cause| ConfigError::Unreadable { path: path.to_owned(), cause };
        let text = fs::read_to_string(path).map_err(unreadable)?;
        let mut config = Config::read(Some((path, &text)), environment)?;
        if merge::from_file(path, &text)?.has_inline_secret() && secret_file::is_world_readable(path) {
            let text = format!("{} holds a client_secret and can be read by everyone", path.display());
            config.warnings.push(Warning::new(text, secret_file::SECRET_FILE_ADVICE));
        }
        Ok(config)
    }

    /// Like [`Config::load`], from the text of a file and from given variables. Variables without the prefix
    /// `MARQUEUE_` are ignored. Only the files that `client_secret_file` and `client_id_file` name are opened.
    ///
    /// # Errors
    /// As of [`Config::load`].
    pub fn read(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let variables = env::variables(environment)?;
        let raw = merge::merge(file, &variables)?;
        validate::validate(raw).map_err(|problem| merge::with_location(problem, file.map(|(path, _)| path), &variables))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    const LEAST: [(&str, &str); 3] = [
        ("MARQUEUE_INSTANCES__DEFAULT__BASE_URL", "https://123-ABC-456.mktorest.com"),
        ("MARQUEUE_INSTANCES__DEFAULT__CLIENT_ID", "id"),
        ("MARQUEUE_INSTANCES__DEFAULT__CLIENT_SECRET", "00123"),
    ];

    #[test]
    fn default_values_are_those_of_the_contract() {
        let config = Config::read(None, variables(&LEAST)).unwrap();
        let instance = Instance {
            base_url: "https://123-abc-456.mktorest.com".into(),
            identity_url: "https://123-abc-456.mktorest.com/identity".into(),
            client_id: "id".into(),
            client_secret: Secret::new("00123"),
            unknown_outcome: UnknownOutcome::Resubmit,
            max_attempts: 8,
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            request_timeout: Duration::from_secs(120),
            max_import_time: Duration::from_secs(3 * 24 * 3600),
            limits: Limits {
                importing: 2,
                queued: 10,
                upload_bytes: 10_000_000,
                calls: 50,
                window: Duration::from_secs(20),
                concurrent_calls: 5,
                daily_calls: 0,
                daily_reset: civil::time(6, 0, 0, 0),
            },
            polling: Polling { min: Duration::from_secs(5), max: Duration::from_secs(30) },
        };
        let expected = Config {
            store: Store { path: "marqueue.db".into(), reserve_bytes: 67_108_864 },
            retention: Retention {
                files: Duration::from_secs(604_800),
                failed_files: Duration::from_secs(7_776_000),
                reports: Duration::from_secs(2_592_000),
                jobs: Duration::from_secs(31_536_000),
            },
            api: Api {
                socket: "/run/marqueue/marqueue.sock".into(),
                socket_mode: 0o660,
                listen: None,
                tls: None,
                max_file_bytes: 1_073_741_824,
                connections: Connections {
                    max: 500,
                    idle_timeout: Duration::from_secs(60),
                    stall_timeout: Duration::from_secs(120),
                },
                legacy_tokens: true,
                clients: Vec::new(),
            },
            drop: DropFolder::default(),
            instances: BTreeMap::from([("default".to_owned(), instance)]),
            notify: Notify { way: None, timeout: Duration::from_secs(30) },
            log: Log { format: None, level: LogLevel::Info },
            warnings: Vec::new(),
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let text = "[store]\npath = 'file.db'\n[log]\nlevel = 'warn'";
        let mut environment = variables(&LEAST);
        environment.extend(variables(&[("MARQUEUE_STORE__PATH", "variable.db"), ("MARQUEUE_LOG__FORMAT", "json")]));
        let config = Config::read(Some((Path::new("m.toml"), text)), environment).unwrap();
        assert_eq!(config.store.path, Path::new("variable.db"));
        assert_eq!(config.log, Log { format: Some(LogFormat::Json), level: LogLevel::Warn });
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Config::load(Some(Path::new("/nonexistent/m.toml"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the configuration /nonexistent/m.toml can't be read: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_file_with_a_secret_that_everyone_can_read_gives_a_warning() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.toml");
        let text = "[instances.default]\nbase_url = 'https://a.example'\nclient_id = 'i'\nclient_secret = 's'";
        fs::write(&path, text).unwrap();
        for (mode, expected) in [(0o600, 0), (0o644, 1)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Config::load(Some(&path)).unwrap().warnings.len(), expected, "{mode:o}");
        }
    }
}
