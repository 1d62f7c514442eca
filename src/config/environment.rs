//! What does the environment change? `MARQUEUE_` and a key, with `__` between its levels.
//!
//! A value stays text unless its key takes a number, so a secret of `00123` or `true` is what it says.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::ConfigError;

const PREFIX: &str = "MARQUEUE_";

/// The command line reads these; they are no keys.
const OF_THE_COMMAND_LINE: [&str; 2] = ["MARQUEUE_CONFIG", "MARQUEUE_SOCKET"];

/// The keys that take a whole number. A test sets every key of the sample through the environment, and so keeps this.
const WHOLE_NUMBERS: [&str; 8] = [
    "max_file_bytes",
    "max_attempts",
    "importing",
    "queued",
    "upload_bytes",
    "calls",
    "concurrent_calls",
    "daily_calls",
];

/// The one list. Its entries are addressed by number: `MARQUEUE_API__CLIENTS__0__CLIENT_ID`.
const LIST: [&str; 2] = ["api", "clients"];

/// Numbers above this are refused, because entries up to the number are made.
const LAST_ENTRY: usize = 999;

/// Keys that variables have set, and the variables.
type Set = BTreeMap<String, String>;

/// The process's own variables, as far as they concern us.
pub(super) fn of_the_process() -> Result<Vec<(String, String)>, ConfigError> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .map(|(variable, value)| match value.into_string() {
            Ok(value) => Ok((variable, value)),
            Err(_) => Err(ConfigError::Variable { variable, reason: "is not UTF-8" }),
        })
        .collect()
}

/// Puts the variables into `table`, over what the file says.
pub(super) fn lay_over(
    table: &mut Table,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Set, ConfigError> {
    let mut set = Set::new();
    // Sorted, so that the same environment always gives the same first error.
    for (variable, text) in environment.into_iter().collect::<BTreeMap<_, _>>() {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        if OF_THE_COMMAND_LINE.contains(&variable.as_str()) {
            continue;
        }
        let name = name.to_ascii_lowercase();
        let levels: Vec<&str> = name.split("__").collect();
        if levels.iter().any(|level| level.is_empty()) {
            return Err(ConfigError::Variable { variable, reason: "names no key: write __ between two levels" });
        }
        let key = written(&levels);
        let value = match levels.last() {
            Some(last) if WHOLE_NUMBERS.contains(last) => match text.parse() {
                Ok(number) => Value::Integer(number),
                Err(_) => {
                    let reason = format!("must be a whole number, not \"{text}\"");
                    return Err(ConfigError::InEnvironment { key, reason, variable });
                }
            },
            _ => Value::String(text),
        };
        if !put(table, &levels, value, &set) {
            return Err(ConfigError::InEnvironment { key, reason: "is not a key".to_owned(), variable });
        }
        set.insert(key, variable);
    }
    Ok(set)
}

/// The key as error texts have it: `api.clients[0].client_id`.
fn written(levels: &[&str]) -> String {
    match levels {
        [api, clients, entry, rest @ ..] if [*api, *clients] == LIST && entry.parse::<usize>().is_ok() => {
            [&[format!("{api}.{clients}[{entry}]").as_str()], rest].concat().join(".")
        }
        _ => levels.join("."),
    }
}

/// False where a level is below a plain value, or is no number of an entry.
fn put(table: &mut Table, levels: &[&str], value: Value, set: &Set) -> bool {
    let [parents @ .., last] = levels else { return false };
    if let [api, clients, entry, inner @ ..] = parents
        && [*api, *clients] == LIST
    {
        let Some(entry) = entry.parse::<usize>().ok().filter(|entry| *entry <= LAST_ENTRY) else { return false };
        let Some(api) = below(table, api) else { return false };
        let Value::Array(list) = api.entry(*clients).or_insert_with(|| Value::Array(Vec::new())) else { return false };
        if list.len() <= entry {
            list.resize_with(entry + 1, || Value::Table(Table::new()));
        }
        let Value::Table(client) = &mut list[entry] else { return false };
        return inner.is_empty() && put_here(client, parents, last, value, set);
    }
    let mut place = table;
    for level in parents {
        let Some(next) = below(place, level) else { return false };
        place = next;
    }
    put_here(place, parents, last, value, set)
}

fn below<'t>(table: &'t mut Table, level: &str) -> Option<&'t mut Table> {
    table.entry(level).or_insert_with(|| Value::Table(Table::new())).as_table_mut()
}

fn put_here(table: &mut Table, parents: &[&str], last: &str, value: Value, set: &Set) -> bool {
    // `client_secret` from the environment also goes over the file's `client_secret_file`, and the other way round.
    let other = last.strip_suffix("_file").map_or_else(|| format!("{last}_file"), str::to_owned);
    if !set.contains_key(&written(&[parents, &[other.as_str()]].concat())) {
        table.remove(&other);
    }
    table.insert(last.to_owned(), value);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid_over(file: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let mut table: Table = file.parse().unwrap();
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        lay_over(&mut table, environment).map_err(|error| error.to_string())?;
        Ok(Value::Table(table).to_string())
    }

    #[test]
    fn a_variable_goes_over_the_file_and_leaves_the_rest() {
        let file = "store.path = 'a'\nretention.files = '1d'";
        assert_eq!(
            laid_over(file, &[("MARQUEUE_STORE__PATH", "b"), ("PATH", "/bin")]).unwrap(),
            laid_over("store.path = 'b'\nretention.files = '1d'", &[]).unwrap()
        );
    }

    #[test]
    fn values_stay_text_unless_their_key_takes_a_number() {
        assert_eq!(
            laid_over(
                "",
                &[
                    ("MARQUEUE_INSTANCES__DEFAULT__CLIENT_SECRET", "00123"),
                    ("MARQUEUE_INSTANCES__DEFAULT__CLIENT_ID", "true"),
                    ("MARQUEUE_INSTANCES__DEFAULT__MAX_ATTEMPTS", "3"),
                ]
            )
            .unwrap(),
            laid_over("instances.default = {client_id = 'true', client_secret = '00123', max_attempts = 3}", &[])
                .unwrap()
        );
    }

    #[test]
    fn what_the_command_line_reads_is_no_key() {
        assert_eq!(laid_over("", &[("MARQUEUE_SOCKET", "/s"), ("MARQUEUE_CONFIG", "/c")]), laid_over("", &[]));
    }

    #[test]
    fn the_entries_of_the_list_are_addressed_by_number() {
        let file = "[[api.clients]]\nclient_id = 'crm'\nclient_secret_file = '/s'";
        assert_eq!(
            laid_over(
                file,
                &[
                    ("MARQUEUE_API__CLIENTS__0__CLIENT_SECRET", "x"),
                    ("MARQUEUE_API__CLIENTS__1__CLIENT_ID", "y"),
                    ("MARQUEUE_API__CLIENTS__1__CLIENT_SECRET", "z"),
                ]
            )
            .unwrap(),
            laid_over(
                "api.clients = [{client_id = 'crm', client_secret = 'x'}, {client_id = 'y', client_secret = 'z'}]",
                &[]
            )
            .unwrap()
        );
    }

    #[test]
    fn a_secret_given_goes_over_a_secret_file_unless_both_are_variables() {
        let file = "instances.default.client_secret_file = '/s'";
        assert_eq!(
            laid_over(file, &[("MARQUEUE_INSTANCES__DEFAULT__CLIENT_SECRET", "x")]),
            laid_over("instances.default.client_secret = 'x'", &[])
        );
        let both = [
            ("MARQUEUE_INSTANCES__DEFAULT__CLIENT_SECRET", "x"),
            ("MARQUEUE_INSTANCES__DEFAULT__CLIENT_SECRET_FILE", "/t"),
        ];
        assert_eq!(
            laid_over(file, &both),
            laid_over("instances.default = {client_secret = 'x', client_secret_file = '/t'}", &[])
        );
    }

    #[test]
    fn variables_that_can_be_no_key_are_named() {
        for (variable, value, message) in [
            ("MARQUEUE_", "x", "the environment variable MARQUEUE_ names no key: write __ between two levels"),
            (
                "MARQUEUE_STORE__",
                "x",
                "the environment variable MARQUEUE_STORE__ names no key: write __ between two levels",
            ),
            ("MARQUEUE_STORE__PATH__X", "x", "store.path.x is not a key (set by MARQUEUE_STORE__PATH__X)"),
            (
                "MARQUEUE_API__CLIENTS__CRM__CLIENT_ID",
                "x",
                "api.clients.crm.client_id is not a key (set by MARQUEUE_API__CLIENTS__CRM__CLIENT_ID)",
            ),
            (
                "MARQUEUE_API__CLIENTS__4000000000__CLIENT_ID",
                "x",
                "api.clients[4000000000].client_id is not a key (set by MARQUEUE_API__CLIENTS__4000000000__CLIENT_ID)",
            ),
            (
                "MARQUEUE_INSTANCES__EU__LIMITS__QUEUED",
                "ten",
                "instances.eu.limits.queued must be a whole number, not \"ten\" \
                 (set by MARQUEUE_INSTANCES__EU__LIMITS__QUEUED)",
            ),
        ] {
            assert_eq!(laid_over("store.path = 'a'", &[(variable, value)]).unwrap_err(), message);
        }
    }
}
