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
    pub store: Store,
    pub retention: Retention,
    pub api: Api,
    pub drop: DropFolder,
    /// By name; never empty.
    pub instances: BTreeMap<String, Instance>,
    pub notify: Notify,
    pub log: Log,
    /// What works and should not stay as it is, such as a secret that everyone can read. To be logged once.
    pub warnings: Vec<Warning>,
}

/// What works and should not stay as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What is so, in one sentence.
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

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// The one SQLite file.
    pub path: PathBuf,
    /// Bytes of its disk that are kept for the jobs that are there; 0 for none.
    pub reserve_bytes: u64,
}

/// How long what belongs to an ended job is kept, counted from its end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// The content of its file.
    #[serde(deserialize_with = "parse::duration")]
    pub files: Duration,
    /// The content of the file of a job that failed by its attempts, which waits for someone. Never shorter than
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// At most 107 bytes: what a Unix socket's address can hold.
    pub socket: PathBuf,
    /// Permission bits, at most `0o777`.
    pub socket_mode: u32,
    /// No TCP without it. Never set while `clients` is empty.
    pub listen: Option<SocketAddr>,
    /// TLS for the TCP listener; plain HTTP without it. Never set without `listen`.
    pub tls: Option<TlsFiles>,
    /// Bytes of one dropped file.
    pub max_file_bytes: u64,
    pub connections: Connections,
    /// Whether the Marketo-compatible API takes a token as query or form parameter too.
    pub legacy_tokens: bool,
    /// Who may use the TCP listener. No two have the same id.
    pub clients: Vec<ApiClient>,
}

/// What clients may take of the daemon, whichever way they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// At once, of all listeners together; at least 1. Its key is `max_connections`.
    pub max: u32,
    /// From a connection's first moment, or the last answer on it, to the end of the next request's head; at least 10
    /// ms.
    pub idle_timeout: Duration,
    /// How long a client may keep us waiting for the next bytes of its body, or until it reads its answer; at least 10
    /// ms.
    pub stall_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiClient {
    pub client_id: String,
    pub client_secret: Secret,
    /// The instances it may use, each of them configured; all without it.
    pub instances: Option<Vec<String>>,
    /// The one that it means where its address names none.
    pub instance: String,
}

/// PEM files, which are read when the daemon starts and when it is told to read them again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and its root.
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DropFolder {
    /// No drop folder without it.
    pub path: Option<PathBuf>,
    /// How long a file must be unchanged where no event tells that it is complete, or the daemon cannot see who has it
    /// open; from 10 ms to a day.
    #[serde(deserialize_with = "parse::duration")]
    pub settle: Duration,
}

/// One Marketo subscription, and how it is to be treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Where `/bulk/v1` begins; no `/` at the end.
    pub base_url: String,
    /// Where `/oauth/token` begins; no `/` at the end.
    pub identity_url: String,
    pub client_id: String,
    pub client_secret: Secret,
    pub unknown_outcome: UnknownOutcome,
    /// Uploads of one batch that use up an attempt; at least 1.
    pub max_attempts: u32,
    /// The first pause after a passing fault. More than zero, and at most `backoff_max`.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// Of one whole call, upload included; at least 1 s.
    pub request_timeout: Duration,
    /// How long Marketo may take for one import, its queue included, before the batch is held. More than zero.
    pub max_import_time: Duration,
    pub limits: Limits,
    pub polling: Polling,
}

impl Instance {
    /// Whether this is a simulator on this machine and not Marketo.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.base_url)
    }
}

/// Whether a URL's host is this machine.
pub fn is_loopback(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| parse::is_loopback(&url))
}

/// What to do with a batch whose upload left and whose answer did not come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownOutcome {
    /// Send it again: imports update what is there, so a second one does no harm to most data.
    #[default]
    Resubmit,
    /// Leave it to a person.
    Hold,
}

/// Our share of Marketo's limits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Imports worked on at once: 1 or 2.
    pub importing: u32,
    /// Imports in Marketo's queue, those worked on included: from `importing` to 10.
    pub queued: u32,
    /// Bytes of a whole multipart body.
    pub upload_bytes: u64,
    /// Calls in one `window`.
    pub calls: u32,
    #[serde(deserialize_with = "parse::duration")]
    pub window: Duration,
    pub concurrent_calls: u32,
    /// 0: no limit of our own.
    pub daily_calls: u64,
    /// When the day of Marketo's quota begins, in UTC.
    #[serde(deserialize_with = "parse::time_of_day")]
    pub daily_reset: civil::Time,
}

/// How often Marketo is asked for news; `min` is at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Polling {
    #[serde(deserialize_with = "parse::duration")]
    pub min: Duration,
    #[serde(deserialize_with = "parse::duration")]
    pub max: Duration,
}

/// Who hears that a job has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// Nobody without it.
    pub way: Option<NotificationChannel>,
    /// Of one attempt; at least 1 s.
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotificationChannel {
    Command {
        program: String,
        arguments: Vec<String>,
    },
    Url {
        url: String,
        /// Signs what is sent.
        secret: Option<Secret>,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Without it: text where standard error is a terminal, JSON elsewhere.
    pub format: Option<LogFormat>,
    pub level: LogLevel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// The least grave events that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
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
            // "12:00 AM CST", and whether that follows daylight saving is not said: the later of the two readings.
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
    /// Reads `file`, where there is one, and the process's environment over it. Relative paths are kept as they are:
    /// they count from the working directory.
    ///
    /// # Errors
    /// [`ConfigError`] at the first thing that is unreadable, unknown, of a wrong type, impossible or missing.
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

    /// Like [`Config::load`], from the text of a file and from variables that are handed in. Variables that don't begin
    /// with `MARQUEUE_` are passed over. Only the files that `client_secret_file` and `client_id_file` name are opened.
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
    fn what_is_not_said_is_as_the_contract_has_it() {
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
    fn the_environment_goes_over_the_file() {
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
