//! Protocol with systemd: socket activation, readiness, reload, stop and watchdog notifications.
//!
//! Without systemd none of these functions has an effect.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::scheduler::InstanceScheduler;
use crate::store::Store;

/// The socket that systemd listens on for us (`marqueue.socket`), where there is one. `path` is where clients look.
///
/// # Errors
/// Where systemd hands over more than that one, or something else.
pub fn socket(path: &Path) -> anyhow::Result<Option<UnixListener>> {
    let mut handed = ListenFd::from_env();
    if handed.len() > 1 {
        anyhow::bail!(
            "systemd hands over {} sockets, and one Unix socket is expected: see marqueue.socket",
            handed.len()
        );
    }
    let listener = handed.take_unix_listener(0).context("what systemd hands over is no listening Unix socket")?;
    let found = listener.as_ref().and_then(|listener| listener.local_addr().ok());
    if let Some(found) = found.as_ref().and_then(|address| address.as_pathname()).filter(|&found| found != path) {
        tracing::warn!(systemd = %found.display(), configuration = %path.display(),
            "systemd's socket is not at api.socket, where clients on this machine look for it");
    }
    Ok(listener)
}

/// Clients are answered, or the new configuration is in force.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// A reload has begun. [`ready`] ends it.
pub fn reloading() {
    // systemd compares it with when it asked.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "there is no monotonic clock"),
    }
}

pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// How long systemd waits for a sign of life before it starts the daemon anew; none if it does not watch.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Gives a sign of life twice in each `patience`, as long as each lane looks at its rows and the store answers. An
/// answer is also that the disk is full or the database gone: a new start would make no room, and lose the last copy.
pub async fn watchdog_loop(patience: Duration, lanes: Vec<InstanceScheduler>, store: Store) {
    loop {
        for lane in &lanes {
            lane.tick().await;
        }
        // The next write finds out for itself what is wrong, and says it.
        let _ = store.can_write().await;
        notify(&[NotifyState::Watchdog]);
        tokio::time::sleep(patience / 2).await;
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd can't be told how the daemon is");
    }
}
