//! The sample configuration: it parses, shows the defaults, and has every key.

use std::path::Path;

use marqueue::config::{Config, LogFormat};
use toml::{Table, Value};

const SAMPLE: &str = include_str!("../../config/marqueue.toml");

/// The secrets whose files are not on this machine.
fn secrets() -> Vec<(String, String)> {
    ["MARQUEUE_API__CLIENTS__0__CLIENT_SECRET", "MARQUEUE_INSTANCES__DEFAULT__CLIENT_SECRET", "MARQUEUE_NOTIFY__SECRET"]
        .map(|name| (name.to_owned(), "s".to_owned()))
        .to_vec()
}

fn read(text: &str) -> Config {
    Config::read(Some((Path::new("config/marqueue.toml"), text)), secrets()).expect("the sample is good")
}

/// The sample with its comment marks taken from the keys. A comment that is prose has a space behind its mark.
fn all_said() -> String {
    let uncommented = |line: &'static str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|first: char| first.is_ascii_lowercase()) => key,
        _ => line,
    };
    SAMPLE.lines().map(uncommented).collect::<Vec<_>>().join("\n")
}

/// Every key that has a plain value, as its variable, and the value as text.
fn variables(above: &str, value: &Value, found: &mut Vec<(String, String)>) {
    let mut below = |name: &str, inner: &Value| {
        let separator = if above.ends_with('_') { "" } else { "__" };
        variables(&format!("{above}{separator}{}", name.to_ascii_uppercase()), inner, found);
    };
    match value {
        Value::Table(table) => table.iter().for_each(|(name, inner)| below(name, inner)),
        Value::Array(list) => list.iter().enumerate().for_each(|(entry, inner)| below(&entry.to_string(), inner)),
        Value::String(text) => found.push((above.to_owned(), text.clone())),
        other => found.push((above.to_owned(), other.to_string())),
    }
}

#[test]
fn the_sample_can_be_used_as_it_is() {
    let config = read(SAMPLE);
    assert_eq!(config.instances["default"].base_url, "https://123-abc-456.mktorest.com");
    assert_eq!(config.api.clients[0].client_id, "crm");
}

#[test]
fn the_values_behind_comment_marks_are_the_defaults() {
    let (output, mut unsaid) = (read(&all_said()), read(SAMPLE));
    assert_ne!(all_said(), SAMPLE);
    // This one's default is decided by where standard error goes.
    assert_eq!((unsaid.log.format, output.log.format), (None, Some(LogFormat::Json)));
    unsaid.log.format = output.log.format;
    assert_eq!(output, unsaid);
}

#[test]
fn every_key_of_the_sample_can_be_set_by_a_variable() {
    let table: Table = all_said().parse().unwrap();
    let mut found = Vec::new();
    variables("MARQUEUE_", &Value::Table(table), &mut found);
    assert!(found.len() > 25, "{found:?}");
    // A secret's file would go with the secret given for it.
    found.retain(|(name, _)| !name.ends_with("SECRET_FILE"));
    found.extend(secrets());
    assert_eq!(Config::read(None, found).unwrap(), read(&all_said()));
}

#[test]
fn the_sample_has_every_key_that_error_texts_list() {
    for (table, others) in [
        ("", vec![]),
        ("store.", vec![]),
        ("retention.", vec![]),
        ("api.", vec![]),
        ("drop.", vec![]),
        ("notify.", vec!["secret"]),
        ("log.", vec![]),
        ("instances.default.", vec!["client_id_file", "client_secret"]),
        ("instances.default.limits.", vec![]),
        ("instances.default.polling.", vec![]),
    ] {
        let error = Config::read(Some((Path::new("m.toml"), &format!("{table}x = 1"))), []).unwrap_err().to_string();
        let sample: Value = Value::Table(all_said().parse().unwrap());
        let keys = table.split_terminator('.').try_fold(&sample, |value, level| value.get(level)).unwrap();
        let known: Vec<&str> = error.split('`').skip(1).step_by(2).collect();
        assert!(!known.is_empty(), "{error}");
        for key in known {
            assert!(keys.get(key).is_some() || others.contains(&key), "{table}{key}");
        }
    }
}
