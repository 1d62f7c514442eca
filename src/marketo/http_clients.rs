//! HTTP clients for calls to Marketo, shared by all instances whose calls need the same settings.
//!
//! Building a client reads all root certificates of the machine, and the client keeps them: with one client for each
//! instance a thousand instances took seconds at the start and 200 MB.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::HeaderMap;

use crate::config;
use crate::error_chain::reason;
use crate::marketo::daemon_id::{DAEMON_HEADER, daemon_id};
use crate::marketo::outbound::client_for;

/// The timeout of connecting, where the timeout of the call is longer.
const MAX_CONNECT_TIME: Duration = Duration::from_secs(30);

/// In what the clients differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ClientSettings {
    /// Such a client uses no proxy; see [`client_for`].
    is_loopback: bool,
    timeout: Duration,
}

static CLIENTS: LazyLock<Mutex<HashMap<ClientSettings, reqwest::Client>>> = LazyLock::new(Mutex::default);

/// Returns the client for calls to `url`, each of which takes at most `timeout`.
///
/// # Errors
/// The reason as text, when TLS cannot be set up (for example without root certificates on the machine).
pub(super) fn http_client(url: &str, timeout: Duration) -> Result<reqwest::Client, String> {
    let settings = ClientSettings { is_loopback: config::is_loopback(url), timeout };
    let mut clients = CLIENTS.lock();
    if let Some(client) = clients.get(&settings) {
        return Ok(client.clone());
    }
    let client = client_for(url)
        .default_headers(HeaderMap::from_iter([(DAEMON_HEADER, daemon_id().clone())]))
        .timeout(timeout)
        .connect_timeout(timeout.min(MAX_CONNECT_TIME))
        // Marketo closes the connection after each response. A pooled connection could be closed during an upload, whose
        // outcome would then be unknown.
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|error| {
            format!("{}: TLS needs this machine's root certificates (package ca-certificates)", reason(&error))
        })?;
    clients.insert(settings, client.clone());
    Ok(client)
}
