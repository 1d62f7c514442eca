//! Validation of an instance: its name, URLs, credentials, limits and polling.

use std::time::Duration;

use crate::config::error::{KeyError, Warning};
use crate::config::instance::{Instance, Limits, Polling};
use crate::config::parse;
use crate::config::raw::RawInstance;
use crate::config::secret_file::{client_id, client_secret};
use crate::config::validate::bounds::{above_zero, at_least, at_most, within};

/// Marketo's limit on calls, for all integrations of an instance.
const MARKETO_CALLS: u32 = 100;
const MARKETO_WINDOW: Duration = Duration::from_secs(20);

/// The most rows of a canary: more than any file has.
const MAX_CANARY: u64 = 1_000_000_000;

/// The folder of the drop folder that keeps rejected files. An instance of this name would share it.
const RESERVED_NAME: &str = "rejected";

const MAX_NAME_BYTES: usize = 64;

/// The kind of service at the base URL.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Remote {
    Marketo,
    /// A loopback address. Its limits are wider, because a simulator's clock may run faster than ours.
    Simulator,
}

/// Validates the keys of `[instances.{name}]`.
pub(super) fn validate_instance(
    name: &str,
    raw: RawInstance,
    warnings: &mut Vec<Warning>,
) -> Result<Instance, KeyError> {
    let table = format!("instances.{name}");
    let key = |rest: &str| format!("{table}.{rest}");
    validate_name(name).map_err(|reason| KeyError::new(&table, reason))?;
    let base_url = raw.base_url.ok_or_else(|| KeyError::new(key("base_url"), "is missing"))?;
    let base_url = parse::parse_base_url(&base_url).map_err(|reason| KeyError::new(key("base_url"), reason))?;
    let identity_url = raw.identity_url.map(|text| {
        let url = parse::parse_identity_url(&text).map_err(|reason| KeyError::new(key("identity_url"), reason))?;
        Ok(parse::without_slash(&url))
    });
    let remote = if parse::is_loopback(&base_url) { Remote::Simulator } else { Remote::Marketo };
    let base_url = parse::without_slash(&base_url);
    let identity_url = identity_url.transpose()?.unwrap_or_else(|| format!("{base_url}/identity"));
    let client_id = client_id(&table, raw.client_id, raw.client_id_file, warnings)?;
    let client_secret_file = raw.client_secret_file.clone();
    let client_secret = client_secret(&table, raw.client_secret, raw.client_secret_file, warnings)?;
    within(&key("max_attempts"), raw.max_attempts, 1..=u32::MAX)?;
    above_zero(&key("backoff_min"), raw.backoff_min)?;
    at_most(&key("backoff_min"), raw.backoff_min, "backoff_max", raw.backoff_max)?;
    at_least(&key("request_timeout"), raw.request_timeout, Duration::from_secs(1))?;
    above_zero(&key("max_import_time"), raw.max_import_time)?;
    within(&key("canary"), raw.canary, 0..=MAX_CANARY)?;
    if raw.pack && raw.canary > 0 {
        let text = format!("{} has no effect on jobs that have the instance's canary: they go alone", key("pack"));
        warnings.push(Warning::new(text, "set only one of pack and canary, or give packed jobs canary = 0"));
    }
    within(&key("max_failed_percent"), raw.max_failed_percent, 0..=100)?;
    validate_limits(&key("limits"), &raw.limits, remote)?;
    validate_polling(&key("polling"), &raw.polling, remote)?;
    Ok(Instance {
        base_url,
        identity_url,
        client_id,
        client_secret,
        client_secret_file,
        unknown_outcome: raw.unknown_outcome,
        max_attempts: raw.max_attempts,
        backoff_min: raw.backoff_min,
        backoff_max: raw.backoff_max,
        request_timeout: raw.request_timeout,
        max_import_time: raw.max_import_time,
        pack: raw.pack,
        canary: raw.canary,
        max_failed_percent: u8::try_from(raw.max_failed_percent).unwrap_or(100),
        limits: raw.limits,
        polling: raw.polling,
    })
}

fn validate_name(name: &str) -> Result<(), String> {
    let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_allowed) {
        return Err(format!("must have a name of 1 to {MAX_NAME_BYTES} lowercase letters, digits, _ and -"));
    }
    if name == RESERVED_NAME {
        return Err("must have another name: the drop folder keeps rejected files in a folder of this one".to_owned());
    }
    Ok(())
}

fn validate_limits(table: &str, limits: &Limits, remote: Remote) -> Result<(), KeyError> {
    let key = |rest: &str| format!("{table}.{rest}");
    within(&key("importing"), limits.importing, 1..=2)?;
    within(&key("queued"), limits.queued, 1..=10)?;
    if limits.queued < limits.importing {
        let reason = format!("must be at least importing ({}), not {}", limits.importing, limits.queued);
        return Err(KeyError::new(key("queued"), reason));
    }
    within(&key("upload_bytes"), limits.upload_bytes, 1_000..=10_000_000)?;
    within(&key("concurrent_calls"), limits.concurrent_calls, 1..=10)?;
    above_zero(&key("window"), limits.window)?;
    let max_calls = match remote {
        Remote::Marketo => MARKETO_CALLS,
        Remote::Simulator => u32::MAX,
    };
    within(&key("calls"), limits.calls, 1..=max_calls)?;
    // The number of windows that overlap any twenty seconds; each of them can be full.
    let windows = MARKETO_WINDOW.as_nanos().div_ceil(limits.window.as_nanos());
    let calls = windows.max(1) * u128::from(limits.calls);
    if calls > u128::from(MARKETO_CALLS) && remote == Remote::Marketo {
        let reason = format!(
            "is too short: with {} calls in each window, {calls} calls can fall into 20s, and Marketo allows {MARKETO_CALLS}",
            limits.calls
        );
        return Err(KeyError::new(key("window"), reason));
    }
    Ok(())
}

fn validate_polling(table: &str, polling: &Polling, remote: Remote) -> Result<(), KeyError> {
    let min = format!("{table}.min");
    match remote {
        Remote::Simulator => above_zero(&min, polling.min)?,
        Remote::Marketo => at_least(&min, polling.min, Duration::from_secs(1))?,
    }
    at_most(&min, polling.min, "max", polling.max)
}
