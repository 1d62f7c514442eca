//! Environment variables: `MARQUEUE_` and a key, with `__` between its levels.
//!
//! `config` has a source for the environment, but that source can neither address the entries of a list nor report
//! which variable a value came from.

use std::collections::BTreeMap;

use crate::config::error::ConfigError;

const PREFIX: &str = "MARQUEUE_";

/// Variables of the command line, which are no keys.
const COMMAND_LINE_VARIABLES: [&str; 2] = ["MARQUEUE_CONFIG", "MARQUEUE_SOCKET"];

/// Highest index of a list's entry. A higher one is rejected, because all entries below it are created.
const LAST_ENTRY: usize = 999;

pub(super) struct Variable {
    pub(super) name: String,
    pub(super) text: String,
}

/// Variables by the keys that they set, in the form of error texts and `config`: `api.clients[0].client_id`.
pub(super) type Variables = BTreeMap<String, Variable>;

/// Returns the process's variables that begin with the prefix.
pub(super) fn process_variables() -> Result<Vec<(String, String)>, ConfigError> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .map(|(variable, value)| match value.into_string() {
            Ok(value) => Ok((variable, value)),
            Err(_) => Err(ConfigError::Variable { variable, reason: "is not UTF-8" }),
        })
        .collect()
}

/// Returns the variables that set a key.
pub(super) fn variables(environment: impl IntoIterator<Item = (String, String)>) -> Result<Variables, ConfigError> {
    environment
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && !COMMAND_LINE_VARIABLES.contains(&name.as_str()))
        .map(|(name, text)| match key(&name[PREFIX.len()..]) {
            Some(key) => Ok((key, Variable { name, text })),
            None => Err(ConfigError::no_key(&name)),
        })
        .collect()
}

/// Returns the key of a variable; none if a level is empty or no name of a key, or an entry's index is too high.
fn key(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let levels: Vec<&str> = name.split("__").collect();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if levels.iter().any(|level| level.is_empty() || !level.bytes().all(plain)) {
        return None;
    }
    // The lists, of which `api.clients` contains another one.
    let ([table @ "api", list @ "clients", entry, rest @ ..] | [table @ "notify", list @ "command", entry, rest @ ..]) =
        levels.as_slice()
    else {
        return Some(levels.join("."));
    };
    let Ok(entry) = entry.parse::<usize>() else { return Some(levels.join(".")) };
    let mut key = (entry <= LAST_ENTRY).then(|| format!("{table}.{list}[{entry}]"))?;
    match rest {
        ["instances", entry] if entry.parse::<usize>().is_ok_and(|entry| entry <= LAST_ENTRY) => {
            key += &format!(".instances[{entry}]");
        }
        rest => rest.iter().for_each(|level| key += &format!(".{level}")),
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_name_gives_the_key_of_error_texts() {
        for (name, expected) in [
            ("STORE__PATH", "store.path"),
            ("INSTANCES__EU-WEST_1__CLIENT_ID", "instances.eu-west_1.client_id"),
            ("INSTANCES__0__CLIENT_ID", "instances.0.client_id"),
            ("API__CLIENTS__0__CLIENT_ID", "api.clients[0].client_id"),
            ("API__CLIENTS__999", "api.clients[999]"),
            ("NOTIFY__COMMAND__1", "notify.command[1]"),
            ("API__CLIENTS__CRM", "api.clients.crm"),
            ("API__CLIENTS__0__INSTANCES__1", "api.clients[0].instances[1]"),
        ] {
            assert_eq!(key(name).as_deref(), Some(expected));
        }
    }

    #[test]
    fn variables_that_are_no_keys_are_ignored() {
        let names = ["MARQUEUE_SOCKET", "MARQUEUE_CONFIG", "PATH", "marqueue_store__path"];
        let found = variables(names.map(|name| (name.to_owned(), "x".to_owned()))).unwrap();
        assert!(found.is_empty());
    }

    #[test]
    fn variables_that_cannot_be_keys_are_reported() {
        for name in [
            "MARQUEUE_",
            "MARQUEUE_STORE__",
            "MARQUEUE___STORE",
            "MARQUEUE_STORE.PATH",
            "MARQUEUE_API__CLIENTS[0]__CLIENT_ID",
            "MARQUEUE_INSTANCES__Ü__CLIENT_ID",
            "MARQUEUE_API__CLIENTS__1000__CLIENT_ID",
            "MARQUEUE_API__CLIENTS__4000000000__CLIENT_ID",
        ] {
            let error = variables([(name.to_owned(), "x".to_owned())]).err().unwrap();
            let reason = "names no key: separate levels by __, and number the entries of a list from 0 to 999";
            assert_eq!(error.to_string(), format!("the environment variable {name} {reason}"));
        }
    }
}
