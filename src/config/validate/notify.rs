//! Validation of notifications: a command or a URL, and the secret that signs requests.

use std::time::Duration;

use crate::config::error::{KeyError, Warning};
use crate::config::raw::RawNotify;
use crate::config::sections::{NotificationChannel, Notify};
use crate::config::validate::bounds::at_least;
use crate::config::{parse, secret_file};

/// Validates the keys of `[notify]`.
pub(super) fn validate_notify(raw: RawNotify, warnings: &mut Vec<Warning>) -> Result<Notify, KeyError> {
    at_least("notify.timeout", raw.timeout, Duration::from_secs(1))?;
    let secret = match (raw.secret, raw.secret_file) {
        (None, None) => None,
        (given, file) => Some(secret_file::from_value_or_file("notify.secret", given, file, warnings)?),
    };
    let mut command = raw.command.into_iter();
    let way = match (command.next(), raw.url) {
        (Some(_), Some(_)) => {
            return Err(KeyError::new("notify.url", "and notify.command are both set: remove one"));
        }
        (None, None) => None,
        (Some(program), None) if program.is_empty() => {
            return Err(KeyError::new("notify.command", "must begin with the name of a program"));
        }
        (Some(program), None) => Some(NotificationChannel::Command { program, arguments: command.collect() }),
        (None, Some(url)) => {
            let url = parse::parse_hook(url.expose()).map_err(|reason| KeyError::new("notify.url", reason))?;
            let channel = NotificationChannel::Url { url: url.into(), secret };
            return Ok(Notify { way: Some(channel), timeout: raw.timeout });
        }
    };
    if secret.is_some() {
        return Err(KeyError::new("notify.secret", "needs notify.url: only requests to a URL are signed"));
    }
    Ok(Notify { way, timeout: raw.timeout })
}
