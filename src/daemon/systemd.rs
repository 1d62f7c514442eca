//! Protocol with systemd: socket activation, readiness, reload, stop and watchdog notifications.
//!
//! Without systemd none of these functions has an effect.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use futures_util::{StreamExt, stream};
use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::scheduler::InstanceScheduler;
use crate::store::Store;

/// How many schedulers the watchdog awaits at a time.
const MAX_CONCURRENT_TICKS: usize = 16;

/// Returns the listening socket that systemd passes (`marqueue.socket`), if any. `path` is the configured address.
///
/// # Errors
/// systemd passes more than one socket, or something that is no listening Unix socket.
pub fn socket(path: &Path) -> anyhow::Result<Option<UnixListener>> {
    let mut sockets = ListenFd::from_env();
    if sockets.len() > 1 {
        anyhow::bail!("systemd passes {} sockets, but one Unix socket is expected: see marqueue.socket", sockets.len());
    }
    let listener =
        sockets.take_unix_listener(0).context("the file descriptor that systemd passes is no listening Unix socket")?;
    let found = listener.as_ref().and_then(|listener| listener.local_addr().ok());
    if let Some(found) = found.as_ref().and_then(|address| address.as_pathname()).filter(|&found| found != path) {
        tracing::warn!(systemd = %found.display(), configuration = %path.display(),
            "systemd's socket is not at api.socket, the path that local clients use");
    }
    Ok(listener)
}

/// Reports that the daemon serves clients, or that a reload has ended.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Reports that a reload has begun. [`ready`] ends it.
pub fn reloading() {
    // systemd compares this time with the time of its request.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the monotonic clock can't be read"),
    }
}

/// Reports that the daemon stops.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Returns the watchdog timeout, after which systemd restarts the daemon; none if the watchdog is off.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Notifies systemd's watchdog twice in each `timeout`, as long as each scheduler completes a tick and the store
/// answers. A full disk or a deleted database file is an answer too: a restart would free no space, and would lose the
/// last copy.
pub async fn watchdog_loop(timeout: Duration, schedulers: Vec<InstanceScheduler>, store: Store) {
    loop {
        // A tick waits for the plan under way and the one after it. One after the other, those of a thousand instances
        // would take longer than the timeout.
        stream::iter(&schedulers).for_each_concurrent(MAX_CONCURRENT_TICKS, InstanceScheduler::tick).await;
        // The error is ignored here: the next write meets it too, and reports it.
        let _ = store.can_write().await;
        notify(&[NotifyState::Watchdog]);
        tokio::time::sleep(timeout / 2).await;
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the state can't be reported to systemd");
    }
}
