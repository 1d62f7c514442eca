//! Merging of the configuration file and the environment variables.
//!
//! The `config` crate reads the file and lays the variables over it. It accepts a value of any kind in place of
//! another, so the file and each variable are first checked against the keys separately.

use std::path::Path;

use config::builder::DefaultState;
use config::{ConfigBuilder, File, FileFormat, FileSourceString, Source, Value, ValueKind};

use crate::config::env::{Variable, Variables};
use crate::config::error::ConfigError;
use crate::config::error::KeyError;
use crate::config::raw;
use crate::config::raw::Raw;

type Builder = ConfigBuilder<DefaultState>;

/// Returns the file's keys with the variables over them.
pub(super) fn merge(file: Option<(&Path, &str)>, variables: &Variables) -> Result<Raw, ConfigError> {
    let path = file.map(|(path, _)| path);
    let mut builder = Builder::default();
    if let Some((path, text)) = file {
        from_file(path, text)?;
        builder = builder.add_source(source(text));
    }
    for (key, variable) in variables {
        let value = Value::new(Some(&variable.name), variable.text.as_str());
        let alone = set(Builder::default(), key, value.clone(), variable)?;
        raw::deserialize_raw(alone.build()?.collect()?).map_err(|problem| error_of_variable(variable, problem))?;
        builder = set(builder, key, value, variable)?;
        // `client_secret` from the environment also goes over the file's `client_secret_file`, and the other way round.
        if let Some(other) = other_of_pair(key).filter(|other| !variables.contains_key(other)) {
            builder = set(builder, &other, Value::new(None, ValueKind::Nil), variable)?;
        }
    }
    raw::deserialize_raw(builder.build()?.collect()?).map_err(|problem| with_location(problem, path, variables))
}

/// Returns the file's keys alone.
pub(super) fn from_file(path: &Path, text: &str) -> Result<Raw, ConfigError> {
    // `config` gives a syntax error's line only together with the line's text, which may hold a secret.
    let table = text.parse::<toml::Table>().map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        reason: error.message().replace('\n', ", "),
    })?;
    let in_file = |KeyError { key, reason }| ConfigError::InFile { key, reason, path: path.to_owned() };
    // `config` would convert it to text in another form.
    if let Some(key) = table.iter().find_map(|(key, value)| find_date(key.clone(), value)) {
        return Err(in_file(KeyError::new(key, "must not be a date or a time: write it as text in quotes")));
    }
    // This precedes the merge, where a key of `"store.path"` would be taken for two levels.
    raw::deserialize_raw(source(text).collect()?).map_err(in_file)
}

/// Adds the source of the key to the error: a variable of the key, or of one inside it, comes before the file.
pub(super) fn with_location(problem: KeyError, file: Option<&Path>, variables: &Variables) -> ConfigError {
    let inside =
        |inner: &str| inner.strip_prefix(&problem.key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    if let Some((_, variable)) = variables.iter().find(|(inner, _)| inside(inner)) {
        return error_of_variable(variable, problem);
    }
    let KeyError { key, reason } = problem;
    match file {
        Some(path) => ConfigError::InFile { key, reason, path: path.to_owned() },
        None => ConfigError::Nowhere { key, reason },
    }
}

fn error_of_variable(variable: &Variable, KeyError { key, reason }: KeyError) -> ConfigError {
    ConfigError::InEnvironment { key, reason, variable: variable.name.clone() }
}

fn source(text: &str) -> File<FileSourceString, FileFormat> {
    File::from_str(text, FileFormat::Toml)
}

fn set(builder: Builder, key: &str, value: Value, variable: &Variable) -> Result<Builder, ConfigError> {
    builder.set_override(key, value).map_err(|_| ConfigError::no_key(&variable.name))
}

fn other_of_pair(key: &str) -> Option<String> {
    let given = key.strip_suffix("_file").unwrap_or(key);
    let paired = given.ends_with(".client_id") || given.ends_with(".client_secret") || given == "notify.secret";
    paired.then(|| if given == key { format!("{key}_file") } else { given.to_owned() })
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

/// Returns the key of a date or a time in `value`, which is the value of `key`.
fn find_date(key: String, value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::Datetime(_) => Some(key),
        toml::Value::Table(table) => table.iter().find_map(|(inner, value)| find_date(format!("{key}.{inner}"), value)),
        toml::Value::Array(list) => {
            list.iter().enumerate().find_map(|(entry, value)| find_date(format!("{key}[{entry}]"), value))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::env;

    fn laid_over(file: &str, variables: &[(&str, &str)]) -> Result<Raw, String> {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        env::variables(environment)
            .and_then(|variables| merge(Some((Path::new("m.toml"), file)), &variables))
            .map_err(|error| error.to_string())
    }

    fn written(file: &str) -> Raw {
        laid_over(file, &[]).unwrap()
    }

    #[test]
    fn a_variable_overrides_only_its_key_of_the_file() {
        let file = "store.path = 'a'\nretention.files = '1d'";
        assert_eq!(
            laid_over(file, &[("MARQUEUE_STORE__PATH", "b"), ("PATH", "/bin")]).unwrap(),
            written("store.path = 'b'\nretention.files = '1d'")
        );
    }

    #[test]
    fn values_stay_text_unless_their_key_takes_a_number() {
        assert_eq!(
            laid_over(
                "",
                &[
                    ("MARQUEUE_API__SOCKET_MODE", "600"),
                    ("MARQUEUE_INSTANCES__DEFAULT__CLIENT_SECRET", "00123"),
                    ("MARQUEUE_INSTANCES__DEFAULT__CLIENT_ID", "true"),
                    ("MARQUEUE_INSTANCES__DEFAULT__MAX_ATTEMPTS", "3"),
                ]
            )
            .unwrap(),
            written(
                "api.socket_mode = '600'
                instances.default = {client_id = 'true', client_secret = '00123', max_attempts = 3}"
            )
        );
    }

    #[test]
    fn instance_names_match_between_file_and_variables() {
        for name in ["eu-west_1", "0", "client_id"] {
            let file = format!("instances.{name} = {{client_id = 'i', max_attempts = 3}}");
            let variable = format!("MARQUEUE_INSTANCES__{}__MAX_ATTEMPTS", name.to_ascii_uppercase());
            assert_eq!(
                laid_over(&file, &[(&variable, "4")]).unwrap(),
                written(&format!("instances.{name} = {{client_id = 'i', max_attempts = 4}}"))
            );
        }
    }

    #[test]
    fn list_entries_are_addressed_by_number() {
        let file = "[[api.clients]]\nclient_id = 'crm'\nclient_secret_file = '/s'";
        assert_eq!(
            laid_over(
                file,
                &[
                    ("MARQUEUE_API__CLIENTS__0__CLIENT_SECRET", "x"),
                    ("MARQUEUE_API__CLIENTS__2__CLIENT_ID", "y"),
                    ("MARQUEUE_API__CLIENTS__2__CLIENT_SECRET", "z"),
                ]
            )
            .unwrap(),
            written(
                "api.clients = [{client_id = 'crm', client_secret = 'x'}, {}, {client_id = 'y', client_secret = 'z'}]"
            )
        );
    }

    #[test]
    fn a_secret_overrides_a_secret_file_unless_both_are_variables() {
        const GIVEN: (&str, &str) = ("MARQUEUE_INSTANCES__DEFAULT__CLIENT_SECRET", "x");
        const IN_FILE: (&str, &str) = ("MARQUEUE_INSTANCES__DEFAULT__CLIENT_SECRET_FILE", "/t");
        for (file, variables, expected) in [
            ("client_secret_file = '/s'", &[GIVEN][..], "client_secret = 'x'"),
            ("client_secret = 's'", &[IN_FILE], "client_secret_file = '/t'"),
            ("client_secret_file = '/s'", &[GIVEN, IN_FILE], "client_secret = 'x'\nclient_secret_file = '/t'"),
        ] {
            assert_eq!(
                laid_over(&format!("[instances.default]\n{file}"), variables).unwrap(),
                written(&format!("[instances.default]\n{expected}"))
            );
        }
    }

    #[test]
    fn each_wrong_variable_is_named_in_its_message() {
        for (variable, value, message) in [
            ("MARQUEUE_STORE__PATH__X", "x", "store.path must be text, not a table"),
            ("MARQUEUE_STORE", "x", "store must be a table, not string"),
            (
                "MARQUEUE_STORE__CLIENT_SECRET_FILE",
                "x",
                "store.client_secret_file is not a known key: expected `path` or `reserve_bytes`",
            ),
            ("MARQUEUE_API__CLIENTS__CRM__CLIENT_ID", "x", "api.clients must be a list, not a table"),
            ("MARQUEUE_API__CLIENTS__0", "x", "api.clients[0] must be a table, not string"),
            (
                "MARQUEUE_INSTANCES__EU__LIMITS__QUEUED",
                "ten",
                "instances.eu.limits.queued must be a whole number, not \"ten\"",
            ),
            (
                "MARQUEUE_INSTANCES__EU__LIMITS__QUEUED",
                "-1",
                "instances.eu.limits.queued must be a whole number that is not negative, not integer `-1`",
            ),
        ] {
            let all = [(variable, value), ("MARQUEUE_STORE__PATH", "a"), ("MARQUEUE_API__CLIENTS__0__CLIENT_ID", "i")];
            let error = laid_over("store.path = 'a'\n[[api.clients]]", &all).unwrap_err();
            assert_eq!(error, format!("{message} (set by {variable})"));
        }
    }

    #[test]
    fn a_variable_does_not_hide_a_mistake_in_the_file() {
        for (file, variable, message) in [
            ("api = 5", "MARQUEUE_API__SOCKET", "api must be a table, not integer"),
            ("store.path = 5", "MARQUEUE_STORE__PATH", "store.path must be text, not integer `5`"),
            ("api.clients = {}", "MARQUEUE_API__CLIENTS__0__CLIENT_ID", "api.clients must be a list, not a table"),
        ] {
            assert_eq!(laid_over(file, &[(variable, "x")]).unwrap_err(), format!("{message} (in m.toml)"));
        }
    }

    #[test]
    fn a_key_in_quotes_is_one_level() {
        for file in ["\"store.path\" = 'a'", "\"api.clients[0].client_id\" = 'a'"] {
            let error = laid_over(file, &[]).unwrap_err();
            assert!(error.contains(" is not a known key: expected one of `store`,"), "{error}");
        }
        let error = laid_over("instances.\"a.client_secret\" = 's'", &[]).unwrap_err();
        assert_eq!(error, "instances.a.client_secret must be a table, not string (in m.toml)");
    }

    #[test]
    fn a_date_is_not_read_as_text() {
        for (file, key) in [
            ("store.path = 2026-01-31", "store.path"),
            ("instances.default.client_secret = 2026-01-31 12:00:00Z", "instances.default.client_secret"),
            ("api.clients = [{}, {client_id = 12:00:00}]", "api.clients[1].client_id"),
        ] {
            let reason = "must not be a date or a time: write it as text in quotes";
            assert_eq!(laid_over(file, &[]).unwrap_err(), format!("{key} {reason} (in m.toml)"));
        }
    }

    #[test]
    fn numbers_out_of_range_are_reported_by_their_line() {
        for number in ["99999999999999999999", "1e999"] {
            let error = laid_over(&format!("\n[api]\nmax_file_bytes = {number}"), &[]).unwrap_err();
            assert!(error.starts_with("m.toml:3: "), "{error}");
        }
    }
}
