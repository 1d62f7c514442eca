//! Loading: reads the configuration file and the environment, merges and validates them.

use std::fs;
use std::path::Path;

use crate::config::error::{ConfigError, Warning};
use crate::config::sections::Config;
use crate::config::{env, merge, secret_file, validate};

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
            let text = format!("{} has a client_secret, and every user of this machine can read it", path.display());
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
    use std::collections::BTreeMap;
    use std::time::Duration;

    use jiff::civil;

    use super::*;
    use crate::config::instance::{Instance, Limits, Polling, UnknownOutcome};
    use crate::config::listeners::{Api, Connections, Page};
    use crate::config::sections::{DropFolder, Log, LogFormat, LogLevel, Notify, Retention, Store};
    use crate::secret::Secret;

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
            client_secret_file: None,
            unknown_outcome: UnknownOutcome::Resubmit,
            max_attempts: 8,
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            request_timeout: Duration::from_secs(120),
            max_import_time: Duration::from_secs(3 * 24 * 3600),
            pack: false,
            canary: 0,
            max_failed_percent: 100,
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
                page: Page { is_served: true, prefix: String::new(), hosts: Vec::new() },
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
    fn packing_is_set_by_file_or_variable() {
        let pack = |text: &str, more: &[(&str, &str)]| {
            let mut environment = variables(&LEAST);
            environment.extend(variables(more));
            Config::read(Some((Path::new("m.toml"), text)), environment).unwrap().instances["default"].pack
        };
        let on = ("MARQUEUE_INSTANCES__DEFAULT__PACK", "true");
        assert!(!pack("", &[]));
        assert!(pack("[instances.default]\npack = true", &[]));
        assert!(pack("", &[on]));
        assert!(!pack("[instances.default]\npack = true", &[(on.0, "false")]));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Config::load(Some(Path::new("/nonexistent/m.toml"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the configuration /nonexistent/m.toml cannot be read: No such file or directory (os error 2)"
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
