//! Check of the daemon: its state where one answers, and whether one could listen where none does.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use crate::api::dto::{InstanceStatus, Status};
use crate::cli::doctor::disk;
use crate::cli::doctor::finding::Finding;
use crate::cli::global::GlobalArgs;
use crate::cli::render::time::to_the_second;
use crate::client::{Client, ClientError};
use crate::config::Config;
use crate::daemon::connections;
use crate::disk::parent_folder;

const SOCKET: &str = "socket";
const DAEMON: &str = "daemon";

/// Default timeout, much longer than a working daemon needs.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Checks the daemon and its socket.
pub async fn check_daemon(config: &Config, global: &GlobalArgs) -> Vec<Finding> {
    let socket = config.api.socket.as_path();
    let asked = match client(config, global) {
        Ok(client) => client.status().await,
        Err(error) => Err(error),
    };
    let mut findings = match asked {
        Ok(status) => running(config, &status),
        Err(ClientError::NoDaemon { .. }) => not_running(socket),
        Err(error @ ClientError::NotAllowed { .. }) => {
            let advice = "ask as the service does (sudo marqueue-service doctor), or become a member of its group";
            vec![Finding::error(SOCKET, error.to_string().replace(": its", "; its"), advice)]
        }
        Err(ClientError::Silent { reason: why, .. }) => {
            let detail = format!("something listens at {} and does not answer ({why})", socket.display());
            vec![Finding::error(DAEMON, detail, "read its log, and restart it")]
        }
        Err(error) => {
            let detail = format!("the process that listens at {} is no marqueue ({error})", socket.display());
            vec![Finding::error(SOCKET, detail, FOREIGN)]
        }
    };
    if config.api.socket_mode & 0o002 != 0 {
        let detail =
            format!("api.socket_mode {:04o} lets every user of this machine use the daemon", config.api.socket_mode);
        findings.push(Finding::warning(SOCKET, detail, "\"0660\" leaves it to the service's user and group"));
    }
    let usual = global.socket();
    if usual != config.api.socket {
        let detail = format!("the other commands use {}, but this daemon is at {}", usual.display(), socket.display());
        findings.push(Finding::warning(SOCKET, detail, format!("export MARQUEUE_SOCKET={}", socket.display())));
    }
    findings.push(descriptors(config));
    findings
}

/// Returns a client for the daemon of this configuration.
///
/// # Errors
/// The socket's path is too long.
pub fn client(config: &Config, global: &GlobalArgs) -> Result<Client, ClientError> {
    Client::new(&config.api.socket, global.timeout.unwrap_or(TIMEOUT))
}

const FOREIGN: &str = "see what it is (ss -xlp), and stop it or choose another api.socket";

/// Returns the findings about a daemon that answers.
fn running(config: &Config, status: &Status) -> Vec<Finding> {
    let shown = config.api.socket.display();
    let ours = env!("CARGO_PKG_VERSION");
    let version = &status.version;
    let mut findings = vec![if version == ours {
        let since = to_the_second(status.started_at);
        Finding::ok(DAEMON, format!("marqueue {version} answers at {shown}, since {since}"))
    } else {
        let detail = format!("marqueue {version} answers at {shown}, and this program is {ours}");
        Finding::warning(DAEMON, detail, "start the service again (systemctl restart marqueue)")
    }];
    let mode = fs::metadata(&config.api.socket).map(|file| file.permissions().mode() & 0o777);
    if let Ok(mode) = mode
        && mode != config.api.socket_mode
    {
        let detail =
            format!("{shown} has the rights {mode:04o}, and api.socket_mode is {:04o}", config.api.socket_mode);
        let advice = "where systemd listens its SocketMode= counts, else the next start sets them";
        findings.push(Finding::warning(SOCKET, detail, advice));
    } else {
        findings.push(Finding::ok(SOCKET, format!("{shown} has the rights of api.socket_mode")));
    }
    for name in config.instances.keys().filter(|name| !status.instances.contains_key(*name)) {
        let detail = format!("the daemon does not know instance {name}, which is in the configuration");
        findings.push(Finding::warning(DAEMON, detail, "start it again, so that it reads the configuration anew"));
    }
    findings.extend(status.instances.iter().filter_map(|(name, status)| uploads(name, status)));
    findings
}

/// Returns a finding if the uploads of an instance are stopped.
fn uploads(name: &str, status: &InstanceStatus) -> Option<Finding> {
    let check = format!("uploads of {name}");
    if let Some(pause) = &status.pause {
        let until = pause.until.map(|until| format!(", until {}", to_the_second(until))).unwrap_or_default();
        let detail = format!("they are paused since {}{until}: {}", to_the_second(pause.at), pause.reason);
        return Some(Finding::warning(check, detail, format!("when the reason is gone, marqueue resume {name}")));
    }
    if let Some(until) = status.quiet_until {
        let detail = format!("Marketo does not answer, and is tried again at {}", to_the_second(until));
        return Some(Finding::warning(check, detail, "see what the daemon's log says of it"));
    }
    if !status.queue.held.is_empty() {
        let jobs: Vec<String> = status.queue.held.iter().map(ToString::to_string).collect();
        let detail = format!("jobs wait for an operator: {}", jobs.join(", "));
        return Some(Finding::warning(check, detail, "marqueue explain ID shows what to decide"));
    }
    None
}

/// Returns the findings if no daemon answers.
fn not_running(socket: &Path) -> Vec<Finding> {
    let shown = socket.display();
    match fs::symlink_metadata(socket) {
        Ok(there) if !there.file_type().is_socket() => {
            let advice = "move it away, or choose another api.socket";
            return vec![Finding::error(SOCKET, format!("{shown} exists and is no socket"), advice)];
        }
        _ => {}
    }
    let folder = parent_folder(socket);
    let missing = fs::metadata(folder).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    let socket_finding = if missing && folder.starts_with("/run") {
        let advice = format!("systemd makes it with the service; without systemd, mkdir {}", folder.display());
        Finding::warning(SOCKET, format!("the folder {} is not there", folder.display()), advice)
    } else {
        disk::check_folder_access(SOCKET, folder)
            .unwrap_or_else(|| Finding::ok(SOCKET, format!("a daemon can listen at {shown}")))
    };
    let advice = "start one (systemctl start marqueue, or marqueue serve)";
    vec![socket_finding, Finding::warning(DAEMON, format!("no daemon answers at {shown}"), advice)]
}

/// Checks the current user's limit on open files. A service may have another limit.
fn descriptors(config: &Config) -> Finding {
    const CHECK: &str = "open files";
    const ADVICE: &str =
        "raise the service's limit on open files (LimitNOFILE, ulimit -n), or lower api.max_connections";
    let wanted = config.api.connections.max;
    match connections(config) {
        Ok(possible) if possible.max < wanted => {
            let most = possible.max;
            let detail = format!("api.max_connections is {wanted}, and this user's limit on open files allows {most}");
            Finding::warning(CHECK, detail, ADVICE)
        }
        Ok(_) => Finding::ok(CHECK, format!("this user's limit on open files allows {wanted} connections")),
        Err(_) => Finding::error(CHECK, "this user's limit on open files allows no connections", ADVICE),
    }
}
