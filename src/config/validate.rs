//! Validation: turns the keys as written into a checked [`Config`].

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::error::KeyError;
use crate::config::raw::{Raw, RawApi, RawInstance, RawNotify};
use crate::config::secret_file;
use crate::config::{
    Api, ApiClient, Config, Connections, Instance, Limits, NotificationChannel, Notify, Polling, TlsFiles, Warning,
    parse, shared,
};
use crate::secret::Secret;

/// The longest path that fits into a Unix socket's address on Linux, its closing zero left out.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Instance of a client that names none and has none of its own.
const DEFAULT_INSTANCE: &str = "default";

/// Minimum of timeouts. With less no client could complete a request.
const MIN_TIMEOUT: Duration = Duration::from_millis(10);

/// Maximum of `drop.settle`. No program writes to a share more slowly.
const MAX_SETTLE: Duration = Duration::from_secs(24 * 60 * 60);

/// Marketo's limit on calls, for all integrations of an instance.
const MARKETO_CALLS: u128 = 100;
const MARKETO_WINDOW: Duration = Duration::from_secs(20);

/// Validates all keys, and returns the configuration with its warnings.
pub(super) fn validate(raw: Raw) -> Result<Config, KeyError> {
    let mut warnings = Vec::new();
    not_empty("store.path", &raw.store.path)?;
    within("store.reserve_bytes", raw.store.reserve_bytes, 0..=1 << 40)?;
    more_than_zero("retention.files", raw.retention.files)?;
    more_than_zero("retention.failed_files", raw.retention.failed_files)?;
    more_than_zero("retention.reports", raw.retention.reports)?;
    more_than_zero("retention.jobs", raw.retention.jobs)?;
    if let Some(path) = &raw.drop.path {
        not_empty("drop.path", path)?;
    }
    if !(MIN_TIMEOUT..=MAX_SETTLE).contains(&raw.drop.settle) {
        return Err(KeyError::new("drop.settle", "must be from \"10ms\" to \"1d\""));
    }
    let names = raw.instances.keys().map(String::as_str).collect();
    let api = api(raw.api, &names, &mut warnings)?;
    if raw.instances.is_empty() {
        let reason = "is empty: write at least [instances.default] with base_url, client_id and client_secret_file";
        return Err(KeyError::new("instances", reason));
    }
    let mut instances = raw
        .instances
        .into_iter()
        .map(|(name, raw)| Ok((name.clone(), instance(&name, raw, &mut warnings)?)))
        .collect::<Result<_, KeyError>>()?;
    warnings.extend(shared::share_limits(&mut instances));
    let notify = notify(raw.notify, &mut warnings)?;
    Ok(Config {
        notify,
        store: raw.store,
        retention: raw.retention,
        api,
        drop: raw.drop,
        instances,
        log: raw.log,
        warnings,
    })
}

fn api(raw: RawApi, instances: &BTreeSet<&str>, warnings: &mut Vec<Warning>) -> Result<Api, KeyError> {
    not_empty("api.socket", &raw.socket)?;
    let length = raw.socket.as_os_str().len();
    if length > MAX_SOCKET_PATH_BYTES {
        let reason =
            format!("is {length} bytes long, and the path of a Unix socket has at most {MAX_SOCKET_PATH_BYTES}");
        return Err(KeyError::new("api.socket", reason));
    }
    let socket_mode = parse::parse_mode(&raw.socket_mode).map_err(|reason| KeyError::new("api.socket_mode", reason))?;
    let listen: Option<Result<SocketAddr, KeyError>> = raw.listen.map(|text| {
        let reason = || format!("must be an address and a port, such as \"127.0.0.1:8437\", not \"{text}\"");
        text.parse().map_err(|_| KeyError::new("api.listen", reason()))
    });
    let listen = listen.transpose()?;
    if listen.is_some() && raw.clients.is_empty() {
        return Err(KeyError::new("api.listen", "needs an entry in [[api.clients]]: who may use it?"));
    }
    let tls = tls(raw.tls_cert, raw.tls_key, listen)?;
    if let Some(TlsFiles { key, .. }) = &tls
        && secret_file::is_world_readable(key)
    {
        let text = format!("api.tls_key names {}, which everyone can read", key.display());
        warnings.push(Warning::new(text, secret_file::SECRET_FILE_ADVICE));
    }
    if let (Some(address), None) = (listen, &tls)
        && !address.ip().is_loopback()
    {
        let text = format!(
            "api.listen is {address}, beyond this machine, and without api.tls_cert: secrets, tokens and files are sent in clear text"
        );
        warnings.push(Warning::new(
            text,
            "give it api.tls_cert and api.tls_key, or listen on loopback behind a proxy with TLS",
        ));
    }
    within("api.max_file_bytes", raw.max_file_bytes, 1..=i64::MAX as u64)?;
    within("api.max_connections", raw.max_connections, 1..=u32::MAX)?;
    at_least("api.idle_timeout", raw.idle_timeout, MIN_TIMEOUT)?;
    at_least("api.stall_timeout", raw.stall_timeout, MIN_TIMEOUT)?;
    let connections =
        Connections { max: raw.max_connections, idle_timeout: raw.idle_timeout, stall_timeout: raw.stall_timeout };
    let mut clients = Vec::new();
    let mut ids = BTreeSet::new();
    for (entry, raw) in raw.clients.into_iter().enumerate() {
        let key = format!("api.clients[{entry}]");
        let client_id = client_id(&key, raw.client_id, raw.client_id_file, warnings)?;
        if !ids.insert(client_id.clone()) {
            return Err(KeyError::new(format!("{key}.client_id"), "is the same as an earlier entry's"));
        }
        let client_secret = client_secret(&key, raw.client_secret, raw.client_secret_file, warnings)?;
        let known = instances;
        let instances = client_instances(&key, raw.instances, known)?;
        let instance = client_instance(&key, &client_id, raw.instance, instances.as_deref(), known, warnings)?;
        clients.push(ApiClient { client_id, client_secret, instances, instance });
    }
    Ok(Api {
        socket: raw.socket,
        socket_mode,
        listen,
        tls,
        max_file_bytes: raw.max_file_bytes,
        connections,
        legacy_tokens: raw.legacy_tokens,
        clients,
    })
}

fn tls(cert: Option<PathBuf>, key: Option<PathBuf>, listen: Option<SocketAddr>) -> Result<Option<TlsFiles>, KeyError> {
    for (name, path) in [("api.tls_cert", &cert), ("api.tls_key", &key)] {
        if let Some(path) = path {
            not_empty(name, path)?;
            if listen.is_none() {
                return Err(KeyError::new(name, "is for TCP, so it needs api.listen"));
            }
        }
    }
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(KeyError::new("api.tls_cert", "needs api.tls_key, the certificate's private key")),
        (None, Some(_)) => Err(KeyError::new("api.tls_key", "needs api.tls_cert, the certificate that it belongs to")),
    }
}

fn client_instances(
    all: &str,
    named: Option<Vec<String>>,
    known: &BTreeSet<&str>,
) -> Result<Option<Vec<String>>, KeyError> {
    let Some(named) = named else { return Ok(None) };
    let key = || format!("{all}.instances");
    if named.is_empty() {
        return Err(KeyError::new(key(), "is empty: leave it out for a client that may use all of them"));
    }
    if let Some(unknown) = named.iter().find(|name| !known.contains(name.as_str())) {
        let known = known.iter().copied().collect::<Vec<_>>().join(", ");
        return Err(KeyError::new(key(), format!("names \"{unknown}\", and the instances are {known}")));
    }
    Ok(Some(named))
}

/// Returns the instance of a client's requests whose address names none. Many programs keep only the host of an
/// address.
fn client_instance(
    all: &str,
    client_id: &str,
    named: Option<String>,
    instances: Option<&[String]>,
    known: &BTreeSet<&str>,
    warnings: &mut Vec<Warning>,
) -> Result<String, KeyError> {
    let may: BTreeSet<&str> = match instances {
        Some(instances) => instances.iter().map(String::as_str).collect(),
        None => known.clone(),
    };
    let list = || may.iter().copied().collect::<Vec<_>>().join(", ");
    match (named, instances.and(may.first())) {
        (Some(name), _) if may.contains(name.as_str()) => Ok(name),
        (Some(name), _) => Err(KeyError::new(
            format!("{all}.instance"),
            format!("names \"{name}\", and the client may use {}", list()),
        )),
        (None, Some(&only)) if may.len() == 1 => Ok(only.to_owned()),
        (None, _) => {
            if may.len() > 1 {
                let text = format!(
                    "the client {client_id} may use the instances {} and {all}.instance names none: where its address \
                     names none either, it means {DEFAULT_INSTANCE}",
                    list()
                );
                let advice = "write its instance there; many programs keep only the host of their address";
                warnings.push(Warning::new(text, advice));
            }
            Ok(DEFAULT_INSTANCE.to_owned())
        }
    }
}

fn instance(name: &str, raw: RawInstance, warnings: &mut Vec<Warning>) -> Result<Instance, KeyError> {
    let all = format!("instances.{name}");
    let key = |rest: &str| format!("{all}.{rest}");
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return Err(KeyError::new(all, "must have a name of 1 to 64 small letters, digits, _ and -"));
    }
    if name == "rejected" {
        return Err(KeyError::new(all, "needs another name: the drop folder keeps refused files under this one"));
    }
    let base_url = raw.base_url.ok_or_else(|| KeyError::new(key("base_url"), "is missing"))?;
    let base_url = parse::parse_base_url(&base_url).map_err(|reason| KeyError::new(key("base_url"), reason))?;
    let identity_url = raw.identity_url.map(|text| {
        let url = parse::parse_identity_url(&text).map_err(|reason| KeyError::new(key("identity_url"), reason))?;
        Ok(parse::without_slash(&url))
    });
    // For a simulator the limits are wider, because its clock may run faster than ours.
    let simulated = parse::is_loopback(&base_url);
    let base_url = parse::without_slash(&base_url);
    let identity_url = identity_url.transpose()?.unwrap_or_else(|| format!("{base_url}/identity"));
    let client_id = client_id(&all, raw.client_id, raw.client_id_file, warnings)?;
    let client_secret = client_secret(&all, raw.client_secret, raw.client_secret_file, warnings)?;
    within(&key("max_attempts"), raw.max_attempts, 1..=u32::MAX)?;
    more_than_zero(&key("backoff_min"), raw.backoff_min)?;
    not_above(&key("backoff_min"), raw.backoff_min, "backoff_max", raw.backoff_max)?;
    at_least(&key("request_timeout"), raw.request_timeout, Duration::from_secs(1))?;
    more_than_zero(&key("max_import_time"), raw.max_import_time)?;
    limits(&key("limits"), &raw.limits, simulated)?;
    polling(&key("polling"), &raw.polling, simulated)?;
    Ok(Instance {
        base_url,
        identity_url,
        client_id,
        client_secret,
        unknown_outcome: raw.unknown_outcome,
        max_attempts: raw.max_attempts,
        backoff_min: raw.backoff_min,
        backoff_max: raw.backoff_max,
        request_timeout: raw.request_timeout,
        max_import_time: raw.max_import_time,
        limits: raw.limits,
        polling: raw.polling,
    })
}

fn notify(raw: RawNotify, warnings: &mut Vec<Warning>) -> Result<Notify, KeyError> {
    at_least("notify.timeout", raw.timeout, Duration::from_secs(1))?;
    let secret = match (raw.secret, raw.secret_file) {
        (None, None) => None,
        (given, file) => Some(secret_file::from_value_or_file("notify.secret", given, file, warnings)?),
    };
    let mut command = raw.command.into_iter();
    let way = match (command.next(), raw.url) {
        (Some(_), Some(_)) => return Err(KeyError::new("notify.url", "and notify.command are both given: keep one")),
        (None, None) => None,
        (Some(program), None) if program.is_empty() => {
            return Err(KeyError::new("notify.command", "must begin with the name of a program"));
        }
        (Some(program), None) => Some(NotificationChannel::Command { program, arguments: command.collect() }),
        (None, Some(url)) => {
            let url = parse::parse_hook(url.expose()).map_err(|reason| KeyError::new("notify.url", reason))?;
            return Ok(Notify {
                way: Some(NotificationChannel::Url { url: url.into(), secret }),
                timeout: raw.timeout,
            });
        }
    };
    if secret.is_some() {
        return Err(KeyError::new("notify.secret", "signs what is sent to notify.url, and there is none"));
    }
    Ok(Notify { way, timeout: raw.timeout })
}

fn limits(all: &str, limits: &Limits, simulated: bool) -> Result<(), KeyError> {
    let key = |rest: &str| format!("{all}.{rest}");
    within(&key("importing"), limits.importing, 1..=2)?;
    within(&key("queued"), limits.queued, 1..=10)?;
    if limits.queued < limits.importing {
        let reason = format!("must be at least importing ({}), not {}", limits.importing, limits.queued);
        return Err(KeyError::new(key("queued"), reason));
    }
    within(&key("upload_bytes"), limits.upload_bytes, 1_000..=10_000_000)?;
    within(&key("concurrent_calls"), limits.concurrent_calls, 1..=10)?;
    more_than_zero(&key("window"), limits.window)?;
    within(&key("calls"), limits.calls, 1..=if simulated { u32::MAX } else { 100 })?;
    // The number of windows that overlap any twenty seconds; each of them can be full.
    let windows = MARKETO_WINDOW.as_nanos().div_ceil(limits.window.as_nanos());
    let calls = windows.max(1) * u128::from(limits.calls);
    if calls > MARKETO_CALLS && !simulated {
        let reason =
            format!("is too short: {} calls in it can make {calls} in 20s, and Marketo takes 100", limits.calls);
        return Err(KeyError::new(key("window"), reason));
    }
    Ok(())
}

fn polling(all: &str, polling: &Polling, simulated: bool) -> Result<(), KeyError> {
    let min = format!("{all}.min");
    match simulated {
        true => more_than_zero(&min, polling.min)?,
        false => at_least(&min, polling.min, Duration::from_secs(1))?,
    }
    not_above(&min, polling.min, "max", polling.max)
}

fn client_id(
    all: &str,
    given: Option<Secret>,
    file: Option<PathBuf>,
    warnings: &mut Vec<Warning>,
) -> Result<String, KeyError> {
    secret_file::from_value_or_file(&format!("{all}.client_id"), given, file, warnings).map(|id| id.expose().to_owned())
}

fn client_secret(
    all: &str,
    given: Option<Secret>,
    file: Option<PathBuf>,
    warnings: &mut Vec<Warning>,
) -> Result<Secret, KeyError> {
    secret_file::from_value_or_file(&format!("{all}.client_secret"), given, file, warnings)
}

fn within<T: PartialOrd + fmt::Display + Into<u64> + Copy>(
    key: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), KeyError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(KeyError::new(key, format!("must be from {} to {}, not {value}", range.start(), range.end())))
}

fn not_empty(key: &str, path: &Path) -> Result<(), KeyError> {
    if path.as_os_str().is_empty() { Err(KeyError::new(key, "is empty")) } else { Ok(()) }
}

fn more_than_zero(key: &str, value: Duration) -> Result<(), KeyError> {
    if value.is_zero() { Err(KeyError::new(key, "must be more than zero")) } else { Ok(()) }
}

fn at_least(key: &str, value: Duration, least: Duration) -> Result<(), KeyError> {
    if value < least { Err(KeyError::new(key, format!("must be at least {least:?}, not {value:?}"))) } else { Ok(()) }
}

fn not_above(key: &str, value: Duration, other: &str, most: Duration) -> Result<(), KeyError> {
    if value > most {
        return Err(KeyError::new(key, format!("must be at most {other} ({most:?}), not {value:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::ConfigError;

    const GOOD: &str = "[instances.default]
        base_url = 'https://a.mktorest.com/rest'
        client_id = 'id'
        client_secret = 'hunter2'
        ";

    fn read(text: &str) -> Result<Config, ConfigError> {
        Config::read(Some((Path::new("m.toml"), text)), [])
    }

    /// What is said of the good instance with `lines` below it.
    fn said_of(lines: &str) -> String {
        match read(&format!("{GOOD}{lines}")) {
            Ok(_) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn impossible_values_are_refused_by_the_name_of_their_key() {
        let long = format!("[api]\nsocket = '/{}'", "s".repeat(107));
        for (lines, message) in [
            ("[instances.default.limits]\nqueued = 12", "instances.default.limits.queued must be from 1 to 10, not 12"),
            (
                "[instances.default.limits]\nqueued = 1",
                "instances.default.limits.queued must be at least importing (2), not 1",
            ),
            (
                "[instances.default.limits]\nimporting = 3",
                "instances.default.limits.importing must be from 1 to 2, not 3",
            ),
            (
                "[instances.default.limits]\nimporting = 0",
                "instances.default.limits.importing must be from 1 to 2, not 0",
            ),
            (
                "[instances.default.limits]\nimporting = -1",
                "instances.default.limits.importing must be a whole number that is not negative, not integer `-1`",
            ),
            (
                "[instances.default.limits]\nupload_bytes = 10000001",
                "instances.default.limits.upload_bytes must be from 1000 to 10000000, not 10000001",
            ),
            (
                "[instances.default.limits]\ncalls = 101",
                "instances.default.limits.calls must be from 1 to 100, not 101",
            ),
            (
                "[instances.default.limits]\nwindow = '9s'",
                "instances.default.limits.window is too short: 50 calls in it can make 150 in 20s, and Marketo takes 100",
            ),
            ("[instances.default.limits]\nwindow = '0s'", "instances.default.limits.window must be more than zero"),
            (
                "[instances.default.limits]\nconcurrent_calls = 11",
                "instances.default.limits.concurrent_calls must be from 1 to 10, not 11",
            ),
            (
                "[instances.default.limits]\ndaily_reset = '24:00'",
                "instances.default.limits.daily_reset must be a time of day in UTC from \"00:00\" to \"23:59:59\", not \"24:00\"",
            ),
            (
                "[instances.default.limits]\ndaily_reset = 6",
                "instances.default.limits.daily_reset must be text such as \"06:00\", not 6",
            ),
            (
                "[instances.default.polling]\nmin = '31s'",
                "instances.default.polling.min must be at most max (30s), not 31s",
            ),
            (
                "[instances.default.polling]\nmin = '500ms'",
                "instances.default.polling.min must be at least 1s, not 500ms",
            ),
            ("max_attempts = 0", "instances.default.max_attempts must be from 1 to 4294967295, not 0"),
            (
                "max_attempts = 1.5",
                "instances.default.max_attempts must be a whole number that is not negative, not floating point `1.5`",
            ),
            (
                "max_attempts = true",
                "instances.default.max_attempts must be a whole number that is not negative, not boolean `true`",
            ),
            (
                "max_attempts = '8'",
                "instances.default.max_attempts must be a whole number that is not negative, not string \"8\"",
            ),
            ("backoff_min = '0s'", "instances.default.backoff_min must be more than zero"),
            ("backoff_min = '6m'", "instances.default.backoff_min must be at most backoff_max (300s), not 360s"),
            ("backoff_max = 5", "instances.default.backoff_max must be text with a unit, such as \"20s\", not 5"),
            ("backoff_max = '5'", "instances.default.backoff_max must have a unit, such as \"5s\""),
            ("max_import_time = '0s'", "instances.default.max_import_time must be more than zero"),
            ("request_timeout = '999ms'", "instances.default.request_timeout must be at least 1s, not 999ms"),
            ("unknown_outcome = 'ask'", "instances.default.unknown_outcome must be `resubmit` or `hold`, not `ask`"),
            (
                "client_secret_file = '/s'",
                "instances.default.client_secret and instances.default.client_secret_file are both given: keep one",
            ),
            (
                "identity_url = 'http://a.example/identity'",
                "instances.default.identity_url must begin with https:// (http:// is only for loopback, where a simulator is)",
            ),
            ("[instances.EU]", "instances.EU must have a name of 1 to 64 small letters, digits, _ and -"),
            (
                "[instances.rejected]",
                "instances.rejected needs another name: the drop folder keeps refused files under this one",
            ),
            ("[instances.eu]", "instances.eu.base_url is missing"),
            (
                "[instances.eu]\nbase_url = 'https://a.example'",
                "instances.eu.client_id is missing: write it, or instances.eu.client_id_file",
            ),
            (
                "instances = 1",
                "instances.default.instances is not a key: here belongs one of `base_url`, `identity_url`, `client_id`, `client_id_file`, `client_secret`, `client_secret_file`, `unknown_outcome`, `max_attempts`, `backoff_min`, `backoff_max`, `request_timeout`, `max_import_time`, `limits`, `polling`",
            ),
            ("[retention]\nfiles = '0d'", "retention.files must be more than zero"),
            ("[retention]\nfailed_files = '0d'", "retention.failed_files must be more than zero"),
            (
                "[retention]\nflies = '7d'",
                "retention.flies is not a key: here belongs one of `files`, `failed_files`, `reports`, `jobs`",
            ),
            ("[store]\npath = ''", "store.path is empty"),
            ("[store]\npath = 7", "store.path must be text, not integer `7`"),
            (
                "[store]\nreserve_bytes = 9000000000000",
                "store.reserve_bytes must be from 0 to 1099511627776, not 9000000000000",
            ),
            (
                "[notify]\nurl = 'http://hooks.example'",
                "notify.url must begin with https:// (http:// is only for loopback, where a simulator is)",
            ),
            (
                "[notify]\nurl = 'https://a.example'\ncommand = ['x']",
                "notify.url and notify.command are both given: keep one",
            ),
            ("[notify]\ncommand = ['']", "notify.command must begin with the name of a program"),
            (
                "[notify]\ncommand = ['x']\nsecret = 's'",
                "notify.secret signs what is sent to notify.url, and there is none",
            ),
            ("[notify]\nurl = 'https://a.example'\nsecret = ''", "notify.secret is empty"),
            ("[notify]\ntimeout = '1ms'", "notify.timeout must be at least 1s, not 1ms"),
            (
                "[stores]",
                "stores is not a key: here belongs one of `store`, `retention`, `api`, `drop`, `instances`, `notify`, `log`",
            ),
            ("[api]\nsocket_mode = 660", "api.socket_mode must be text, not integer `660`"),
            (
                "[api]\nsocket_mode = '0999'",
                "api.socket_mode must be octal digits from \"0000\" to \"0777\", not \"0999\"",
            ),
            ("[api]\nmax_connections = 0", "api.max_connections must be from 1 to 4294967295, not 0"),
            ("[api]\nidle_timeout = '9ms'", "api.idle_timeout must be at least 10ms, not 9ms"),
            ("[api]\nstall_timeout = 60", "api.stall_timeout must be text with a unit, such as \"20s\", not 60"),
            ("[api]\nmax_file_bytes = 0", "api.max_file_bytes must be from 1 to 9223372036854775807, not 0"),
            (&long, "api.socket is 108 bytes long, and the path of a Unix socket has at most 107"),
            ("[api]\nlisten = '127.0.0.1:8437'", "api.listen needs an entry in [[api.clients]]: who may use it?"),
            (
                "[api]\nlisten = '8437'",
                "api.listen must be an address and a port, such as \"127.0.0.1:8437\", not \"8437\"",
            ),
            (
                "[[api.clients]]\nclient_id = 'a'",
                "api.clients[0].client_secret is missing: write it, or api.clients[0].client_secret_file",
            ),
            (
                "[[api.clients]]\nclient_id = 'a'\nclient_secret = 'x'\n[[api.clients]]\nclient_id = 'a'\nclient_secret = 'y'",
                "api.clients[1].client_id is the same as an earlier entry's",
            ),
            ("[[api.clients]]\nclient_id = ''\nclient_secret = 'x'", "api.clients[0].client_id is empty"),
            (
                "[[api.clients]]\nid = 'a'",
                "api.clients[0].id is not a key: here belongs one of `client_id`, `client_id_file`, `client_secret`, `client_secret_file`, `instances`, `instance`",
            ),
            (
                "[[api.clients]]\nclient_id = 'a'\nclient_secret = 'x'\ninstances = ['default', 'eu']",
                "api.clients[0].instances names \"eu\", and the instances are default",
            ),
            (
                "[[api.clients]]\nclient_id = 'a'\nclient_secret = 'x'\ninstances = []",
                "api.clients[0].instances is empty: leave it out for a client that may use all of them",
            ),
            (
                "[[api.clients]]\nclient_id = 'a'\nclient_secret = 'x'\ninstances = 'default'",
                "api.clients[0].instances must be a list, not string",
            ),
            (
                "[[api.clients]]\nclient_id = 'a'\nclient_secret = 'x'\ninstance = 'eu'",
                "api.clients[0].instance names \"eu\", and the client may use default",
            ),
            ("[api]\ntls_cert = '/c'\ntls_key = '/k'", "api.tls_cert is for TCP, so it needs api.listen"),
            (
                "[api]\nlisten = '127.0.0.1:1'\ntls_cert = '/c'\n[[api.clients]]\nclient_id = 'a'\nclient_secret = 'x'",
                "api.tls_cert needs api.tls_key, the certificate's private key",
            ),
            (
                "[api]\nlisten = '127.0.0.1:1'\ntls_key = '/k'\n[[api.clients]]\nclient_id = 'a'\nclient_secret = 'x'",
                "api.tls_key needs api.tls_cert, the certificate that it belongs to",
            ),
            ("[drop]\npath = ''", "drop.path is empty"),
            ("[drop]\nsettle = '1ms'", "drop.settle must be from \"10ms\" to \"1d\""),
            ("[drop]\nsettle = '2d'", "drop.settle must be from \"10ms\" to \"1d\""),
            ("[drop]\nsettle = 5", "drop.settle must be text with a unit, such as \"20s\", not 5"),
            ("[log]\nlevel = 'loud'", "log.level must be one of `error`, `warn`, `info`, `debug`, `trace`, not `loud`"),
            ("[log]\nformat = 'xml'", "log.format must be `text` or `json`, not `xml`"),
        ] {
            assert_eq!(said_of(lines), format!("{message} (in m.toml)"));
        }
    }

    #[test]
    fn a_client_means_its_own_instance_its_only_one_or_default() {
        for (lines, instance, warns) in [
            ("", "default", true),
            ("instance = 'us'", "us", false),
            ("instances = ['eu']", "eu", false),
            ("instances = ['eu', 'eu']", "eu", false),
            ("instances = ['eu', 'us']", "default", true),
            ("instances = ['eu', 'us']\ninstance = 'us'", "us", false),
            ("instances = ['default', 'us']\ninstance = 'default'", "default", false),
        ] {
            let more = |name| {
                format!("[instances.{name}]\nbase_url='https://{name}.example'\nclient_id='i'\nclient_secret='s'\n")
            };
            let client = format!("[[api.clients]]\nclient_id = 'crm'\nclient_secret = 'x'\n{lines}");
            let config = read(&format!("{GOOD}{}{}{client}", more("eu"), more("us"))).unwrap();
            assert_eq!(config.api.clients[0].instance, instance, "{lines}");
            let named = |warning: &&Warning| warning.text.contains("the client crm may use the instances");
            assert_eq!(config.warnings.iter().filter(named).count(), usize::from(warns), "{lines}");
        }
        // With one instance there is nothing to mistake.
        let one = read(&format!("{GOOD}[[api.clients]]\nclient_id = 'crm'\nclient_secret = 'x'")).unwrap();
        assert_eq!((one.api.clients[0].instance.as_str(), one.warnings.len()), ("default", 0));
        let both = "instances = ['eu']\ninstance = 'us'";
        let client = format!("[[api.clients]]\nclient_id = 'crm'\nclient_secret = 'x'\n{both}");
        let eu = "[instances.eu]\nbase_url='https://eu.example'\nclient_id='i'\nclient_secret='s'\n";
        let error = read(&format!("{GOOD}{eu}{client}")).unwrap_err().to_string();
        assert!(error.contains("api.clients[0].instance names \"us\", and the client may use eu"), "{error}");
    }

    #[test]
    fn an_address_beyond_this_machine_without_tls_gives_a_warning() {
        let of = |api: &str| {
            let client = "[[api.clients]]\nclient_id = 'a'\nclient_secret = 'x'";
            read(&format!("{GOOD}[api]\n{api}\n{client}"))
                .unwrap()
                .warnings
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        };
        let tls = "tls_cert = '/c'\ntls_key = '/k'";
        for address in ["0.0.0.0:8437", "[::]:8437", "10.0.0.1:8437"] {
            assert!(of(&format!("listen = '{address}'")).starts_with(&format!("api.listen is {address}, beyond")));
            assert_eq!(of(&format!("listen = '{address}'\n{tls}")), "");
        }
        for address in ["127.0.0.1:8437", "127.9.9.9:1", "[::1]:8437"] {
            assert_eq!(of(&format!("listen = '{address}'")), "");
        }
    }

    #[test]
    fn a_file_without_an_instance_is_told_what_to_write() {
        let message =
            "instances is empty: write at least [instances.default] with base_url, client_id and client_secret_file";
        assert_eq!(Config::read(None, []).unwrap_err().to_string(), message);
        assert_eq!(read("log = 1").unwrap_err().to_string(), "log must be a table, not integer (in m.toml)");
    }

    #[test]
    fn what_is_not_toml_is_named_by_its_line_and_not_quoted() {
        let error = said_of("client_secret_file = 'hunter2\n");
        assert!(error.starts_with("m.toml:5: this is not TOML: "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn no_message_shows_a_secret_of_a_wrong_type() {
        for secret in ["4711", "[4711]", "{x = 4711}", "4711.0"] {
            let text = format!(
                "[instances.default]\nbase_url = 'https://a.example'\nclient_id = 'i'\nclient_secret = {secret}"
            );
            let message = read(&text).unwrap_err().to_string();
            assert_eq!(message, "instances.default.client_secret must be text, in quotes (in m.toml)");
        }
    }

    #[test]
    fn no_message_shows_a_secret_that_stands_a_level_too_high() {
        for secret in ["'4711'", "4711", "4711.0"] {
            let message = read(&format!("instances.client_secret = {secret}")).unwrap_err().to_string();
            assert!(message.starts_with("instances.client_secret must be a table, not "), "{message}");
            assert!(!message.contains("4711"), "{message}");
        }
    }

    #[test]
    fn a_configuration_shows_no_secret_when_it_is_printed() {
        let config = read(GOOD).unwrap();
        assert_eq!(config.instances["default"].client_secret.expose(), "hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_simulator_may_be_called_and_polled_at_any_rate() {
        let text = "[instances.default]
            base_url = 'http://127.0.0.1:9000'
            client_id = 'id'
            client_secret = 's'
            limits = {calls = 5000, window = '100ms'}
            polling = {min = '1ms', max = '20ms'}";
        let config = read(text).unwrap();
        assert_eq!(config.instances["default"].limits.calls, 5000);
        assert_eq!(config.instances["default"].polling.min, Duration::from_millis(1));
        assert_eq!(config.instances["default"].identity_url, "http://127.0.0.1:9000/identity");
    }

    #[test]
    fn windows_that_keep_to_marketos_rate_are_taken() {
        for limits in ["calls = 100", "calls = 50\nwindow = '10s'", "calls = 5\nwindow = '1s'", "window = '1h'"] {
            assert_eq!(said_of(&format!("[instances.default.limits]\n{limits}")), "nothing", "{limits}");
        }
    }

    #[test]
    fn a_wrong_variable_is_reported_by_its_name_alone() {
        let said = |variable: &str, value: &str| {
            Config::read(Some((Path::new("m.toml"), GOOD)), [(variable.to_owned(), value.to_owned())])
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            said("MARQUEUE_INSTANCES__DEFAULT__LIMITS__QUEUED", "12"),
            "instances.default.limits.queued must be from 1 to 10, not 12 \
             (set by MARQUEUE_INSTANCES__DEFAULT__LIMITS__QUEUED)"
        );
        assert_eq!(
            said("MARQUEUE_NO_COLOR", "1"),
            "no_color is not a key: here belongs one of `store`, `retention`, `api`, `drop`, `instances`, `notify`, `log` \
             (set by MARQUEUE_NO_COLOR)"
        );
        assert_eq!(
            said("MARQUEUE_RETENTION__FILES", "7"),
            "retention.files must have a unit, such as \"7s\" (set by MARQUEUE_RETENTION__FILES)"
        );
        assert_eq!(said("MARQUEUE_API", "x"), "api must be a table, not string (set by MARQUEUE_API)");
        assert_eq!(
            said("MARQUEUE_STOER__PATH", "x"),
            "stoer is not a key: here belongs one of `store`, `retention`, `api`, `drop`, `instances`, `notify`, `log` \
             (set by MARQUEUE_STOER__PATH)"
        );
    }
}
