//! Shared limits: instances that lead to one Marketo have one set of limits, since Marketo counts for all of them
//! together.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::error::Warning;
use crate::config::instance::{Instance, Limits};

const ADVICE: &str = "name each Marketo once; use groups and clients to distinguish jobs";

/// Returns the instances with the base URL of `name`, itself included, in the order of their names.
pub fn sharing(instances: &BTreeMap<String, Instance>, name: &str) -> Vec<String> {
    let Some(own) = instances.get(name).map(|instance| url_key(&instance.base_url)) else { return Vec::new() };
    let same = instances.iter().filter(|(_, other)| url_key(&other.base_url) == own);
    same.map(|(name, _)| name.clone()).collect()
}

/// Gives instances with the same base URL the strictest limits of them all, and returns warnings that name them.
/// Instances with the same credentials and other base URLs only get a warning, because nothing shows whether they lead
/// to one Marketo.
pub fn share_limits(instances: &mut BTreeMap<String, Instance>) -> Vec<Warning> {
    let names: Vec<String> = instances.keys().cloned().collect();
    let mut warnings = Vec::new();
    for name in &names {
        let group = sharing(instances, name);
        // Each group once, at its first name.
        if group.len() < 2 || group[0] != *name {
            continue;
        }
        let limits = group.iter().map(|name| instances[name].limits.clone()).reduce(strictest);
        for name in &group {
            if let (Some(instance), Some(limits)) = (instances.get_mut(name), &limits) {
                instance.limits = limits.clone();
            }
        }
        let text = format!(
            "instances {} have the same base_url, so they share one set of limits, the strictest of them",
            group.join(", ")
        );
        warnings.push(Warning::new(text, ADVICE));
    }
    let mut by_credentials: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (name, instance) in &*instances {
        let credentials = (instance.client_id.as_str(), instance.client_secret.expose());
        by_credentials.entry(credentials).or_default().push(name);
    }
    for names in by_credentials.into_values() {
        let urls: BTreeSet<String> = names.iter().map(|name| url_key(&instances[*name].base_url)).collect();
        if urls.len() > 1 {
            let text = format!(
                "instances {} have the same credentials and different base_urls: if they lead to one Marketo, its limits \
                 are exceeded",
                names.join(", ")
            );
            warnings.push(Warning::new(text, ADVICE));
        }
    }
    warnings
}

/// Returns the key for comparing base URLs. They are normalised already, except for a dot at the end of the host.
fn url_key(base_url: &str) -> String {
    let mut url = match url::Url::parse(base_url) {
        Ok(url) => url,
        Err(_) => return base_url.to_owned(),
    };
    if let Some(host) = url.host_str().and_then(|host| host.strip_suffix('.')).map(str::to_owned) {
        // A host that can't be set without its dot is a different host.
        let _ = url.set_host(Some(&host));
    }
    url.as_str().trim_end_matches('/').to_owned()
}

/// Returns limits that keep both: the fewer calls in the longer window, and the smaller of every other limit.
fn strictest(one: Limits, other: Limits) -> Limits {
    Limits {
        importing: one.importing.min(other.importing),
        queued: one.queued.min(other.queued),
        upload_bytes: one.upload_bytes.min(other.upload_bytes),
        calls: one.calls.min(other.calls),
        window: one.window.max(other.window),
        concurrent_calls: one.concurrent_calls.min(other.concurrent_calls),
        daily_calls: match (one.daily_calls, other.daily_calls) {
            (0, daily) | (daily, 0) => daily,
            (one, other) => one.min(other),
        },
        daily_reset: one.daily_reset.max(other.daily_reset),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    fn read(text: &str) -> Config {
        Config::read(Some((Path::new("m.toml"), text)), []).unwrap()
    }

    fn instance(name: &str, base_url: &str, id: &str, limits: &str) -> String {
        format!(
            "[instances.{name}]\nbase_url = '{base_url}'\nclient_id = '{id}'\nclient_secret = 's'\n\
             [instances.{name}.limits]\n{limits}\n"
        )
    }

    fn warnings_of(config: &Config) -> Vec<String> {
        config.warnings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn instances_of_one_base_url_share_the_strictest_limits() {
        let config = read(
            &[
                instance("a", "https://x.mktorest.com/rest/", "i", "calls = 40\nqueued = 4\ndaily_calls = 900"),
                instance("b", "https://X.mktorest.com.:443", "j", "calls = 10\nwindow = '60s'\nimporting = 1"),
                instance("c", "https://y.mktorest.com", "k", "concurrent_calls = 2"),
            ]
            .concat(),
        );
        let [a, b, c] = ["a", "b", "c"].map(|name| &config.instances[name].limits);
        assert_eq!(a, b);
        assert_eq!((a.importing, a.queued, a.calls, a.window.as_secs(), a.daily_calls), (1, 4, 10, 60, 900));
        assert_eq!((a.concurrent_calls, c.concurrent_calls, c.queued), (5, 2, 10));
        assert_eq!(
            warnings_of(&config),
            ["instances a, b have the same base_url, so they share one set of limits, the strictest of them"]
        );
    }

    #[test]
    fn same_credentials_at_another_url_give_a_warning() {
        let [a, b] = ["x", "y"].map(|host| instance(host, &format!("https://{host}.example"), "i", "queued = 3"));
        let config = read(&format!("{a}{}", b.replace("queued = 3", "queued = 5")));
        assert_eq!(["x", "y"].map(|name| config.instances[name].limits.queued), [3, 5]);
        assert_eq!(
            warnings_of(&config),
            [
                "instances x, y have the same credentials and different base_urls: if they lead to one Marketo, its limits \
              are exceeded"
            ]
        );
    }
}
