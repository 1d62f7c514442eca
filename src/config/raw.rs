//! Configuration keys as they are written: their types and defaults, not yet validated.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use config::{Map, Value};
use serde::Deserialize;

use crate::config::error::KeyError;
use crate::config::instance::{Limits, Polling, UnknownOutcome};
use crate::config::listeners::ClientAccess;
use crate::config::parse;
use crate::config::sections::{DropFolder, Log, Retention, Store};
use crate::config::strict_de::StrictValue;
use crate::secret::Secret;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) store: Store,
    pub(super) retention: Retention,
    pub(super) api: RawApi,
    pub(super) drop: DropFolder,
    pub(super) instances: BTreeMap<String, RawInstance>,
    pub(super) notify: RawNotify,
    pub(super) log: Log,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawApi {
    pub(super) socket: PathBuf,
    pub(super) socket_mode: String,
    pub(super) listen: Option<String>,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    pub(super) plaintext_beyond_loopback: bool,
    pub(super) max_file_bytes: u64,
    pub(super) max_connections: u32,
    #[serde(deserialize_with = "parse::duration")]
    pub(super) idle_timeout: Duration,
    #[serde(deserialize_with = "parse::duration")]
    pub(super) stall_timeout: Duration,
    pub(super) legacy_tokens: bool,
    pub(super) ui: bool,
    pub(super) ui_prefix: String,
    pub(super) hosts: Vec<String>,
    pub(super) clients: Vec<RawClient>,
}

impl Default for RawApi {
    fn default() -> Self {
        RawApi {
            socket: "/run/marqueue/marqueue.sock".into(),
            socket_mode: "0660".to_owned(),
            listen: None,
            tls_cert: None,
            tls_key: None,
            plaintext_beyond_loopback: false,
            max_file_bytes: 1 << 30,
            max_connections: 500,
            idle_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(120),
            legacy_tokens: true,
            ui: true,
            ui_prefix: String::new(),
            hosts: Vec::new(),
            clients: Vec::new(),
        }
    }
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawClient {
    pub(super) client_id: Option<Secret>,
    pub(super) client_id_file: Option<PathBuf>,
    pub(super) client_secret: Option<Secret>,
    pub(super) client_secret_file: Option<PathBuf>,
    pub(super) instances: Option<Vec<String>>,
    pub(super) instance: Option<String>,
    pub(super) access: ClientAccess,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawInstance {
    pub(super) base_url: Option<String>,
    pub(super) identity_url: Option<String>,
    pub(super) client_id: Option<Secret>,
    pub(super) client_id_file: Option<PathBuf>,
    pub(super) client_secret: Option<Secret>,
    pub(super) client_secret_file: Option<PathBuf>,
    pub(super) unknown_outcome: UnknownOutcome,
    pub(super) max_attempts: u32,
    #[serde(deserialize_with = "parse::duration")]
    pub(super) backoff_min: Duration,
    #[serde(deserialize_with = "parse::duration")]
    pub(super) backoff_max: Duration,
    #[serde(deserialize_with = "parse::duration")]
    pub(super) request_timeout: Duration,
    #[serde(deserialize_with = "parse::duration")]
    pub(super) max_import_time: Duration,
    pub(super) pack: bool,
    pub(super) canary: u64,
    pub(super) max_failed_percent: u32,
    pub(super) limits: Limits,
    pub(super) polling: Polling,
}

impl Default for RawInstance {
    fn default() -> Self {
        RawInstance {
            base_url: None,
            identity_url: None,
            client_id: None,
            client_id_file: None,
            client_secret: None,
            client_secret_file: None,
            unknown_outcome: UnknownOutcome::default(),
            max_attempts: 8,
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(5 * 60),
            request_timeout: Duration::from_secs(120),
            max_import_time: Duration::from_secs(3 * 24 * 3600),
            pack: false,
            canary: 0,
            max_failed_percent: 100,
            limits: Limits::default(),
            polling: Polling::default(),
        }
    }
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawNotify {
    pub(super) command: Vec<String>,
    pub(super) url: Option<Secret>,
    pub(super) secret: Option<Secret>,
    pub(super) secret_file: Option<PathBuf>,
    #[serde(deserialize_with = "parse::duration")]
    pub(super) timeout: Duration,
}

impl Default for RawNotify {
    fn default() -> Self {
        let timeout = Duration::from_secs(30);
        RawNotify { command: Vec::new(), url: None, secret: None, secret_file: None, timeout }
    }
}

impl Raw {
    /// Returns whether a secret is given inline rather than by a file.
    pub(super) fn has_inline_secret(&self) -> bool {
        let mut instances = self.instances.values().map(|instance| &instance.client_secret);
        instances.any(Option::is_some)
            || self.notify.secret.is_some()
            || self.api.clients.iter().any(|client| client.client_secret.is_some())
    }
}

/// Deserializes a table to typed keys.
pub(super) fn deserialize_raw(table: Map<String, Value>) -> Result<Raw, KeyError> {
    serde_path_to_error::deserialize(StrictValue(table.into()))
        .map_err(|error| KeyError::new(error.path().to_string(), reword_serde_message(&error.inner().to_string())))
}

/// Rewords a message of serde as the end of a sentence that begins with the key.
fn reword_serde_message(message: &str) -> String {
    let two = |start: &str| message.strip_prefix(start)?.split_once(", expected ");
    if let Some((_, choices)) = two("unknown field ") {
        return format!("is not a known key: expected {choices}");
    }
    if let Some((found, choices)) = two("unknown variant ") {
        return format!("must be {choices}, not {found}");
    }
    if let Some((found, expected)) = two("invalid type: ").or_else(|| two("invalid value: ")) {
        let expected = match expected {
            "u32" | "u64" => "a whole number that is not negative",
            "a boolean" => "true or false",
            "a string" | "path string" | "string" => "text",
            "a sequence" => "a list",
            "a map" => "a table",
            other if other.starts_with("struct ") => "a table",
            other => other,
        };
        let found = match found {
            "sequence" => "a list",
            "map" => "a table",
            // A level may have been left out, and the value be a secret: only its kind is shown.
            other if matches!(expected, "a table" | "a list") => {
                other.split(['"', '`']).next().unwrap_or(other).trim_end()
            }
            other => other,
        };
        return format!("must be {expected}, not {found}");
    }
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::merge;

    #[test]
    fn a_secret_in_the_file_itself_is_noticed() {
        let noticed = |text| merge::from_file(Path::new("m.toml"), text).unwrap().has_inline_secret();
        assert!(noticed("instances.default.client_secret = 's'"));
        assert!(noticed("notify.secret = 's'"));
        assert!(noticed("api.clients = [{client_secret = 'x'}]"));
        assert!(!noticed("instances.default.client_secret_file = '/s'"));
    }
}
