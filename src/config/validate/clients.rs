//! Validation of the clients of the TCP listener: ids, secrets, and the instances that they may use.

use std::collections::BTreeSet;

use crate::config::error::{KeyError, Warning};
use crate::config::listeners::ApiClient;
use crate::config::raw::RawClient;
use crate::config::secret_file::{client_id, client_secret};

/// Instance of a client that names none and has none of its own.
const DEFAULT_INSTANCE: &str = "default";

/// Validates the entries of `[[api.clients]]`. `configured` are the names of the configured instances.
pub(super) fn validate_clients(
    entries: Vec<RawClient>,
    configured: &BTreeSet<&str>,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<ApiClient>, KeyError> {
    let mut clients = Vec::new();
    let mut ids = BTreeSet::new();
    for (index, raw) in entries.into_iter().enumerate() {
        let entry = Entry { key: format!("api.clients[{index}]"), configured };
        let client_id = client_id(&entry.key, raw.client_id, raw.client_id_file, warnings)?;
        if !ids.insert(client_id.clone()) {
            let reason = "is the same as that of an earlier entry: each client needs its own";
            return Err(KeyError::new(format!("{}.client_id", entry.key), reason));
        }
        let client_secret = client_secret(&entry.key, raw.client_secret, raw.client_secret_file, warnings)?;
        let instances = entry.allowed_instances(raw.instances)?;
        let default = entry.default_instance(raw.instance, instances.as_deref())?;
        if let DefaultInstance::Assumed { allowed } = &default {
            let text = format!(
                "client {client_id} may use several instances ({allowed}), and {}.instance is not set: its requests \
                 whose address names no instance go to {DEFAULT_INSTANCE}",
                entry.key
            );
            let advice = "set it: many programs keep only the host of the address that they are given";
            warnings.push(Warning::new(text, advice));
        }
        let (instance, access) = (default.name(), raw.access);
        clients.push(ApiClient { client_id, client_secret, instances, instance, access });
    }
    Ok(clients)
}

/// An entry of the list.
struct Entry<'a> {
    key: String,
    configured: &'a BTreeSet<&'a str>,
}

/// The instance of a client's requests whose address names none.
enum DefaultInstance {
    /// The one that the entry names, or the only one that the client may use.
    Known(String),
    /// The instance `default`, although the client may use several, `allowed`.
    Assumed { allowed: String },
}

impl DefaultInstance {
    fn name(self) -> String {
        match self {
            DefaultInstance::Known(name) => name,
            DefaultInstance::Assumed { .. } => DEFAULT_INSTANCE.to_owned(),
        }
    }
}

impl Entry<'_> {
    /// Checks the instances that the client may use; none means all.
    fn allowed_instances(&self, named: Option<Vec<String>>) -> Result<Option<Vec<String>>, KeyError> {
        let Some(named) = named else { return Ok(None) };
        let key = || format!("{}.instances", self.key);
        if named.is_empty() {
            return Err(KeyError::new(key(), "must not be empty: remove the key to allow all instances"));
        }
        match named.iter().find(|name| !self.configured.contains(name.as_str())) {
            None => Ok(Some(named)),
            Some(unknown) => {
                let reason = format!(
                    "has \"{unknown}\", which is not a configured instance: those are {}",
                    list(self.configured)
                );
                Err(KeyError::new(key(), reason))
            }
        }
    }

    /// Returns the instance of requests whose address names none. Many programs keep only the host of an address.
    fn default_instance(&self, named: Option<String>, allowed: Option<&[String]>) -> Result<DefaultInstance, KeyError> {
        let may_use: BTreeSet<&str> = match allowed {
            Some(allowed) => allowed.iter().map(String::as_str).collect(),
            None => self.configured.clone(),
        };
        match (named, allowed.and(may_use.first())) {
            (Some(name), _) if may_use.contains(name.as_str()) => Ok(DefaultInstance::Known(name)),
            (Some(name), _) => Err(KeyError::new(
                format!("{}.instance", self.key),
                format!("is \"{name}\", which the client may not use: it may use {}", list(&may_use)),
            )),
            (None, Some(&only)) if may_use.len() == 1 => Ok(DefaultInstance::Known(only.to_owned())),
            (None, _) if may_use.len() > 1 => Ok(DefaultInstance::Assumed { allowed: list(&may_use) }),
            (None, _) => Ok(DefaultInstance::Known(DEFAULT_INSTANCE.to_owned())),
        }
    }
}

fn list(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}
