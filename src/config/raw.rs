//! What may stand in the file? Its keys as they are written, with their types and defaults and nothing checked further.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Table;

use super::problem::Problem;
use super::{DropFolder, Limits, Log, Polling, Retention, Secret, Store, UnknownOutcome, values};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) store: Store,
    pub(super) retention: Retention,
    pub(super) api: RawApi,
    pub(super) drop: DropFolder,
    pub(super) instances: BTreeMap<String, RawInstance>,
    pub(super) log: Log,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawApi {
    pub(super) socket: PathBuf,
    pub(super) socket_mode: String,
    pub(super) listen: Option<String>,
    pub(super) max_file_bytes: u64,
    pub(super) clients: Vec<RawClient>,
}

impl Default for RawApi {
    fn default() -> Self {
        RawApi {
            socket: "/run/marqueue/marqueue.sock".into(),
            socket_mode: "0660".to_owned(),
            listen: None,
            max_file_bytes: 1 << 30,
            clients: Vec::new(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawClient {
    pub(super) client_id: Option<Secret>,
    pub(super) client_id_file: Option<PathBuf>,
    pub(super) client_secret: Option<Secret>,
    pub(super) client_secret_file: Option<PathBuf>,
}

#[derive(Deserialize)]
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
    #[serde(deserialize_with = "values::duration")]
    pub(super) backoff_min: Duration,
    #[serde(deserialize_with = "values::duration")]
    pub(super) backoff_max: Duration,
    #[serde(deserialize_with = "values::duration")]
    pub(super) request_timeout: Duration,
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
            limits: Limits::default(),
            polling: Polling::default(),
        }
    }
}

/// The table as typed keys.
pub(super) fn typed(table: Table) -> Result<Raw, Problem> {
    serde_path_to_error::deserialize(table)
        .map_err(|error| Problem::new(error.path().to_string(), reworded(error.inner().message())))
}

/// The file's text itself holds a secret, rather than the name of a file that does.
pub(super) fn holds_a_secret(text: &str) -> bool {
    let table: Table = text.parse().unwrap_or_default();
    let instances =
        table.get("instances").and_then(|instances| instances.as_table()).into_iter().flat_map(Table::values);
    let clients = table.get("api").and_then(|api| api.get("clients")?.as_array()).into_iter().flatten();
    instances.chain(clients).any(|entry| entry.get("client_secret").is_some())
}

/// serde's words as the end of a sentence that begins with the key.
fn reworded(message: &str) -> String {
    let two = |start: &str| message.strip_prefix(start)?.split_once(", expected ");
    if let Some((_, choices)) = two("unknown field ") {
        return format!("is not a key: here belongs {choices}");
    }
    if let Some((found, choices)) = two("unknown variant ") {
        return format!("must be {choices}, not {found}");
    }
    if let Some((found, expected)) = two("invalid type: ").or_else(|| two("invalid value: ")) {
        let expected = match expected {
            "u32" | "u64" => "a whole number that is not negative",
            "a string" | "path string" | "string" => "text",
            "a sequence" => "a list",
            "a map" => "a table",
            other if other.starts_with("struct ") => "a table",
            other => other,
        };
        return format!("must be {expected}, not {found}");
    }
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_the_file_itself_is_noticed() {
        assert!(holds_a_secret("instances.default.client_secret = 's'"));
        assert!(holds_a_secret("api.clients = [{client_secret = 'x'}]"));
        assert!(!holds_a_secret("instances.default.client_secret_file = '/s'"));
    }
}
