//! Validation of the listeners: socket, TCP address, TLS files and limits of connections.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config::error::{KeyError, Warning};
use crate::config::listeners::{Api, Connections, Page, TlsFiles};
use crate::config::raw::RawApi;
use crate::config::validate::bounds::{MIN_TIMEOUT, at_least, not_empty, within};
use crate::config::validate::clients::validate_clients;
use crate::config::validate::page::{parse_hosts, parse_prefix};
use crate::config::{parse, secret_file};

/// The longest path that fits into a Unix socket's address on Linux, its closing zero left out.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Validates the keys of `[api]`. `instances` are the names of the configured instances.
pub(super) fn validate_api(
    raw: RawApi,
    instances: &BTreeSet<&str>,
    warnings: &mut Vec<Warning>,
) -> Result<Api, KeyError> {
    validate_socket(&raw.socket)?;
    let socket_mode = parse::parse_mode(&raw.socket_mode).map_err(|reason| KeyError::new("api.socket_mode", reason))?;
    let listen = raw.listen.as_deref().map(parse_listen).transpose()?;
    if listen.is_some() && raw.clients.is_empty() {
        let reason = "needs at least one entry in [[api.clients]]: clients on TCP must authenticate";
        return Err(KeyError::new("api.listen", reason));
    }
    let tls = validate_tls(raw.tls_cert, raw.tls_key, listen)?;
    warnings.extend(tls.as_ref().and_then(readable_key_warning));
    if let Some(exposure) = listen.filter(|_| tls.is_none()).and_then(exposure_without_tls) {
        if !raw.plaintext_beyond_loopback {
            let Warning { text, advice } = exposure;
            let reason = format!("{text}; {advice} (or allow it: api.plaintext_beyond_loopback = true)");
            return Err(KeyError::new("api.listen", reason));
        }
        warnings.push(Warning { text: format!("api.listen {}", exposure.text), ..exposure });
    }
    within("api.max_file_bytes", raw.max_file_bytes, 1..=i64::MAX as u64)?;
    within("api.max_connections", raw.max_connections, 1..=u32::MAX)?;
    at_least("api.idle_timeout", raw.idle_timeout, MIN_TIMEOUT)?;
    at_least("api.stall_timeout", raw.stall_timeout, MIN_TIMEOUT)?;
    Ok(Api {
        socket: raw.socket,
        socket_mode,
        listen,
        tls,
        max_file_bytes: raw.max_file_bytes,
        connections: Connections {
            max: raw.max_connections,
            idle_timeout: raw.idle_timeout,
            stall_timeout: raw.stall_timeout,
        },
        legacy_tokens: raw.legacy_tokens,
        page: Page { is_served: raw.ui, prefix: parse_prefix(raw.ui_prefix)?, hosts: parse_hosts(&raw.hosts)? },
        clients: validate_clients(raw.clients, instances, warnings)?,
    })
}

fn validate_socket(path: &Path) -> Result<(), KeyError> {
    not_empty("api.socket", path)?;
    let length = path.as_os_str().len();
    if length <= MAX_SOCKET_PATH_BYTES {
        return Ok(());
    }
    let reason = format!("is {length} bytes long; the path of a Unix socket has at most {MAX_SOCKET_PATH_BYTES}");
    Err(KeyError::new("api.socket", reason))
}

fn parse_listen(text: &str) -> Result<SocketAddr, KeyError> {
    text.parse().map_err(|_| {
        let reason = format!("must be an address and a port, such as \"127.0.0.1:8437\", not \"{text}\"");
        KeyError::new("api.listen", reason)
    })
}

fn validate_tls(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    listen: Option<SocketAddr>,
) -> Result<Option<TlsFiles>, KeyError> {
    for (name, path) in [("api.tls_cert", &cert), ("api.tls_key", &key)] {
        if let Some(path) = path {
            not_empty(name, path)?;
            if listen.is_none() {
                return Err(KeyError::new(name, "needs api.listen: TLS is used only on TCP"));
            }
        }
    }
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(KeyError::new("api.tls_cert", "needs api.tls_key, the certificate's private key")),
        (None, Some(_)) => Err(KeyError::new("api.tls_key", "needs api.tls_cert, the key's certificate")),
    }
}

/// Returns the warning of a private key that others can read.
fn readable_key_warning(TlsFiles { key, .. }: &TlsFiles) -> Option<Warning> {
    secret_file::is_world_readable(key).then(|| {
        let text = format!("api.tls_key names {}, which every user of this machine can read", key.display());
        Warning::new(text, secret_file::SECRET_FILE_ADVICE)
    })
}

/// Returns what is wrong with an address that is served over plain HTTP, if other machines can reach it. The text
/// follows the key.
fn exposure_without_tls(address: SocketAddr) -> Option<Warning> {
    let text = format!(
        "is {address}, which other machines can reach, and api.tls_cert is not set: secrets, tokens and files are sent \
         unencrypted"
    );
    let advice = "set api.tls_cert and api.tls_key, or listen on a loopback address behind a proxy with TLS";
    (!address.ip().is_loopback()).then(|| Warning::new(text, advice))
}
