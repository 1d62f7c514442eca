//! Validation of the whole configuration: checks each section, and collects the warnings.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::error::KeyError;
use crate::config::raw::Raw;
use crate::config::sections::{Config, DropFolder, Retention, Store};
use crate::config::shared;
use crate::config::validate::api::validate_api;
use crate::config::validate::bounds::{MIN_TIMEOUT, above_zero, not_empty, within};
use crate::config::validate::instance::validate_instance;
use crate::config::validate::notify::validate_notify;

/// The most bytes that can be reserved on the disk: 1 TiB.
const MAX_RESERVE_BYTES: u64 = 1 << 40;

/// Maximum of `drop.settle`. No program writes to a share more slowly.
const MAX_SETTLE: Duration = Duration::from_secs(24 * 60 * 60);

/// Validates all keys, and returns the configuration with its warnings.
pub(in crate::config) fn validate(raw: Raw) -> Result<Config, KeyError> {
    let mut warnings = Vec::new();
    validate_store(&raw.store)?;
    validate_retention(&raw.retention)?;
    validate_drop_folder(&raw.drop)?;
    let names: BTreeSet<&str> = raw.instances.keys().map(String::as_str).collect();
    let api = validate_api(raw.api, &names, &mut warnings)?;
    if raw.instances.is_empty() {
        let reason = "is empty: add at least [instances.default] with base_url, client_id and client_secret_file";
        return Err(KeyError::new("instances", reason));
    }
    let mut instances = raw
        .instances
        .into_iter()
        .map(|(name, raw)| Ok((name.clone(), validate_instance(&name, raw, &mut warnings)?)))
        .collect::<Result<_, KeyError>>()?;
    warnings.extend(shared::share_limits(&mut instances));
    let notify = validate_notify(raw.notify, &mut warnings)?;
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

fn validate_store(store: &Store) -> Result<(), KeyError> {
    not_empty("store.path", &store.path)?;
    within("store.reserve_bytes", store.reserve_bytes, 0..=MAX_RESERVE_BYTES)
}

fn validate_retention(retention: &Retention) -> Result<(), KeyError> {
    above_zero("retention.files", retention.files)?;
    above_zero("retention.failed_files", retention.failed_files)?;
    above_zero("retention.reports", retention.reports)?;
    above_zero("retention.jobs", retention.jobs)
}

fn validate_drop_folder(drop: &DropFolder) -> Result<(), KeyError> {
    if let Some(path) = &drop.path {
        not_empty("drop.path", path)?;
    }
    if (MIN_TIMEOUT..=MAX_SETTLE).contains(&drop.settle) {
        Ok(())
    } else {
        Err(KeyError::new("drop.settle", format!("must be from 10ms to 1d, not {:?}", drop.settle)))
    }
}
