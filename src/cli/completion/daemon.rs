//! Questions of the completion to the daemon: jobs and instances, within a short time and without starting it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Builder;

use crate::api::dto::InstanceStatus;
use crate::api::dto::JobDto;
use crate::cli::global::default_socket;
use crate::client::{Client, ClientError, DEFAULT_SOCKET, JobQuery};

/// The longest time that a user waits for a daemon that hangs. One that is well answers in a few milliseconds.
const MAX_WAIT: Duration = Duration::from_millis(400);

/// How many jobs are shown, the newest first.
const MAX_JOBS: u32 = 100;

/// Present where systemd listens at the default socket.
const SOCKET_UNIT: &str = "/etc/systemd/system/sockets.target.wants/marqueue.socket";

/// Present while the packaged service runs: its control group, in both layouts.
const SERVICE_GROUPS: [&str; 2] =
    ["/sys/fs/cgroup/system.slice/marqueue.service", "/sys/fs/cgroup/systemd/system.slice/marqueue.service"];

/// Returns the socket that the command line names, or else that of the environment or the default one.
pub fn socket_of(words: &[OsString]) -> PathBuf {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if text == "--socket" {
            return words.next().map_or_else(default_socket, PathBuf::from);
        }
        if let Some(path) = text.strip_prefix("--socket=") {
            return path.into();
        }
    }
    default_socket()
}

/// Returns the newest jobs; none if the daemon does not answer in time.
pub fn jobs(socket: &Path) -> Vec<JobDto> {
    ask(socket, async |client| client.list(&JobQuery { limit: Some(MAX_JOBS), ..JobQuery::default() }).await)
        .map(|page| page.jobs)
        .unwrap_or_default()
}

/// Returns the instances by name; none if the daemon does not answer in time.
pub fn instances(socket: &Path) -> BTreeMap<String, InstanceStatus> {
    ask(socket, async |client| client.status().await).map(|status| status.instances).unwrap_or_default()
}

fn ask<T>(socket: &Path, question: impl AsyncFnOnce(&Client) -> Result<T, ClientError>) -> Option<T> {
    if would_start_service(socket, |path| path.exists()) {
        return None;
    }
    let client = Client::new(socket, MAX_WAIT).ok()?;
    let runtime = Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async { tokio::time::timeout(MAX_WAIT, question(&client)).await }).ok()?.ok()
}

/// Returns whether a connection would make systemd start the service.
fn would_start_service(socket: &Path, exists: impl Fn(&Path) -> bool) -> bool {
    socket == Path::new(DEFAULT_SOCKET)
        && exists(Path::new(SOCKET_UNIT))
        && !SERVICE_GROUPS.iter().any(|group| exists(Path::new(group)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_read_from_the_command_line() {
        for line in ["marqueue --socket /s show ", "marqueue show --socket=/s ", "marqueue show 1 --socket /s"] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(socket_of(&words), Path::new("/s"), "{line}");
        }
        assert_eq!(socket_of(&["marqueue".into()]), default_socket());
    }

    #[test]
    fn a_stopped_service_is_not_started() {
        let default = Path::new(DEFAULT_SOCKET);
        let enabled = |path: &Path| path == Path::new(SOCKET_UNIT);
        assert!(would_start_service(default, enabled));
        assert!(!would_start_service(Path::new("/tmp/m.sock"), enabled));
        assert!(!would_start_service(default, |_| false));
        assert!(SERVICE_GROUPS.iter().all(|group| {
            !would_start_service(default, |path| path == Path::new(SOCKET_UNIT) || path == Path::new(group))
        }));
    }
}
