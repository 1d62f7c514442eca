//! Configuration reload: which part of a new configuration takes effect at once, and which needs a restart.

use crate::config;
use crate::config::{Config, Instance};

/// The result of a reload.
#[derive(Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The old configuration with the part of the new one that takes effect at once.
    pub config: Config,
    /// The keys whose change needs a restart.
    pub restart_keys: Vec<String>,
}

/// Merges the part of `new` that takes effect at once into `now`.
///
/// It consists of the log level and all keys of the instances, except the addresses of their Marketo: their imports are
/// there.
pub fn merge_reloadable(now: &Config, new: Config) -> Reloaded {
    // Destructured, so that a new field does not compile until it is handled here.
    let Config { store, retention, api, drop, notify, instances, log, warnings } = new;
    let mut restart_keys = Vec::new();
    let mut restart_unless = |same: bool, key: String| {
        if !same {
            restart_keys.push(key);
        }
    };
    for (key, same) in [
        ("store", now.store == store),
        ("retention", now.retention == retention),
        ("api", now.api == api),
        ("drop", now.drop == drop),
        ("notify", now.notify == notify),
        ("log.format", now.log.format == log.format),
    ] {
        restart_unless(same, key.to_owned());
    }
    let mut merged = Config { warnings, ..now.clone() };
    merged.log.level = log.level;
    for (name, current) in &mut merged.instances {
        let Some(instance) = instances.get(name) else {
            restart_unless(false, format!("instances.{name} (removed)"));
            continue;
        };
        restart_unless(current.base_url == instance.base_url, format!("instances.{name}.base_url"));
        restart_unless(current.identity_url == instance.identity_url, format!("instances.{name}.identity_url"));
        *current = Instance {
            base_url: current.base_url.clone(),
            identity_url: current.identity_url.clone(),
            ..instance.clone()
        };
    }
    for name in instances.keys() {
        restart_unless(now.instances.contains_key(name), format!("instances.{name}"));
    }
    // An instance whose new address needs a restart may share limits with others, so the limits are shared anew.
    config::share_limits(&mut merged.instances);
    Reloaded { config: merged, restart_keys }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Config {
        Config::read(Some((std::path::Path::new("m.toml"), text)), []).unwrap()
    }

    const BEFORE: &str = r#"
        [instances.default]
        base_url = "http://127.0.0.1:1"
        client_id = "a"
        client_secret = "s"
    "#;

    #[test]
    fn limits_polling_credentials_and_the_log_level_change_at_once() {
        let after = r#"
            [log]
            level = "debug"
            [instances.default]
            base_url = "http://127.0.0.1:1"
            client_id = "b"
            client_secret = "t"
            max_attempts = 3
            [instances.default.limits]
            importing = 1
            [instances.default.polling]
            min = "1s"
        "#;
        let expected = Reloaded { config: read(after), restart_keys: Vec::new() };
        assert_eq!(merge_reloadable(&read(BEFORE), read(after)), expected);
    }

    #[test]
    fn keys_that_need_a_restart_are_named_and_unchanged() {
        let after = r#"
            [store]
            path = "other.db"
            [retention]
            files = "1d"
            [api]
            socket = "other.sock"
            [drop]
            path = "/spool"
            [log]
            format = "json"
            [instances.default]
            base_url = "http://127.0.0.1:2"
            client_id = "b"
            client_secret = "s"
            [instances.second]
            base_url = "http://127.0.0.1:1"
            client_id = "a"
            client_secret = "s"
        "#;
        let Reloaded { config: merged, restart_keys } = merge_reloadable(&read(BEFORE), read(after));
        let keys = ["store", "retention", "api", "drop", "log.format", "instances.default.base_url"];
        let more = ["instances.default.identity_url", "instances.second"];
        assert_eq!(restart_keys, [&keys[..], &more[..]].concat());
        let mut expected = read(BEFORE);
        expected.instances.get_mut("default").unwrap().client_id = "b".into();
        assert_eq!(merged, expected);
    }

    #[test]
    fn a_removed_instance_continues_until_the_restart() {
        let two = format!(
            "{BEFORE}\n[instances.second]\nbase_url = \"http://127.0.0.1:2\"\nclient_id = \"x\"\nclient_secret = \"y\""
        );
        let Reloaded { config: merged, restart_keys } = merge_reloadable(&read(&two), read(BEFORE));
        assert_eq!((merged, restart_keys), (read(&two), vec!["instances.second (removed)".to_owned()]));
    }
}
