//! Connection limits, reduced to the file descriptors that the process may open.

use crate::config::{Config, Connections};
use crate::http_server::max_connections;

/// File descriptors that are open without any connection: the database, its readers and its log, the socket, the drop
/// folder, the runtime's own.
const OWN_FILES: u32 = 64;

/// Returns the connection limits, reduced to the file descriptors that are available. Descriptors for the database and
/// for calls to Marketo are reserved. Raises the process's soft limit on open files as far as permitted.
///
/// # Errors
/// Not even one connection is possible; the text names the limit to raise.
pub fn connections(config: &Config) -> anyhow::Result<Connections> {
    let calls = config.instances.values().map(|instance| instance.limits.concurrent_calls + 2);
    let wanted = config.api.connections;
    let most = max_connections(wanted.max, OWN_FILES + calls.sum::<u32>())?;
    if most < wanted.max {
        tracing::warn!(
            "api.max_connections is {}, and this process may not open that many files: {most} connections are \
            taken at once; raise its limit on open files (ulimit -n, LimitNOFILE)",
            wanted.max
        );
    }
    Ok(Connections { max: most, ..wanted })
}
