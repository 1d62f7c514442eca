//! Configuration of the listeners: the Unix socket, TCP with TLS, their limits and their clients.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// The listeners and their clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Path of the Unix socket. At most 107 bytes, the size of its address.
    pub socket: PathBuf,
    /// Permission bits, at most `0o777`.
    pub socket_mode: u32,
    /// Address of the TCP listener; none without it. Never set while `clients` is empty.
    pub listen: Option<SocketAddr>,
    /// TLS for the TCP listener; plain HTTP without it. Never set without `listen`.
    pub tls: Option<TlsFiles>,
    /// Maximum size of one submitted file, in bytes.
    pub max_file_bytes: u64,
    /// Limits of connections.
    pub connections: Connections,
    /// Whether the Marketo-compatible API takes a token as query or form parameter too.
    pub legacy_tokens: bool,
    /// The page for browsers.
    pub page: Page,
    /// Who may use the TCP listener. No two have the same id.
    pub clients: Vec<ApiClient>,
}

/// The page for browsers, and the names under which browsers may reach the listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Whether the page is served. Its key is `ui`.
    pub is_served: bool,
    /// Path before all addresses where a reverse proxy adds one, such as `/marqueue`; otherwise empty. It begins with `/`
    /// and does not end with one. Its key is `ui_prefix`.
    pub prefix: String,
    /// Further names under which browsers may reach the listeners.
    pub hosts: Vec<HostName>,
}

/// A name of this host, as browsers use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName {
    /// In lower case, without a dot at its end.
    pub name: String,
    /// The only port with this name; all without it.
    pub port: Option<u16>,
}

/// Limits of client connections, over all listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Maximum of open connections, of all listeners together; at least 1. Its key is `max_connections`.
    pub max: u32,
    /// Maximum time from the opening of a connection, or its last response, to the end of the next request's head; at
    /// least 10 ms.
    pub idle_timeout: Duration,
    /// Maximum time to wait for the next bytes of a request body, or for a client to read its response; at least 10 ms.
    pub stall_timeout: Duration,
}

/// A client of the TCP listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiClient {
    /// Its name.
    pub client_id: String,
    /// Its password.
    pub client_secret: Secret,
    /// The instances that it may use, each of them configured; all without it.
    pub instances: Option<Vec<String>>,
    /// The instance of a request whose address names none.
    pub instance: String,
    /// What it may do.
    pub access: ClientAccess,
}

/// What a client may do with its jobs and its instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAccess {
    /// See and change them.
    #[default]
    Write,
    /// See them.
    Read,
}

/// PEM files, which are read at the start and at each reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate with its chain, without the root.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}
